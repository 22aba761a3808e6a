"""MobileViG, an image classifier that mixes inverted residuals with a static graph convolution.

Source: M. Munir, W. Avery, R. Marculescu, *MobileViG: Graph-Based Sparse Attention for Mobile
Vision Applications*, arXiv 2307.00395 (2023). Tensors are NCHW; every convolution has a bias, also
before BatchNorm; the activation is the exact GELU.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

DROP_PATH = 0.1
LAYER_SCALE = 1e-5
CLASSES = 1000


class DropPath(nn.Module):
    """Stochastic depth: in training, drops a branch for whole images. (N, ...) -> (N, ...)."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.probability == 0:
            return x
        kept = 1 - self.probability
        mask = torch.rand(len(x), 1, 1, 1, device=x.device, dtype=x.dtype) < kept
        return x * mask / kept


def conv_bn(
    inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1
) -> nn.Module:
    """Convolution (bias, same padding at stride 1) and BatchNorm."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups),
        nn.BatchNorm2d(outputs),
    )


class InvertedResidual(nn.Module):
    """(N, d, H, W) -> (N, d, H, W): 1x1 to 4d, depthwise 3x3, 1x1 back to d, scaled and added."""

    def __init__(self, width: int, drop_path: float) -> None:
        super().__init__()
        self.expand = conv_bn(width, 4 * width, 1)
        self.depthwise = conv_bn(4 * width, 4 * width, 3, groups=4 * width)
        self.project = conv_bn(4 * width, width, 1)
        self.act = nn.GELU()
        self.layer_scale = nn.Parameter(torch.full((width, 1, 1), LAYER_SCALE))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.depthwise(self.act(self.expand(x))))
        out: Tensor = x + self.drop_path(self.layer_scale * self.project(y))
        return out


class SVGA(nn.Module):
    """Sparse vision graph attention: max-relative convolution over a static axial graph.

    Each pixel is connected with those 2, 4, 6, ... (``hop``) rows above it and columns left of it,
    cyclically. The largest difference self minus neighbour, not below zero, is joined to the pixel
    itself. (N, g, H, W) -> (N, 2g, H, W).
    """

    def __init__(self, width: int, hop: int) -> None:
        super().__init__()
        self.hop = hop
        self.mix = nn.Sequential(
            nn.Conv2d(2 * width, 2 * width, 1), nn.BatchNorm2d(2 * width), nn.GELU()
        )

    def forward(self, x: Tensor) -> Tensor:
        # One zero, broadcast: a whole tensor of zeros would be written into exported files.
        largest = x.new_zeros(1)
        for axis in (2, 3):
            for shift in range(self.hop, x.shape[axis], self.hop):
                largest = torch.maximum(largest, x - rolled(x, shift, axis))
        mixed: Tensor = self.mix(torch.cat((x, largest.expand_as(x)), dim=1))
        return mixed


def rolled(x: Tensor, shift: int, axis: int) -> Tensor:
    """``torch.roll`` as two slices, which converters keep as slices instead of a gather."""
    cut = x.shape[axis] - shift
    return torch.cat((x.narrow(axis, cut, shift), x.narrow(axis, 0, cut)), dim=axis)


class Grapher(nn.Module):
    """(N, g, H, W) -> (N, g, H, W): 1x1, SVGA, 1x1 back from 2g, added."""

    def __init__(self, width: int, hop: int, drop_path: float) -> None:
        super().__init__()
        self.before = conv_bn(width, width, 1)
        self.graph = SVGA(width, hop)
        self.after = conv_bn(2 * width, width, 1)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.drop_path(self.after(self.graph(self.before(x))))
        return out


class FFN(nn.Module):
    """(N, g, H, W) -> (N, g, H, W): 1x1 to 4g, GELU, 1x1 back, added."""

    def __init__(self, width: int, drop_path: float) -> None:
        super().__init__()
        self.expand = conv_bn(width, 4 * width, 1)
        self.act = nn.GELU()
        self.project = conv_bn(4 * width, width, 1)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.drop_path(self.project(self.act(self.expand(x))))
        return out


class TwoHeaded(nn.Module):
    """Stem, stages, embedding and two heads: their mean is the output; in training both are."""

    stem: nn.Module
    stages: nn.Module
    embed: nn.Module
    head: nn.Conv2d
    distillation_head: nn.Conv2d | None

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x = self.stages(self.stem(x))
        x = self.embed(x.mean(dim=(2, 3), keepdim=True))
        logits: Tensor = self.head(x).flatten(1)
        if self.distillation_head is None:
            return logits
        other: Tensor = self.distillation_head(x).flatten(1)
        return (logits, other) if self.training else (logits + other) / 2

    def switch_to_deploy(self) -> None:
        """Merge the two heads into one, which gives the same logits: the mean of linear maps."""
        if self.distillation_head is None:
            return
        with torch.no_grad():
            for ours, other in zip(
                self.head.parameters(), self.distillation_head.parameters(), strict=True
            ):
                ours.copy_((ours + other) / 2)
        self.distillation_head = None


class MobileViG(TwoHeaded):
    """(N, 3, H, W) -> (N, 1000) logits; two heads, averaged outside of training.

    ``depths`` and ``widths`` are those of the three local stages, ``graph_depth`` and
    ``graph_width`` those of the graph stage, ``embedding`` is the width before the heads. In
    training the two heads' logits are returned one by one, for distillation.
    """

    input_shape = (3, 224, 224)

    def __init__(
        self,
        *,
        depths: Sequence[int],
        widths: Sequence[int],
        graph_depth: int,
        graph_width: int,
        embedding: int,
        hop: int = 2,
    ) -> None:
        super().__init__()
        total = sum(depths) + graph_depth
        drop = iter([DROP_PATH * i / (total - 1) for i in range(total)])
        first = widths[0]
        self.stem = nn.Sequential(
            *(conv_bn(3, first // 2, 3, stride=2), nn.GELU()),
            *(conv_bn(first // 2, first, 3, stride=2), nn.GELU()),
        )
        stages: list[nn.Module] = []
        for depth, width, following in zip(depths, widths, (*widths[1:], graph_width), strict=True):
            stages += [InvertedResidual(width, next(drop)) for _ in range(depth)]
            stages.append(conv_bn(width, following, 3, stride=2))
        for _ in range(graph_depth):
            probability = next(drop)
            stages.append(Grapher(graph_width, hop, probability))
            stages.append(FFN(graph_width, probability))
        self.stages = nn.Sequential(*stages)
        self.embed = nn.Sequential(conv_bn(graph_width, embedding, 1), nn.GELU())
        self.head = nn.Conv2d(embedding, CLASSES, 1)
        self.distillation_head = nn.Conv2d(embedding, CLASSES, 1)


def mobilevig_ti() -> MobileViG:
    """5.3 M parameters."""
    return MobileViG(
        depths=(2, 2, 6), widths=(42, 84, 168), graph_depth=2, graph_width=256, embedding=512
    )


def mobilevig_s() -> MobileViG:
    """7.3 M parameters."""
    return MobileViG(
        depths=(3, 3, 9), widths=(42, 84, 176), graph_depth=3, graph_width=256, embedding=512
    )


def mobilevig_m() -> MobileViG:
    """14.1 M parameters."""
    return MobileViG(
        depths=(3, 3, 9), widths=(42, 84, 224), graph_depth=3, graph_width=400, embedding=768
    )


def mobilevig_b() -> MobileViG:
    """26.9 M parameters."""
    return MobileViG(
        depths=(5, 5, 15), widths=(42, 84, 240), graph_depth=5, graph_width=464, embedding=768
    )
