"""CSWin, attention in stripes as long as the image: half of the heads in rows, half in columns.

Source: X. Dong, J. Bao, D. Chen, W. Zhang, N. Yu, L. Yuan, D. Chen, B. Guo, *CSWin Transformer: A
General Vision Transformer Backbone with Cross-Shaped Windows*, CVPR 2022, arXiv 2107.00652.
Stripes, and the convolution that tells positions, end at each other's edges.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from latbench.zoo.nets.mobilevig import CLASSES
from latbench.zoo.nets.tokens import DropPath, join, split

EXPANSION = 4
STRIPES = (1, 2, 7, 7)
"""Width of a stripe in each stage."""


class StripeAttention(nn.Module):
    """Attention in windows of ``rows`` by ``columns``; a depthwise 3x3 of the values is added.

    Query, key and value (N, side * side, c) each -> (N, side * side, c).
    """

    def __init__(self, width: int, heads: int, side: int, rows: int, columns: int) -> None:
        super().__init__()
        self.heads = heads
        self.side = side
        self.rows = rows
        self.columns = columns
        self.position = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        shape = (self.side, self.rows, self.columns)
        windows = split(value, *shape)
        images = windows.transpose(2, 3).unflatten(3, (self.rows, self.columns))
        near = self.position(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        query, key = self.by_head(split(query, *shape)), self.by_head(split(key, *shape))
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(3, 4)
        mixed = (scores.softmax(dim=-1) @ self.by_head(windows)).transpose(2, 3).flatten(3)
        return join(mixed + near.flatten(3).transpose(2, 3), *shape)

    def by_head(self, x: Tensor) -> Tensor:
        """(N, windows, pixels, c) -> (N, windows, heads, pixels, width of a head)."""
        x = x.unflatten(3, (self.heads, -1)).transpose(2, 3)
        return x


class Block(nn.Module):
    """(N, L, c) -> (N, L, c): attention, then a multilayer perceptron, each normed and added.

    With stripes as wide as the image there is one attention instead of two.
    """

    def __init__(self, width: int, heads: int, side: int, stripe: int, drop_path: float) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.attention_norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, width)
        shapes = [(side, side)] if stripe == side else [(side, stripe), (stripe, side)]
        parts = len(shapes)
        self.attentions = nn.ModuleList(
            [StripeAttention(width // parts, heads // parts, side, *shape) for shape in shapes]
        )
        self.expand = nn.Linear(width, EXPANSION * width)
        self.act = nn.GELU()
        self.narrow = nn.Linear(EXPANSION * width, width)
        self.ffn_norm = nn.LayerNorm(width)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        parts = len(self.attentions)
        shares = [part.chunk(parts, dim=2) for part in self.qkv(self.attention_norm(x)).chunk(3, 2)]
        mixed = [
            attention(*(share[i] for share in shares))
            for i, attention in enumerate(self.attentions)
        ]
        y = self.project(mixed[0] if parts == 1 else torch.cat(mixed, dim=2))
        x = x + self.drop_path(y)
        y = self.narrow(self.act(self.expand(self.ffn_norm(x))))
        out: Tensor = x + self.drop_path(y)
        return out


class Embedding(nn.Module):
    """(N, inputs, H, W) or (N, L, inputs) -> (N, L, width): convolution, LayerNorm by pixel."""

    def __init__(self, inputs: int, width: int, kernel: int, stride: int, padding: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, width, kernel, stride, padding)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 3:
            side = math.isqrt(x.shape[1])
            x = x.transpose(1, 2).unflatten(2, (side, side))
        y: Tensor = self.norm(self.conv(x).flatten(2).transpose(1, 2))
        return y


class CSWin(nn.Module):
    """(N, 3, 224, 224) -> (N, 1000) logits; four stages of ``depths``, the first ``width`` wide."""

    input_shape = (3, 224, 224)

    def __init__(
        self, *, width: int, depths: Sequence[int], heads: Sequence[int], drop_path: float
    ) -> None:
        super().__init__()
        drop = iter([drop_path * i / (sum(depths) - 1) for i in range(sum(depths))])
        side = self.input_shape[1] // 4
        blocks: list[nn.Module] = [Embedding(3, width, 7, 4, 2)]
        for stage, (depth, head, stripe) in enumerate(zip(depths, heads, STRIPES, strict=True)):
            if stage:
                blocks.append(Embedding(width, 2 * width, 3, 2, 1))
                width, side = 2 * width, side // 2
            blocks += [Block(width, head, side, stripe, next(drop)) for _ in range(depth)]
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(self.blocks(x)).mean(dim=1))
        return logits


def cswin_t() -> CSWin:
    """23 M parameters, 4.3 G as published (with attention)."""
    return CSWin(width=64, depths=(1, 2, 21, 1), heads=(2, 4, 8, 16), drop_path=0.2)


def cswin_s() -> CSWin:
    """35 M parameters, 6.9 G as published (with attention)."""
    return CSWin(width=64, depths=(2, 4, 32, 2), heads=(2, 4, 8, 16), drop_path=0.4)


def cswin_b() -> CSWin:
    """78 M parameters, 15.0 G as published (with attention)."""
    return CSWin(width=96, depths=(2, 4, 32, 2), heads=(4, 8, 16, 32), drop_path=0.5)
