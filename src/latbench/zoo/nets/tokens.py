"""What networks of tokens have in common: windows of a square map, and dropped branches."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DropPath(nn.Module):
    """Stochastic depth: in training, drops a branch for whole images. (N, ...) -> (N, ...)."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.probability == 0:
            return x
        kept = 1 - self.probability
        mask = torch.rand(len(x), *[1] * (x.ndim - 1), device=x.device, dtype=x.dtype) < kept
        return x * mask / kept


def split(x: Tensor, side: int, rows: int, columns: int) -> Tensor:
    """(N, side * side, c) -> (N, windows, rows * columns, c)."""
    x = x.unflatten(1, (side // rows, rows, side // columns, columns))
    x = x.transpose(2, 3).flatten(3, 4).flatten(1, 2)
    return x


def join(x: Tensor, side: int, rows: int, columns: int) -> Tensor:
    """(N, windows, rows * columns, c) -> (N, side * side, c)."""
    x = x.unflatten(2, (rows, columns)).unflatten(1, (side // rows, side // columns))
    x = x.transpose(2, 3).flatten(1, 4)
    return x
