"""Pyramid ViG, whose graph joins each pixel with those most like it, anywhere in the image.

Source: K. Han, Y. Wang, J. Guo, Y. Tang, E. Wu, *Vision GNN: An Image is Worth Graph of Nodes*,
NeurIPS 2022, arXiv 2206.00272. Tensors are NCHW; every convolution has a bias; the activation is
the exact GELU; no stochastic depth, as in the authors' definition by default. What the place of two
pixels adds to their distance is fixed: theirs counts it as parameters, 2.2 M more for B.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from latbench.zoo.nets.mobilevig import CLASSES, FFN, conv_bn

SIDE = 224
EMBEDDING = 1024
NEIGHBOURS = 9
"""In the first block, twice as many in the last."""
GROUPS = 4
POOLING = (4, 2, 1, 1)
"""By stage: neighbours are sought in a map smaller by this."""
BASE = 10000.0
"""Ratio of the longest to the shortest wave of a place's code."""
SHARE = 0.002
"""Of an untrained graph in what it is added to. A rounding error makes a pixel choose another
neighbour now and then, which is seen by all pixels in the next block. At a share of one, float32
differs from float64 by 0.2; at this one by 2e-5, and neighbours of one rank off by 3e-4.
"""


def apart(width: int, side: int, pooling: int) -> Tensor:
    """Added to the distance of pixel and candidate: (1, side * side, (side / pooling) ** 2).

    Minus twice the mean product of their places' sine and cosine codes, half of the channels for
    rows and half for columns: a sum of cosines of the way between them. For a smaller map, the
    authors resize the row of candidates as if it were a line.
    """
    quarter = width // 4
    waves = BASE ** -(torch.arange(quarter, dtype=torch.float64) / quarter)
    steps = torch.arange(side, dtype=torch.float64)
    alike = torch.cos((steps[:, None] - steps)[..., None] * waves).sum(-1) * 2 / width
    table = (alike[:, None, :, None] + alike[None, :, None, :]).reshape(side**2, side**2)
    size = (side**2, side**2 // pooling**2)
    given = table.float()[None, None]
    return -functional.interpolate(given, size, mode="bicubic", align_corners=False)[0]


class Graph(nn.Module):
    """Max-relative convolution over the nearest pixels: (N, c, side, side) -> (N, 2c, side, side).

    The nearest ``neighbours`` * ``dilation`` are sorted, and every ``dilation``-th of them counts.
    """

    apart: Tensor

    def __init__(
        self, width: int, *, side: int, pooling: int, neighbours: int, dilation: int
    ) -> None:
        super().__init__()
        self.pooling = pooling
        self.neighbours = neighbours
        self.dilation = dilation
        self.register_buffer("apart", apart(width, side, pooling))
        self.mix = nn.Sequential(conv_bn(2 * width, 2 * width, 1, groups=GROUPS), nn.GELU())

    def forward(self, x: Tensor) -> Tensor:
        pooled = functional.avg_pool2d(x, self.pooling) if self.pooling > 1 else x
        candidates = pooled.flatten(2).transpose(1, 2)
        nearest = self.nearest(x.flatten(2).transpose(1, 2), candidates)
        # By rows of all images at once: gathering along an axis would repeat indices per channel.
        images, places, width = candidates.shape
        first = places * torch.arange(images, device=x.device)[:, None, None]
        chosen = candidates.reshape(-1, width)[nearest + first].permute(0, 3, 1, 2)
        largest = (chosen - x.flatten(2)[..., None]).amax(-1).unflatten(2, x.shape[2:])
        mixed: Tensor = self.mix(torch.stack((x, largest), dim=2).flatten(1, 2))
        return mixed

    def nearest(self, pixels: Tensor, candidates: Tensor) -> Tensor:
        """(N, L, c) and (N, M, c) -> which of M, (N, L, neighbours).

        By squared distance after scaling each to length one, and by place.
        """
        pixels, candidates = (
            functional.normalize(pixels, dim=-1),
            functional.normalize(candidates, dim=-1),
        )
        products = -2 * (pixels @ candidates.transpose(1, 2))
        squares = pixels.square().sum(-1)[..., None], candidates.square().sum(-1)[:, None]
        distance = squares[0] + products + squares[1] + self.apart
        _, indices = torch.topk(-distance, self.neighbours * self.dilation)
        return indices[..., :: self.dilation]


class Grapher(nn.Module):
    """(N, c, side, side) -> (N, c, side, side): 1x1, graph, 1x1 back from 2c, added."""

    def __init__(self, width: int, graph: Graph) -> None:
        super().__init__()
        self.before = conv_bn(width, width, 1)
        self.graph = graph
        norm = nn.BatchNorm2d(width)
        nn.init.uniform_(norm.weight, 0.5 * SHARE, 1.5 * SHARE)
        self.after = nn.Sequential(nn.Conv2d(2 * width, width, 1), norm)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.after(self.graph(self.before(x)))
        return out


class PyramidViG(nn.Module):
    """(N, 3, side, side) -> (N, 1000) logits: ``depths`` blocks of ``widths`` in four stages.

    With depth, a pixel has more neighbours, and after four blocks they are dilated by two, if the
    smallest map has enough pixels.
    """

    def __init__(self, *, depths: Sequence[int], widths: Sequence[int], side: int = SIDE) -> None:
        super().__init__()
        self.input_shape = (3, side, side)
        first = widths[0]
        side //= 4
        self.stem = nn.Sequential(
            *(conv_bn(3, first // 2, 3, stride=2), nn.GELU()),
            *(conv_bn(first // 2, first, 3, stride=2), nn.GELU()),
            conv_bn(first, first, 3),
        )
        self.position = nn.Parameter(torch.zeros(1, first, side, side))
        last = sum(depths) - 1
        most_dilation = (side // 8) ** 2 // (2 * NEIGHBOURS)
        blocks: list[nn.Module] = []
        width, block = first, 0
        for depth, following, pooling in zip(depths, widths, POOLING, strict=True):
            if blocks:
                blocks.append(conv_bn(width, following, 3, stride=2))
                side //= 2
            width = following
            for _ in range(depth):
                graph = Graph(
                    width,
                    side=side,
                    pooling=pooling,
                    neighbours=NEIGHBOURS + NEIGHBOURS * block // last,
                    dilation=min(block // 4 + 1, most_dilation),
                )
                blocks += [Grapher(width, graph), FFN(width, 0.0)]
                block += 1
        self.blocks = nn.Sequential(*blocks)
        self.embed = nn.Sequential(conv_bn(width, EMBEDDING, 1), nn.GELU())
        self.head = nn.Conv2d(EMBEDDING, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.stem(x) + self.position)
        logits: Tensor = self.head(self.embed(x.mean(dim=(2, 3), keepdim=True))).flatten(1)
        return logits


def pyramid_vig_b() -> PyramidViG:
    """93.0 M parameters; published as 92.6 M, which is without the 0.4 M of the position."""
    return PyramidViG(depths=(2, 2, 18, 2), widths=(128, 256, 512, 1024))
