"""OverLoCK: an overview of the image first, then a closer look at it that the overview guides.

Source: M. Lou, Y. Yu, *OverLoCK: An Overview-first-Look-Closely-next ConvNet with Context-Mixing
Dynamic Kernels*, CVPR 2025, arXiv 2502.20087, and the authors' release. The closer look convolves
with kernels that are computed for each pixel from the overview: products of two activations, as in
attention. A second head, of the overview, is for training only. Stochastic depth is left out, its
rate not being known here. Tensors are NCHW.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from latbench.zoo.nets.large_kernel import LargeKernel
from latbench.zoo.nets.mobilevig import CLASSES
from latbench.zoo.nets.neighbours import Neighbours

KERNELS = (17, 15, 13, 7)
"""Width of the large kernels in each stage."""
SMALL_KERNEL = 5
KEYS = 7
"""A pixel's kernel is made from 7x7 averages of the overview."""
EXPANSION = 4
DYNAMIC_EXPANSION = 3
PROJECTION = 1024


def conv_bn(inputs: int, width: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution (no bias, same padding at stride 1) and BatchNorm."""
    conv = nn.Conv2d(inputs, width, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width))


def scaling(width: int) -> nn.Conv2d:
    """A factor, one at first, and a shift for each channel."""
    conv = nn.Conv2d(width, width, 1, groups=width)
    nn.init.ones_(conv.weight)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return conv


class PixelNorm(nn.LayerNorm):
    """LayerNorm of each pixel. (N, c, H, W) -> the same."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ResponseNorm(nn.Module):
    """Global response normalisation. (N, c, H, W) -> the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(1, width, 1, 1))
        self.shift = nn.Parameter(torch.zeros(1, width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(x, dim=(2, 3), keepdim=True)
        share = length / (length.mean(dim=1, keepdim=True) + 1e-6)
        out: Tensor = (self.scale * share + 1) * x + self.shift
        return out


class Near(nn.Module):
    """A depthwise 3x3 convolution, added. (N, c, H, W) -> the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.conv(x)
        return out


class Squeeze(nn.Module):
    """Squeeze and excitation. (N, c, H, W) -> the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = max(16, width // 8)
        self.weigh = nn.Sequential(
            nn.Conv2d(width, inner, 1), nn.GELU(), nn.Conv2d(inner, width, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x * self.weigh(x.mean(dim=(2, 3), keepdim=True))
        return out


class Block(nn.Module):
    """(N, c, H, W) -> the same; ``scaled``: what is added to is scaled by channel."""

    def __init__(self, width: int, kernel: int, *, scaled: bool) -> None:
        super().__init__()
        inner = EXPANSION * width
        self.near = Near(width)
        self.layers = nn.Sequential(
            *(PixelNorm(width), LargeKernel(width, kernel), nn.BatchNorm2d(width), Squeeze(width)),
            *(nn.Conv2d(width, inner, 1), nn.GELU(), Near(inner), ResponseNorm(inner)),
            nn.Conv2d(inner, width, 1),
        )
        self.scale = scaling(width) if scaled else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.near(x)
        out: Tensor = self.scale(x) + self.layers(x)
        return out


class DynamicBlock(nn.Module):
    """(N, width + overview, side, side) -> the same: pixels, beside them the overview.

    From the second block on, the overview as it was before the first is added to it again.
    """

    def __init__(
        self, width: int, overview: int, heads: int, side: int, kernel: int, *, first: bool
    ) -> None:
        super().__init__()
        both, inner = width + overview, DYNAMIC_EXPANSION * width
        self.widths = (width, overview)
        self.heads = heads
        self.areas = (SMALL_KERNEL**2, kernel**2)
        self.small = Neighbours(heads, side, SMALL_KERNEL)
        self.large = Neighbours(heads, side, kernel)
        self.scales = nn.ModuleList([] if first else [scaling(overview), scaling(overview)])
        self.near = Near(both)
        self.norm = PixelNorm(both)
        self.fuse = nn.Sequential(
            *(nn.Conv2d(both, both, 3, 1, 1, groups=both), nn.BatchNorm2d(both), nn.GELU()),
            *(nn.Conv2d(both, width, 1), ResponseNorm(width)),
        )
        self.query = conv_bn(width, width // 2, 1)
        self.key = nn.Sequential(nn.AvgPool2d(side // KEYS), conv_bn(overview, width // 2, 1))
        self.weigh = nn.Conv2d(KEYS**2, sum(self.areas), 1)
        self.mix = conv_bn(width, width, 1)
        self.position = nn.Sequential(LargeKernel(width, kernel), nn.BatchNorm2d(width))
        self.squeeze = Squeeze(width)
        self.gate = nn.Sequential(conv_bn(width, width, 1), nn.SiLU())
        self.project = nn.Sequential(nn.BatchNorm2d(width), nn.Conv2d(width, both, 1))
        self.ffn_near = Near(both)
        self.ffn = nn.Sequential(
            *(PixelNorm(both), nn.Conv2d(both, inner, 1), nn.GELU(), Near(inner)),
            *(ResponseNorm(inner), nn.Conv2d(inner, both, 1)),
        )
        self.scale, self.ffn_scale = scaling(both), scaling(both)

    def forward(self, x: Tensor, before: Tensor) -> Tensor:
        if len(self.scales):
            pixels, overview = x.split(self.widths, dim=1)
            overview = self.scales[0](overview) + self.scales[1](before)
            x = torch.cat((pixels, overview), dim=1)
        x = self.near(x)
        normed = self.norm(x)
        fused = self.fuse(normed)
        y = self.squeeze(self.mix(self.dynamic(normed, fused)) + self.position(fused))
        x = self.ffn_near(self.scale(x) + self.project(self.gate(fused) * y))
        out: Tensor = self.ffn_scale(x) + self.ffn(x)
        return out

    def dynamic(self, normed: Tensor, fused: Tensor) -> Tensor:
        """Half of the channels through small kernels, the others through large ones."""
        pixels, overview = normed.split(self.widths, dim=1)
        query = self.by_head(self.query(pixels) * (self.widths[0] // self.heads) ** -0.5)
        scores = self.by_head(self.key(overview)).transpose(2, 3) @ query
        scores = self.weigh(scores.transpose(1, 2)).permute(0, 2, 3, 1)
        halves = [
            mix(score, self.by_head(half).transpose(2, 3))
            for mix, score, half in zip(
                (self.small, self.large),
                scores.split(self.areas, dim=3),
                fused.chunk(2, dim=1),
                strict=True,
            )
        ]
        out: Tensor = torch.cat(halves, dim=1).transpose(2, 3).flatten(1, 2)
        out = out.unflatten(2, fused.shape[2:])
        return out

    def by_head(self, x: Tensor) -> Tensor:
        """(N, c, H, W) -> (N, heads, c / heads, H * W)."""
        x = x.unflatten(1, (self.heads, -1)).flatten(3)
        return x


class OverLoCK(nn.Module):
    """(N, 3, 224, 224) -> (N, 1000) logits; in training also those of the overview.

    Four stages of ``depths`` blocks, of which the last makes the overview; with it, ``closer``
    blocks with ``heads`` look again, first at the third stage's resolution, then at the fourth's.
    """

    input_shape = (3, 224, 224)
    overview_head: nn.Module | None

    def __init__(
        self,
        *,
        widths: Sequence[int],
        depths: Sequence[int],
        closer: Sequence[int],
        heads: Sequence[int],
    ) -> None:
        super().__init__()
        first, third, last, half = widths[0], widths[2], widths[3], widths[0] // 2
        overview, side = last // 4, self.input_shape[1] // 16
        stem = nn.Sequential(
            *(conv_bn(3, half, 3, 2), nn.GELU(), conv_bn(half, half, 3), nn.GELU()),
            *(conv_bn(half, first, 3, 2), nn.GELU(), conv_bn(first, first, 3)),
        )
        halving = [conv_bn(widths[i], widths[i + 1], 3, 2) for i in range(3)]
        self.embeds = nn.ModuleList([stem, *halving])
        self.narrow = nn.Conv2d(last, overview, 1)
        self.halve_pixels = conv_bn(third, last, 3, 2)
        self.halve_overview = conv_bn(overview, overview, 3, 2)
        self.stages = nn.ModuleList()
        for i, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            blocks = [Block(width, KERNELS[i], scaled=i > 1) for _ in range(depth)]
            self.stages.append(nn.Sequential(*blocks))
        self.third = nn.ModuleList(
            DynamicBlock(third, overview, heads[0], side, KERNELS[2], first=i == 0)
            for i in range(closer[0])
        )
        self.fourth = nn.ModuleList(
            DynamicBlock(last, overview, heads[1], side // 2, KERNELS[3], first=False)
            for _ in range(closer[1])
        )
        self.overview_head = nn.Sequential(
            nn.BatchNorm2d(last), nn.AdaptiveAvgPool2d(1), nn.Conv2d(last, CLASSES, 1), nn.Flatten()
        )
        self.embed = nn.Sequential(conv_bn(last + overview, PROJECTION, 1), nn.SiLU())
        self.head = nn.Conv2d(PROJECTION, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        for i in range(3):
            x = self.stages[i](self.embeds[i](x))
        seen = self.stages[3](self.embeds[3](x))
        overview = self.narrow(seen)
        large = functional.interpolate(overview, scale_factor=2.0, mode="bilinear")
        both = torch.cat((x, large), dim=1)
        for block in self.third:
            both = block(both, large)
        pixels, again = both.split((x.shape[1], large.shape[1]), dim=1)
        both = torch.cat((self.halve_pixels(pixels), self.halve_overview(again)), dim=1)
        for block in self.fourth:
            both = block(both, overview)
        logits: Tensor = self.head(self.embed(both).mean(dim=(2, 3), keepdim=True)).flatten(1)
        if self.training and self.overview_head is not None:
            return logits, self.overview_head(seen)
        return logits

    def switch_to_deploy(self) -> None:
        self.overview_head = None


def overlock_t() -> OverLoCK:
    """33 M parameters, 5.5 G as published: without the second head, its branches fused."""
    return OverLoCK(widths=(64, 128, 256, 512), depths=(4, 4, 6, 2), closer=(12, 2), heads=(8, 16))
