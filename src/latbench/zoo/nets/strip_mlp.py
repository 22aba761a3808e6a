"""Strip-MLP, no attention: each row of pixels is mixed with its neighbours, then each column.

Source: G. Cao, S. Luo, W. Huang, X. Lan, D. Jiang, Y. Wang, J. Zhang, *Strip-MLP: Efficient Token
Interaction for Vision MLP*, ICCV 2023, arXiv 2307.11458, and the authors' release where the paper
leaves something open. Tensors are NCHW.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from latbench.zoo.nets.mobilevig import CLASSES, DropPath

EXPANSION = 3
DROP_PATH = 0.1


class RelativePosition(nn.Module):
    """-> (1, width, side, side): for a row and a column, a vector of their difference."""

    index: Tensor

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(2 * side + 1, width))
        nn.init.trunc_normal_(self.table, std=0.02)
        line = torch.arange(side)
        self.register_buffer("index", line[None, :] - line[:, None] + side, persistent=False)

    def forward(self) -> Tensor:
        return self.table[self.index].permute(2, 0, 1).unsqueeze(0)


class StripMixing(nn.Module):
    """(N, c, side, side) -> the same: one half by strips, the other by long convolutions.

    The strips' half is in ``patches`` groups of channels. All pixels of a line with one channel of
    each group are one strip; three strips beside each other are mixed at once.
    """

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        half = width // 2
        self.side = side
        self.group = half // (2 if width % 80 == 0 else 4)
        self.norm = nn.BatchNorm2d(half)
        strip = self.group * side
        self.rows = nn.Conv2d(strip, strip, (1, 3), padding=(0, 1), groups=self.group)
        self.columns = nn.Conv2d(strip, strip, (1, 3), padding=(0, 1), groups=self.group)
        self.fuse_rows = nn.Conv2d(width, half, 1, bias=False)
        self.fuse_columns = nn.Conv2d(width, half, 1, bias=False)
        self.before = nn.Sequential(nn.Conv2d(width, width, 1), nn.BatchNorm2d(width), nn.GELU())
        self.wide = nn.Conv2d(half, half, (3, 7), padding=(1, 3), groups=half, bias=False)
        self.tall = nn.Conv2d(half, half, (7, 3), padding=(3, 1), groups=half, bias=False)
        self.weigh = nn.Sequential(
            nn.Conv2d(half, half // 2, 1), nn.GELU(), nn.Conv2d(half // 2, 3 * half, 1)
        )
        self.fuse = nn.Conv2d(width, width, 1, bias=False)
        self.row_position = RelativePosition(half, side)
        self.column_position = RelativePosition(half, side)

    def forward(self, x: Tensor) -> Tensor:
        strips, near = self.before(x).chunk(2, dim=1)
        out: Tensor = self.fuse(torch.cat((self.strips(strips), self.near(near)), dim=1))
        return out

    def near(self, x: Tensor) -> Tensor:
        """(N, c/2, side, side) -> the same: tall, wide and none, weighed by what there is."""
        wide, tall = self.wide(x), self.tall(x)
        weights = self.weigh((tall + wide + x).mean(dim=(2, 3), keepdim=True))
        weights = weights.unflatten(1, (-1, 3)).softmax(dim=2)
        out: Tensor = tall * weights[:, :, 0] + wide * weights[:, :, 1] + x * weights[:, :, 2]
        return out

    def strips(self, x: Tensor) -> Tensor:
        """(N, c/2, side, side) -> the same."""
        y = (x + self.row_position()).unflatten(1, (-1, self.group))
        # Rows are the convolution's width; columns and channels of a group are its channels.
        y = y.permute(0, 2, 4, 1, 3).flatten(1, 2)
        y = self.rows(y).unflatten(1, (self.group, self.side)).permute(0, 3, 1, 4, 2).flatten(1, 2)
        y = self.fuse_rows(torch.cat((y, x), dim=1))
        y = functional.gelu(self.norm(y)) + self.column_position()
        y = y.unflatten(1, (-1, self.group)).permute(0, 2, 3, 1, 4).flatten(1, 2)
        y = self.columns(y).unflatten(1, (self.group, self.side))
        y = y.permute(0, 3, 1, 2, 4).flatten(1, 2)
        out: Tensor = self.fuse_columns(torch.cat((x, y), dim=1))
        return out


class ResponseNorm(nn.Module):
    """Global response normalisation. (N, H, W, c) -> the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(1, 1, 1, width))
        self.shift = nn.Parameter(torch.zeros(1, 1, 1, width))

    def forward(self, x: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True)
        share = length / (length.mean(dim=-1, keepdim=True) + 1e-6)
        out: Tensor = self.scale * (x * share) + self.shift + x
        return out


class ChannelMixing(nn.Module):
    """(N, c, H, W) -> the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width, bias=False)
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, EXPANSION * width)
        self.project = nn.Linear(EXPANSION * width, width)
        self.response = ResponseNorm(EXPANSION * width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        x = self.response(functional.gelu(self.expand(x)))
        out: Tensor = self.project(x).permute(0, 3, 1, 2)
        return out


class Block(nn.Module):
    """(N, c, side, side) -> the same: pixels are mixed, then channels, each added."""

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        self.strips = StripMixing(width, side)
        self.before = nn.Sequential(
            nn.BatchNorm2d(width),
            nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False),
        )
        self.channels = ChannelMixing(width)
        self.drop_path = DropPath(DROP_PATH)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.strips(self.before(x)))
        out: Tensor = x + self.drop_path(self.channels(x))
        return out


class StripMLP(nn.Module):
    """(N, 3, 224, 224) -> (N, 1000) logits; what enters the second stage, and the third, is also
    added where later stages begin."""

    input_shape = (3, 224, 224)

    def __init__(self, *, width: int, depths: Sequence[int]) -> None:
        super().__init__()
        side = self.input_shape[1] // 4
        self.embed = nn.Conv2d(3, width, 4, 4, bias=False)
        self.stages = nn.ModuleList(
            [
                nn.Sequential(*[Block(width << stage, side >> stage) for _ in range(depth)])
                for stage, depth in enumerate(depths)
            ]
        )
        self.merges = nn.ModuleList(
            [nn.Conv2d(width << i, width << i + 1, 2, 2, bias=False) for i in range(3)]
        )

        def ahead(inputs: int) -> nn.Conv2d:
            return nn.Conv2d(inputs, 2 * inputs, 2, 2, groups=inputs, bias=False)

        self.second_to_third = ahead(2 * width)
        self.second_to_fourth = ahead(4 * width)
        self.third_to_fourth = ahead(4 * width)
        self.head = nn.Linear(8 * width, CLASSES)
        self.norm = nn.BatchNorm2d(8 * width)

    def forward(self, x: Tensor) -> Tensor:
        second = self.merges[0](self.stages[0](self.embed(x)))
        to_third = self.second_to_third(second)
        third = self.merges[1](self.stages[1](second))
        to_fourth = self.second_to_fourth(to_third) + self.third_to_fourth(third)
        fourth = self.merges[2](self.stages[2](third + to_third))
        x = self.stages[3](fourth + to_fourth)
        logits: Tensor = self.head(self.norm(x).mean(dim=(2, 3)))
        return logits


def strip_mlp_light_t() -> StripMLP:
    """18.2 M parameters; the paper writes T*."""
    return StripMLP(width=80, depths=(2, 2, 6, 2))


def strip_mlp_t() -> StripMLP:
    """24.9 M parameters."""
    return StripMLP(width=80, depths=(2, 2, 12, 2))


def strip_mlp_s() -> StripMLP:
    """42.6 M parameters."""
    return StripMLP(width=96, depths=(2, 2, 18, 2))


def strip_mlp_b() -> StripMLP:
    """57.2 M parameters."""
    return StripMLP(width=112, depths=(2, 2, 18, 2))
