"""What the kernels of MIL operations are given and give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch


class Call(Protocol):
    """One operation with the values of its inputs."""

    def tensor(self, name: str) -> torch.Tensor:
        """An input that must be there."""
        ...

    def maybe(self, name: str) -> torch.Tensor | None:
        """An optional input."""
        ...

    def tensors(self, name: str) -> list[torch.Tensor]:
        """An input that is a list of tensors."""
        ...

    def value(self, name: str, default: Any = None) -> Any:
        """An input as plain Python: a number, a string, a list of numbers."""
        ...


Kernel = Callable[[Call], "torch.Tensor | Sequence[torch.Tensor]"]
