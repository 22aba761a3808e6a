"""Generate inputs that any program in any language can reproduce bit for bit.

Element ``i`` of input ``k`` comes from SplitMix64 (Steele, Lea & Flood 2014, OOPSLA) applied to the
counter ``seed * 2**32 + k * 2**56 + i`` (modulo 2**64), so that a runner on a phone needs no file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from latbench.errors import UsageError
from latbench.schema.artifact import TensorSpec
from latbench.schema.input_content import (
    STORED,
    STRING,
    Noise,
    Uniform,
    Values,
    Words,
    read_content,
)

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]


def make_inputs(
    specs: Sequence[TensorSpec], seed: int, stored: Mapping[str, Array] | None = None
) -> tuple[Array, ...]:
    """Generate arrays for ``specs``.

    Without a content, floats are uniform on [-sqrt 3, sqrt 3): zero mean and unit variance, as a
    normalized image has. Integers and booleans are 0 or 1, which is a valid index into any axis
    longer than one. ``stored`` holds the arrays of inputs that come from files, by name.

    Raises :class:`UsageError` for a content that does not fit shape or type.
    """
    return tuple(_make(spec, seed, k, stored or {}) for k, spec in enumerate(specs))


def _make(spec: TensorSpec, seed: int, k: int, stored: Mapping[str, Array]) -> Array:
    if spec.dtype == STRING:
        return _strings(spec, stored)
    if spec.content is None:
        return _noise(spec, seed, k)
    if spec.content.startswith(STORED):
        if spec.name not in stored:
            raise UsageError(f"the array of input {spec.name!r} is missing: {spec.content}")
        return stored[spec.name]
    match read_content(spec.content):
        case Noise(seed=own):
            return _noise(spec, own, k)
        case Uniform(low=low, high=high):
            return _uniform(spec, low, high, _bits(spec, seed, k))
        case Values(texts=texts):
            return _values(spec, texts)
        case _:
            raise UsageError(f"input {spec.name!r} cannot hold {spec.content!r}")


def _strings(spec: TensorSpec, stored: Mapping[str, Array]) -> Array:
    import numpy as np

    if spec.name in stored:
        return stored[spec.name]
    content = read_content(spec.content) if spec.content else None
    if not isinstance(content, Words):
        given = f"not {spec.content}" if spec.content else "and none is given"
        raise UsageError(
            f"input {spec.name!r} holds strings, {given}",
            hint=f"--input '{spec.name}=text:a sentence', or a .npy file of strings",
        )
    return np.full(spec.shape, content.text)


def _bits(spec: TensorSpec, seed: int, k: int) -> Array:
    import numpy as np

    size = int(np.prod(spec.shape, dtype=np.int64))
    start = (seed * 2**32 + k * 2**56) % 2**64
    with np.errstate(over="ignore"):
        z = (np.arange(size, dtype=np.uint64) + np.uint64(start)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return z


def _unit(bits: Array) -> Array:
    """Uniform 32-bit floats on [0, 1)."""
    import numpy as np

    unit: Array = (bits >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)
    return unit


def _noise(spec: TensorSpec, seed: int, k: int) -> Array:
    import numpy as np

    z, dtype = _bits(spec, seed, k), np.dtype(spec.dtype)
    if dtype.kind == "f":
        flat = ((_unit(z) * 2 - 1) * np.float32(3.0**0.5)).astype(dtype)
    else:
        flat = (z >> np.uint64(63)).astype(dtype)
    return flat.reshape(spec.shape)


def _uniform(spec: TensorSpec, low: str, high: str, z: Array) -> Array:
    import numpy as np

    ends = _values(spec, (low,), shape=(1,))[0], _values(spec, (high,), shape=(1,))[0]
    if np.dtype(spec.dtype).kind == "f":
        span = np.float32(ends[1]) - np.float32(ends[0])
        return (_unit(z) * span + np.float32(ends[0])).astype(spec.dtype).reshape(spec.shape)
    count = int(ends[1]) - int(ends[0]) + 1
    offset = z % np.uint64(count) if count < 2**64 else z
    # Wraps around as two's complement, which is what the sum of a negative number needs.
    flat = offset + np.uint64(int(ends[0]) % 2**64)
    return flat.view(np.int64).astype(spec.dtype).reshape(spec.shape)


def _values(spec: TensorSpec, texts: Sequence[str], shape: tuple[int, ...] | None = None) -> Array:
    """Given values in the type of the input, each checked for its range."""
    import numpy as np

    shape = spec.shape if shape is None else shape
    dtype = np.dtype(spec.dtype)
    size = int(np.prod(shape, dtype=np.int64))
    if len(texts) not in (1, size):
        raise UsageError(
            f"input {spec.name!r} has {size} elements, but {len(texts)} values are given",
            hint="give one value for all elements, or one for each",
        )
    found = [_number(spec, text, dtype) for text in texts]
    return np.broadcast_to(np.array(found, dtype=dtype), (size,)).reshape(shape).copy()


def _number(spec: TensorSpec, text: str, dtype: np.dtype[Any]) -> float | int | bool:
    import numpy as np

    value = float(text)
    if dtype.kind not in "biu":
        # bfloat16 has the range of float32, and numpy knows neither its kind nor its limits.
        limit = float(np.finfo(dtype if dtype.kind == "f" else np.float32).max)
        if abs(value) > limit:
            raise _beyond(spec, text, f"-{limit:g} to {limit:g}")
        return value
    whole = int(text) if text.lstrip("+-").isdecimal() else value
    if whole != int(whole):
        raise UsageError(f"input {spec.name!r} holds whole numbers ({spec.dtype}), not {text}")
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    if not low <= whole <= high:
        raise _beyond(spec, text, f"{low} to {high}")
    return int(whole)


def _beyond(spec: TensorSpec, text: str, limits: str) -> UsageError:
    return UsageError(
        f"{text} is out of range for input {spec.name!r} of type {spec.dtype}",
        hint=f"{spec.dtype} holds {limits}",
    )
