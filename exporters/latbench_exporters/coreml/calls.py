"""Interface between the MIL interpreter and its kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch


class Call(Protocol):
    """One operation together with the values of its inputs."""

    def tensor(self, name: str) -> torch.Tensor:
        """A required input, as a tensor."""
        ...

    def maybe(self, name: str) -> torch.Tensor | None:
        """An optional input, as a tensor or ``None``."""
        ...

    def tensors(self, name: str) -> list[torch.Tensor]:
        """An input that is a list of tensors."""
        ...

    def value(self, name: str, default: Any = None) -> Any:
        """An input as plain Python (number, string, list of numbers); ``default`` if absent."""
        ...


Kernel = Callable[[Call], "torch.Tensor | Sequence[torch.Tensor]"]
