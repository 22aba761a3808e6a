"""Convert between bfloat16, which numpy does not have, and float32, which holds all its values.

The arrays of inputs and outputs of that type are float32 everywhere in latbench; backends convert
them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]


def to_bfloat16(array: Array) -> Array:
    """Bits (uint16) of the nearest bfloat16 values of a float32 array, ties to even."""
    import numpy as np

    bits = np.asarray(array, dtype=np.float32, order="C").view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    # Rounding the bits of a NaN may give an infinity.
    return np.where(np.isnan(array), np.uint16(0x7FC0), rounded.astype(np.uint16))


def from_bfloat16(bits: Array) -> Array:
    """The float32 array whose bfloat16 bits (uint16) are ``bits``."""
    import numpy as np

    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
