"""Generate seeded inputs that any program in any language can reproduce bit for bit.

Element ``i`` of input ``k`` comes from SplitMix64 (Steele, Lea & Flood 2014, OOPSLA) applied to the
counter ``seed * 2**32 + k * 2**56 + i`` (modulo 2**64), so that a runner on a phone needs no file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from latbench.schema.artifact import TensorSpec

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]


def make_inputs(specs: Sequence[TensorSpec], seed: int) -> tuple[Array, ...]:
    """Generate arrays for ``specs``.

    Floats are uniform on [-sqrt 3, sqrt 3): zero mean and unit variance, as a normalized image has.
    Integers and booleans are 0 or 1, which is a valid index into any axis longer than one.
    """
    return tuple(_make(spec, seed, k) for k, spec in enumerate(specs))


def _make(spec: TensorSpec, seed: int, k: int) -> Array:
    import numpy as np

    size = int(np.prod(spec.shape, dtype=np.int64))
    start = (seed * 2**32 + k * 2**56) % 2**64
    with np.errstate(over="ignore"):
        z = (np.arange(size, dtype=np.uint64) + np.uint64(start)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    dtype = np.dtype(spec.dtype)
    if dtype.kind == "f":
        unit = (z >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)
        flat = ((unit * 2 - 1) * np.float32(3.0**0.5)).astype(dtype)
    else:
        flat = (z >> np.uint64(63)).astype(dtype)
    return flat.reshape(spec.shape)
