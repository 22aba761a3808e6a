"""Inception Transformer: convolution and pooling for high frequencies, attention for low ones.

Source: C. Si, W. Yu, P. Zhou, Y. Zhou, X. Wang, S. Yan, *Inception Transformer*, NeurIPS 2022,
arXiv 2205.12956. Its authors call it iFormer; timm's ``iformer_*`` are other networks of that name.
Tensors are channels-last, (N, H, W, c), between blocks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from latbench.zoo.nets.mobilevig import CLASSES, DropPath

EXPANSION = 4
HEAD_WIDTH = 32
LAYER_SCALE = 1e-6
NORM_EPS = 1e-6


class HighMixer(nn.Module):
    """(N, c, H, W) -> (N, 2c, H, W): one half through convolutions, the other through a maximum."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.expand = nn.Conv2d(half, width, 1, bias=False)
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        self.pool = nn.MaxPool2d(3, 1, 1)
        self.project = nn.Conv2d(half, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=1)
        convolved = functional.gelu(self.depthwise(self.expand(first)))
        pooled = functional.gelu(self.project(self.pool(second)))
        return torch.cat((convolved, pooled), dim=1)


class LowMixer(nn.Module):
    """(N, c, H, W) -> (N, c, H, W): attention, at half the resolution where ``halve``."""

    def __init__(self, width: int, *, halve: bool) -> None:
        super().__init__()
        self.halve = halve
        self.qkv = nn.Linear(width, 3 * width)

    def forward(self, x: Tensor) -> Tensor:
        if self.halve:
            x = functional.avg_pool2d(x, 2)
        grid = x.shape[2:]
        tokens = x.flatten(2).transpose(1, 2)
        query, key, value = (
            part.unflatten(2, (-1, HEAD_WIDTH)).transpose(1, 2)
            for part in self.qkv(tokens).chunk(3, dim=2)
        )
        scores = (query @ key.transpose(2, 3)) * HEAD_WIDTH**-0.5
        mixed = scores.softmax(dim=-1) @ value
        x = mixed.transpose(2, 3).flatten(1, 2).unflatten(2, grid)
        return functional.interpolate(x, scale_factor=2.0) if self.halve else x


class Mixer(nn.Module):
    """(N, H, W, c) -> (N, H, W, c); ``heads`` of 32 channels are for attention, the rest not."""

    def __init__(self, width: int, heads: int, *, halve: bool) -> None:
        super().__init__()
        low = heads * HEAD_WIDTH
        self.widths = (width - low, low)
        both = 2 * (width - low) + low
        self.high = HighMixer(width - low)
        self.low = LowMixer(low, halve=halve)
        self.fuse = nn.Conv2d(both, both, 3, padding=1, groups=both, bias=False)
        self.project = nn.Conv2d(both, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        high, low = x.permute(0, 3, 1, 2).split(self.widths, dim=1)
        mixed = torch.cat((self.high(high), self.low(low)), dim=1)
        out: Tensor = self.project(mixed + self.fuse(mixed)).permute(0, 2, 3, 1)
        return out


class Block(nn.Module):
    """(N, H, W, c) -> (N, H, W, c): mixer, then a multilayer perceptron, each normed and added."""

    def __init__(
        self, width: int, heads: int, drop_path: float, *, halve: bool, scaled: bool
    ) -> None:
        super().__init__()
        self.scaled = scaled
        if scaled:
            self.mixer_scale = nn.Parameter(torch.full((width,), LAYER_SCALE))
            self.ffn_scale = nn.Parameter(torch.full((width,), LAYER_SCALE))
        self.mixer_norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.mixer = Mixer(width, heads, halve=halve)
        self.ffn_norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.ffn = nn.Sequential(
            nn.Linear(width, EXPANSION * width), nn.GELU(), nn.Linear(EXPANSION * width, width)
        )
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        y = self.mixer(self.mixer_norm(x))
        x = x + self.drop_path(self.mixer_scale * y if self.scaled else y)
        y = self.ffn(self.ffn_norm(x))
        out: Tensor = x + self.drop_path(self.ffn_scale * y if self.scaled else y)
        return out


class Embedding(nn.Sequential):
    """(N, inputs, H, W) -> (N, width, H/2, W/2): 3x3 convolution and BatchNorm."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__(nn.Conv2d(inputs, width, 3, 2, 1), nn.BatchNorm2d(width))


class InceptionTransformer(nn.Module):
    """(N, 3, 224, 224) -> (N, 1000) logits.

    ``heads``: for each of four stages the attention heads of its blocks. Only the last two stages
    scale their branches, only the first two attend at half the resolution.
    """

    input_shape = (3, 224, 224)

    def __init__(
        self, *, widths: Sequence[int], heads: Sequence[Sequence[int]], drop_path: float
    ) -> None:
        super().__init__()
        total = sum(map(len, heads))
        drop = iter([drop_path * i / (total - 1) for i in range(total)])
        side = self.input_shape[1] // 4
        self.positions = nn.ParameterList(
            [
                nn.Parameter(torch.empty(1, side >> stage, side >> stage, width))
                for stage, width in enumerate(widths)
            ]
        )
        for position in self.positions:
            nn.init.trunc_normal_(position, std=0.02)
        first = widths[0]
        self.stem = nn.Sequential(Embedding(3, first // 2), nn.GELU(), Embedding(first // 2, first))
        self.stages = nn.ModuleList()
        inputs = first
        for stage, (width, counts) in enumerate(zip(widths, heads, strict=True)):
            blocks = [
                Block(width, count, next(drop), halve=stage < 2, scaled=stage > 1)
                for count in counts
            ]
            if stage:
                self.stages.append(Embedding(inputs, width))
            self.stages.append(nn.Sequential(*blocks))
            inputs = width
        self.norm = nn.LayerNorm(inputs, eps=NORM_EPS)
        self.head = nn.Linear(inputs, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).permute(0, 2, 3, 1)
        positions = iter(self.positions)
        for part in self.stages:
            if isinstance(part, Embedding):
                x = part(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
            else:
                x = part(x + next(positions))
        logits: Tensor = self.head(self.norm(x).mean(dim=(1, 2)))
        return logits


def inception_transformer_s() -> InceptionTransformer:
    """19.866 M parameters, 4.849 G as published (with attention)."""
    return InceptionTransformer(
        widths=(96, 192, 320, 384),
        heads=((1,) * 3, (3,) * 3, (7,) * 4 + (9,) * 5, (11,) * 3),
        drop_path=0.2,
    )


def inception_transformer_b() -> InceptionTransformer:
    """47.866 M parameters, 9.379 G as published (with attention)."""
    return InceptionTransformer(
        widths=(96, 192, 384, 512),
        heads=((1,) * 4, (3,) * 6, (8,) * 7 + (10,) * 7, (15,) * 6),
        drop_path=0.4,
    )


def inception_transformer_l() -> InceptionTransformer:
    """86.637 M parameters, 14.048 G as published (with attention)."""
    return InceptionTransformer(
        widths=(96, 192, 448, 640),
        heads=((1,) * 4, (3,) * 6, (10,) * 9 + (12,) * 9, (19,) * 8),
        drop_path=0.5,
    )
