"""The attention of Swin: in windows, which are shifted by turns.

Source: Z. Liu, Y. Lin, Y. Cao, H. Hu, Y. Wei, Z. Zhang, S. Lin, B. Guo, *Swin Transformer:
Hierarchical Vision Transformer using Shifted Windows*, ICCV 2021, arXiv 2103.14030.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from latbench.zoo.nets.tokens import join, split

WINDOW = 7
HEAD_WIDTH = 32


class WindowAttention(nn.Module):
    """Softmax attention inside of windows of 7x7, by turns ``shifted`` by 3.

    (N, L, c) -> (N, L, c), for a square map of L tokens.
    """

    bias_index: Tensor
    mask: Tensor

    def __init__(self, width: int, side: int, *, shifted: bool) -> None:
        super().__init__()
        self.side = side
        self.shift = WINDOW // 2 if shifted and side > WINDOW else 0
        self.bias = nn.Parameter(torch.empty((2 * WINDOW - 1) ** 2, width // HEAD_WIDTH))
        nn.init.trunc_normal_(self.bias, std=0.02)
        self.register_buffer("bias_index", relative_positions(), persistent=False)
        self.register_buffer("mask", across(side, self.shift), persistent=False)
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        if self.shift:
            x = self.rolled(x, -self.shift)
        x = self.attend(split(x, self.side, WINDOW, WINDOW))
        x = join(x, self.side, WINDOW, WINDOW)
        return self.rolled(x, self.shift) if self.shift else x

    def rolled(self, x: Tensor, shift: int) -> Tensor:
        """(N, L, c) -> the same, down and right by ``shift``, cyclically."""
        x = x.unflatten(1, (self.side, self.side)).roll((shift, shift), (1, 2)).flatten(1, 2)
        return x

    def attend(self, x: Tensor) -> Tensor:
        """(N, windows, 49, c) -> (N, windows, 49, c)."""
        query, key, value = (
            part.unflatten(3, (-1, HEAD_WIDTH)).transpose(2, 3)
            for part in self.qkv(x).chunk(3, dim=-1)
        )
        scores = (query * HEAD_WIDTH**-0.5) @ key.transpose(3, 4)
        bias = self.bias[self.bias_index].unflatten(0, (WINDOW**2, WINDOW**2)).permute(2, 0, 1)
        scores = scores + bias
        if self.shift:
            scores = scores + self.mask.unsqueeze(1)
        mixed = scores.softmax(dim=-1) @ value
        out: Tensor = self.project(mixed.transpose(2, 3).flatten(3))
        return out


def relative_positions() -> Tensor:
    """Row of the bias table for each pair of pixels of a window. -> (49 * 49,)."""
    row, column = torch.arange(WINDOW**2) // WINDOW, torch.arange(WINDOW**2) % WINDOW
    rows = row[:, None] - row[None, :] + WINDOW - 1
    columns = column[:, None] - column[None, :] + WINDOW - 1
    return (rows * (2 * WINDOW - 1) + columns).flatten()


def across(side: int, shift: int) -> Tensor:
    """-100 where two pixels of a shifted window were no neighbours. -> (windows, 49, 49)."""
    line = torch.arange(side)
    part = (line >= side - WINDOW).long() + (line >= side - shift).long()
    region = (3 * part[:, None] + part[None, :]).unflatten(1, (-1, WINDOW))
    windows = region.unflatten(0, (-1, WINDOW)).transpose(1, 2).flatten(2).flatten(0, 1)
    return torch.where(windows[:, None, :] == windows[:, :, None], 0.0, -100.0)
