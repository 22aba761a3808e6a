"""NASNet-A (4 @ 1056), the mobile network of two searched cells.

Source: B. Zoph, V. Vasudevan, J. Shlens, Q. V. Le, *Learning Transferable Architectures for
Scalable Image Recognition*, CVPR 2018, arXiv 1707.07012; paddings as in the authors' TensorFlow
release, which puts the odd pixel of an even size last and leaves padding out of averages.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

CLASSES = 1000
STEM = 32
FILTERS = 44
"""1056 / 24: a normal cell gives six branches, the last four times as wide."""
CELLS = 4
NORM_EPS = 1e-3


def norm(width: int) -> nn.BatchNorm2d:
    """(N, width, H, W) -> the same."""
    return nn.BatchNorm2d(width, eps=NORM_EPS)


def pool(x: Tensor, kind: Literal["average", "maximum"], stride: int = 1) -> Tensor:
    """3x3, (N, c, H, W) -> (N, c, ceil(H/stride), ceil(W/stride)); H and W both odd or even."""
    even = stride == 2 and x.shape[2] % 2 == 0
    padding = 0 if even else 1
    # At an even size the last window hangs over the edge, which is what `ceil_mode` allows.
    if kind == "maximum":
        return functional.max_pool2d(x, 3, stride, padding, ceil_mode=even)
    return functional.avg_pool2d(x, 3, stride, padding, ceil_mode=even, count_include_pad=False)


class Depthwise(nn.Module):
    """(N, c, H, W) -> (N, c, ceil(H/stride), ceil(W/stride))."""

    def __init__(self, width: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.stride = stride
        self.conv = nn.Conv2d(width, width, kernel, stride, groups=width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        before = after = self.kernel // 2
        if self.stride == 2 and x.shape[2] % 2 == 0:
            before -= 1
        y: Tensor = self.conv(functional.pad(x, (before, after, before, after)))
        return y


class Separable(nn.Sequential):
    """Twice ReLU, depthwise, 1x1, BatchNorm; the first with ``stride`` and from ``inputs``."""

    def __init__(self, inputs: int, width: int, kernel: int, stride: int = 1) -> None:
        super().__init__(
            *(nn.ReLU(), Depthwise(inputs, kernel, stride)),
            *(nn.Conv2d(inputs, width, 1, bias=False), norm(width)),
            *(nn.ReLU(), Depthwise(width, kernel, 1)),
            *(nn.Conv2d(width, width, 1, bias=False), norm(width)),
        )


class Project(nn.Sequential):
    """ReLU, 1x1, BatchNorm."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__(nn.ReLU(), nn.Conv2d(inputs, width, 1, bias=False), norm(width))


class Halve(nn.Module):
    """(N, inputs, H, W) -> (N, width, ceil(H/2), ceil(W/2)): even and odd pixels, half each."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.even = nn.Conv2d(inputs, width // 2, 1, bias=False)
        self.odd = nn.Conv2d(inputs, width // 2, 1, bias=False)
        self.norm = norm(width)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(x)
        shifted = functional.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:]
        halves = (self.even(x[:, :, ::2, ::2]), self.odd(shifted[:, :, ::2, ::2]))
        y: Tensor = self.norm(torch.cat(halves, dim=1))
        return y


class NormalCell(nn.Module):
    """The present and the previous tensor -> (N, 6 * width, H, W).

    ``halve``: the previous one is twice as large.
    """

    def __init__(self, inputs: int, previous: int, width: int, *, halve: bool) -> None:
        super().__init__()
        self.adjust = (Halve if halve else Project)(previous, width)
        self.project = Project(inputs, width)
        self.left1 = Separable(width, width, 5)
        self.right1 = Separable(width, width, 3)
        self.left2 = Separable(width, width, 5)
        self.right2 = Separable(width, width, 3)
        self.left5 = Separable(width, width, 3)

    def forward(self, x: Tensor, previous: Tensor) -> Tensor:
        p, h = self.adjust(previous), self.project(x)
        branches = (
            p,
            self.left1(h) + self.right1(p),
            self.left2(p) + self.right2(p),
            pool(h, "average") + p,
            pool(p, "average") + pool(p, "average"),
            self.left5(h) + h,
        )
        return torch.cat(branches, dim=1)


class ReductionCell(nn.Module):
    """The present and the previous tensor -> (N, 4 * width, H/2, W/2), halves rounded up.

    ``adjust`` brings the previous tensor, ``previous`` wide after that, to the present one's size.
    """

    def __init__(self, inputs: int, previous: int, width: int, adjust: nn.Module) -> None:
        super().__init__()
        self.adjust = adjust
        self.project = Project(inputs, width)
        self.left1 = Separable(width, width, 5, stride=2)
        self.right1 = Separable(previous, width, 7, stride=2)
        self.right2 = Separable(previous, width, 7, stride=2)
        self.right3 = Separable(previous, width, 5, stride=2)
        self.left5 = Separable(width, width, 3)

    def forward(self, x: Tensor, previous: Tensor) -> Tensor:
        p, h = self.adjust(previous), self.project(x)
        first = self.left1(h) + self.right1(p)
        second = pool(h, "maximum", 2) + self.right2(p)
        branches = (
            second,
            pool(h, "average", 2) + self.right3(p),
            pool(first, "average") + second,
            self.left5(first) + pool(h, "maximum", 2),
        )
        return torch.cat(branches, dim=1)


class NASNetMobile(nn.Module):
    """(N, 3, H, W) -> (N, 1000) logits: a convolution, two reduction cells, then three times four
    normal cells with a reduction cell between. Square images."""

    input_shape = (3, 224, 224)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, STEM, 3, 2, bias=False), norm(STEM))
        quarter, half = FILTERS // 4, FILTERS // 2
        # The first cell has no previous tensor and takes the stem's output for it, as it is.
        cells: list[nn.Module] = [
            ReductionCell(STEM, STEM, quarter, nn.Identity()),
            ReductionCell(4 * quarter, half, half, Halve(STEM, half)),
        ]
        previous, inputs = 4 * quarter, 4 * half
        for width in (FILTERS, 2 * FILTERS, 4 * FILTERS):
            if width > FILTERS:
                cells.append(ReductionCell(inputs, width, width, Project(previous, width)))
                previous, inputs = inputs, 4 * width
            for i in range(CELLS):
                cells.append(NormalCell(inputs, previous, width, halve=i == 0))
                previous, inputs = inputs, 6 * width
        self.cells = nn.ModuleList(cells)
        self.head = nn.Linear(inputs, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = previous = self.stem(x)
        for cell in self.cells:
            x, previous = cell(x, previous), x
        logits: Tensor = self.head(functional.relu(x).mean(dim=(2, 3)))
        return logits


def nasnet_a_mobile() -> NASNetMobile:
    """5.3 M parameters, 564 M multiply-accumulates as published."""
    return NASNetMobile()
