"""L2ViT: by turns, softmax attention in windows and linear attention over the whole image.

Source: C. Zheng, *The Linear Attention Resurrection in Vision Transformer*, arXiv 2501.16182
(2025), and the author's release. Linear attention spreads over the image; two depthwise 7x7
convolutions after it concentrate. Positions come from depthwise 3x3 convolutions, so any square
image will do whose side is a multiple of 224: the windows of all stages divide it. Tensors are
(N, L, c).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from latbench.zoo.nets.mobilevig import CLASSES
from latbench.zoo.nets.tokens import DropPath, join, split

EXPANSION = 4
HEAD_WIDTH = 32
WINDOW = 7
LEAST = 100.0
"""Least divisor of the linear attention: the author found training to be steadier with it."""


class Maps(nn.Module):
    """(N, side * side, c) -> the same, by ``layers`` of (N, c, side, side)."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        side = math.isqrt(x.shape[1])
        maps = x.transpose(1, 2).unflatten(2, (side, side))
        out: Tensor = self.layers(maps).flatten(2).transpose(1, 2)
        return out


def depthwise(width: int, kernel: int) -> nn.Conv2d:
    """(N, width, H, W) -> the same."""
    return nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width)


class WindowAttention(nn.Module):
    """(N, side * side, c) -> the same, in windows of 7x7."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        side = math.isqrt(x.shape[1])
        windows = split(x, side, WINDOW, WINDOW)
        query, key, value = (
            part.unflatten(3, (-1, HEAD_WIDTH)).transpose(2, 3)
            for part in self.qkv(windows).chunk(3, dim=3)
        )
        scores = (query * HEAD_WIDTH**-0.5) @ key.transpose(3, 4)
        mixed = (scores.softmax(dim=-1) @ value).transpose(2, 3).flatten(3)
        return join(self.project(mixed), side, WINDOW, WINDOW)


class LinearAttention(nn.Module):
    """(N, L, c) -> the same, at a cost linear in L: keys meet values before queries."""

    def __init__(self, width: int) -> None:
        super().__init__()
        heads = width // HEAD_WIDTH
        self.temperature = nn.Parameter(torch.full((heads, 1, 1), HEAD_WIDTH**-0.5))
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            part.unflatten(2, (-1, HEAD_WIDTH)).transpose(1, 2)
            for part in self.qkv(x).chunk(3, dim=2)
        )
        query, key = functional.relu(query), functional.relu(key)
        total = (query @ key.sum(dim=2).unsqueeze(3)).clamp(min=LEAST)
        mixed = query @ ((key.transpose(2, 3) @ value) * self.temperature) / total
        out: Tensor = self.project(mixed.transpose(1, 2).flatten(2))
        return out


class FFN(nn.Sequential):
    """(N, L, width) -> the same."""

    def __init__(self, width: int) -> None:
        super().__init__(
            nn.Linear(width, EXPANSION * width), nn.GELU(), nn.Linear(EXPANSION * width, width)
        )


class Branch(nn.Module):
    """(N, L, c) -> the same: normed, through ``layer``, added."""

    def __init__(self, width: int, layer: nn.Module, drop_path: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.layer = layer
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.drop_path(self.layer(self.norm(x)))
        return out


class WindowBlock(nn.Module):
    """(N, side * side, c) -> the same: attention in windows, FFN, positions before each."""

    def __init__(self, width: int, drop_path: float) -> None:
        super().__init__()
        self.first_position = Maps(depthwise(width, 3))
        self.second_position = Maps(depthwise(width, 3))
        self.attention = Branch(width, WindowAttention(width), drop_path)
        self.ffn = Branch(width, FFN(width), drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = self.attention(x + self.first_position(x))
        out: Tensor = self.ffn(x + self.second_position(x))
        return out


class LinearBlock(nn.Module):
    """(N, side * side, c) -> the same: linear attention, concentration, FFN."""

    def __init__(self, width: int, drop_path: float) -> None:
        super().__init__()
        self.position = Maps(depthwise(width, 3))
        self.attention = Branch(width, LinearAttention(width), drop_path)
        # Before the concentration, which comes first: the order of the author's weights.
        self.ffn = Branch(width, FFN(width), drop_path)
        layers = (depthwise(width, 7), nn.GELU(), nn.BatchNorm2d(width), depthwise(width, 7))
        self.concentration = Branch(width, Maps(*layers), drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = self.attention(x + self.position(x))
        out: Tensor = self.ffn(self.concentration(x))
        return out


class Stem(nn.Module):
    """(N, 3, H, W) -> (N, L, width), a quarter of the size."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.layers = nn.Sequential(
            *(nn.Conv2d(3, half, 3, 2, 1), nn.BatchNorm2d(half), nn.ReLU()),
            *(nn.Conv2d(half, width, 3, 2, 1), nn.BatchNorm2d(width)),
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.layers(x).flatten(2).transpose(1, 2))
        return out


class Merge(nn.Module):
    """(N, side * side, inputs) -> (N, a quarter of that, width)."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.conv = Maps(nn.Conv2d(inputs, width, 2, 2))
        self.norm = nn.LayerNorm(inputs)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(self.norm(x))
        return out


class L2ViT(nn.Module):
    """(N, 3, 224, 224) -> (N, 1000) logits."""

    input_shape = (3, 224, 224)

    def __init__(self, *, width: int, depths: Sequence[int], drop_path: float) -> None:
        super().__init__()
        drop = iter([drop_path * i / (sum(depths) - 1) for i in range(sum(depths))])
        reducing: list[nn.Module] = [Stem(width)]
        stages: list[nn.Module] = []
        for stage, depth in enumerate(depths):
            if stage:
                reducing.append(Merge(width, 2 * width))
                width *= 2
            stages.append(
                nn.Sequential(
                    *[
                        (LinearBlock if i % 2 else WindowBlock)(width, next(drop))
                        for i in range(depth)
                    ]
                )
            )
        self.reducing = nn.ModuleList(reducing)
        self.stages = nn.ModuleList(stages)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        for reduce, stage in zip(self.reducing, self.stages, strict=True):
            x = stage(reduce(x))
        logits: Tensor = self.head(self.norm(x).mean(dim=1))
        return logits


def l2vit_t() -> L2ViT:
    """28.6 M parameters."""
    return L2ViT(width=96, depths=(2, 2, 6, 2), drop_path=0.2)


def l2vit_s() -> L2ViT:
    """50.2 M parameters."""
    return L2ViT(width=96, depths=(2, 2, 18, 2), drop_path=0.3)


def l2vit_b() -> L2ViT:
    """88.6 M parameters."""
    return L2ViT(width=128, depths=(2, 2, 18, 2), drop_path=0.5)
