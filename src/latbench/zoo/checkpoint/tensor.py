"""A tensor that a file holds, known before its elements are read."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

ITEM_BYTES = {
    **dict.fromkeys(("float64", "int64", "uint64", "complex64"), 8),
    **dict.fromkeys(("float32", "int32", "uint32"), 4),
    **dict.fromkeys(("float16", "bfloat16", "int16", "uint16"), 2),
    **dict.fromkeys(("int8", "uint8", "bool"), 1),
    **dict.fromkeys(("float8_e4m3fn", "float8_e5m2"), 1),
    "complex128": 16,
}
"""Element types that are read, by torch's names, and the bytes of an element."""


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredTensor:
    """A tensor in a file."""

    dtype: str
    """A key of :data:`ITEM_BYTES`."""
    shape: tuple[int, ...]
    place: object
    """Where its elements are: equal for names of one and the same tensor."""
    load: Callable[[], torch.Tensor]
    """Read the elements, on the CPU. Raises what the reader of the file raises."""

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Bytes of the elements."""
        return self.elements * ITEM_BYTES[self.dtype]

    @property
    def is_floating_point(self) -> bool:
        """Whether it holds real numbers of any width."""
        return "float" in self.dtype

    def __str__(self) -> str:
        return f"{'x'.join(map(str, self.shape)) or 'scalar'} {self.dtype}"
