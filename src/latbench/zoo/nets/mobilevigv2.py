"""MobileViGv2, which mixes inverted residuals and sparse graph convolutions in all but one stage.

Source: W. Avery, M. Munir, R. Marculescu, *Scaling Graph Convolutions for Mobile Vision*,
arXiv 2406.05850 (2024). Tensors are NCHW; every convolution has a bias; the activation is the exact
GELU. Unlike in MobileViG, differences are neighbour minus self.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from latbench.zoo.nets.mobilevig import (
    CLASSES,
    DROP_PATH,
    LAYER_SCALE,
    DropPath,
    InvertedResidual,
    TwoHeaded,
    conv_bn,
    rolled,
)

Relative = Callable[[Tensor, int], Tensor]
"""(pixels, hop) -> the largest difference to the pixels connected with each, of the same shape."""


def axial(x: Tensor, hop: int) -> Tensor:
    """Four neighbours, ``hop`` rows and columns away, cyclically; nothing below zero.

    (N, c, H, W) -> (N, c, H, W).
    """
    largest = x.new_zeros(1)
    for axis in (2, 3):
        for shift in (hop, x.shape[axis] - hop):
            largest = torch.maximum(largest, rolled(x, shift, axis) - x)
    return largest


class PositionalEncoding(nn.Module):
    """Conditional positional encoding: a depthwise 7x7 convolution and the input itself.

    (N, c, H, W) -> (N, c, H, W).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.fused = False

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y if self.fused else y + x

    def switch_to_deploy(self) -> None:
        """The identity is one more in the middle of each filter."""
        if not self.fused:
            with torch.no_grad():
                self.conv.weight[:, :, 3, 3] += 1
        self.fused = True


class Grapher(nn.Module):
    """(N, c, H, W) -> (N, c, H, W): position, 1x1, max-relative convolution, 1x1."""

    def __init__(self, width: int, hop: int, relative: Relative) -> None:
        super().__init__()
        self.hop = hop
        self.relative = relative
        self.position = PositionalEncoding(width)
        self.before = conv_bn(width, width, 1)
        self.mix = nn.Sequential(conv_bn(2 * width, width, 1), nn.GELU())
        self.after = conv_bn(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(self.position(x))
        joined = torch.cat((x, self.relative(x, self.hop)), dim=1)
        out: Tensor = self.after(self.mix(joined))
        return out


class GraphBlock(nn.Module):
    """(N, c, H, W) -> (N, c, H, W): Grapher, then 1x1 to 4c and back; both scaled and added."""

    def __init__(self, width: int, hop: int, relative: Relative, drop_path: float) -> None:
        super().__init__()
        self.grapher_scale = nn.Parameter(torch.full((width, 1, 1), LAYER_SCALE))
        self.ffn_scale = nn.Parameter(torch.full((width, 1, 1), LAYER_SCALE))
        self.grapher = Grapher(width, hop, relative)
        self.ffn = nn.Sequential(
            conv_bn(width, 4 * width, 1), nn.GELU(), conv_bn(4 * width, width, 1)
        )
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.grapher_scale * self.grapher(x))
        out: Tensor = x + self.drop_path(self.ffn_scale * self.ffn(x))
        return out


class GraphNet(TwoHeaded):
    """(N, 3, H, W) -> (N, 1000) logits; two heads, averaged outside of training.

    Each stage has ``blocks`` (inverted residuals, graph blocks) of one of the ``widths``, its graph
    the ``relative`` difference over one of the ``hops``. ``embedding`` is the width before the
    heads. In training the two heads' logits are returned one by one, for distillation.
    """

    input_shape = (3, 224, 224)

    def __init__(
        self,
        *,
        blocks: Sequence[tuple[int, int]],
        widths: Sequence[int],
        hops: Sequence[int],
        embedding: int,
        relative: Relative,
    ) -> None:
        super().__init__()
        total = sum(local + graph for local, graph in blocks)
        drop = iter([DROP_PATH * i / (total - 1) for i in range(total)])
        first = widths[0]
        self.stem = nn.Sequential(
            *(conv_bn(3, first // 2, 3, stride=2), nn.GELU()),
            *(conv_bn(first // 2, first, 3, stride=2), nn.GELU()),
        )
        stages: list[nn.Module] = []
        width = first
        for (local, graph), following, hop in zip(blocks, widths, hops, strict=True):
            if stages:
                stages.append(conv_bn(width, following, 3, stride=2))
            width = following
            stages += [InvertedResidual(width, next(drop)) for _ in range(local)]
            stages += [GraphBlock(width, hop, relative, next(drop)) for _ in range(graph)]
        self.stages = nn.Sequential(*stages)
        self.embed = nn.Sequential(conv_bn(width, embedding, 1), nn.GELU())
        self.head = nn.Conv2d(embedding, CLASSES, 1)
        self.distillation_head = nn.Conv2d(embedding, CLASSES, 1)


def _mobilevigv2(
    blocks: Sequence[tuple[int, int]], widths: Sequence[int], embedding: int
) -> GraphNet:
    # The first stage has no graph: its hop is never used.
    return GraphNet(
        blocks=blocks, widths=widths, hops=(1, 8, 4, 2), embedding=embedding, relative=axial
    )


def mobilevigv2_ti() -> GraphNet:
    """5.7 M parameters."""
    return _mobilevigv2(((2, 0), (2, 2), (6, 2), (2, 2)), (32, 64, 128, 256), 512)


def mobilevigv2_s() -> GraphNet:
    """7.8 M parameters."""
    return _mobilevigv2(((3, 0), (3, 3), (9, 3), (3, 3)), (32, 64, 128, 256), 512)


def mobilevigv2_m() -> GraphNet:
    """15.5 M parameters."""
    return _mobilevigv2(((3, 0), (3, 3), (9, 3), (3, 3)), (32, 64, 192, 384), 512)


def mobilevigv2_b() -> GraphNet:
    """27.9 M parameters."""
    return _mobilevigv2(((3, 0), (3, 3), (9, 3), (3, 3)), (64, 128, 256, 512), 768)
