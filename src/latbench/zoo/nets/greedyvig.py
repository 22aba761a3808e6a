"""GreedyViG, whose graph is chosen anew for each image among the pixels of the same row and column.

Source: M. Munir, W. Avery, M. M. Rahman, R. Marculescu, *GreedyViG: Dynamic Axial Graph
Construction for Efficient Vision GNNs*, CVPR 2024, arXiv 2405.06849. The skeleton is that of
MobileViGv2. The paper writes of a Euclidean distance; the authors' definition takes the sum of
absolute differences, and so does this one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from latbench.zoo.nets.mobilevig import rolled
from latbench.zoo.nets.mobilevigv2 import GraphNet

HOPS = (8, 4, 2, 1)
"""By stage, so that a pixel has seven candidates in each direction at 224 x 224."""


def dynamic(x: Tensor, hop: int) -> Tensor:
    """The largest difference neighbour minus self among the neighbours that are near enough.

    Candidates are all pixels a multiple of ``hop`` away along either axis, cyclically. One counts
    where its distance is below mean minus standard deviation of the distances between the image and
    itself with the quadrants swapped. (N, c, H, W) -> (N, c, H, W), nothing below zero.
    """
    height, width = x.shape[2:]
    swapped = rolled(rolled(x, (height + 1) // 2, 2), (width + 1) // 2, 3)
    apart = distance(x, swapped)
    limit = apart.mean(dim=(2, 3), keepdim=True) - apart.std(dim=(2, 3), keepdim=True)
    largest = x.new_zeros(1)
    for axis in (2, 3):
        # A shift by nothing changes nothing, but the authors run it: it is part of the latency.
        for shift in range(0, x.shape[axis], hop):
            neighbour = rolled(x, shift, axis)
            near = torch.where(distance(x, neighbour) < limit, 1, 0)
            largest = torch.maximum(largest, (neighbour - x) * near)
    return largest


def distance(one: Tensor, other: Tensor) -> Tensor:
    """Sum of absolute differences over channels. (N, c, H, W) twice -> (N, 1, H, W)."""
    apart: Tensor = torch.linalg.vector_norm(one - other, ord=1, dim=1, keepdim=True)
    return apart


def _greedyvig(blocks: Sequence[tuple[int, int]], widths: Sequence[int]) -> GraphNet:
    return GraphNet(blocks=blocks, widths=widths, hops=HOPS, embedding=768, relative=dynamic)


def greedyvig_s() -> GraphNet:
    """12.0 M parameters."""
    return _greedyvig(((2, 2), (2, 2), (6, 2), (2, 2)), (48, 96, 192, 384))


def greedyvig_m() -> GraphNet:
    """21.9 M parameters."""
    return _greedyvig(((3, 3), (3, 3), (9, 3), (3, 3)), (56, 112, 224, 448))


def greedyvig_b() -> GraphNet:
    """30.9 M parameters."""
    return _greedyvig(((4, 4), (4, 4), (12, 4), (3, 3)), (64, 128, 256, 512))
