"""Sums over the neighbours of each pixel, as in neighbourhood attention.

Source: A. Hassani, S. Walton, J. Li, S. Li, H. Shi, *Neighborhood Attention Transformer*,
CVPR 2023, arXiv 2204.07143. Their natten has kernels for it; here it is a gather and a product.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Neighbours(nn.Module):
    """Each pixel's sum over a window of ``kernel`` by ``kernel``, which stays inside of the image.

    Scores (N, heads, side * side, kernel * kernel), values (N, heads, side * side, c) -> as values.
    """

    window: Tensor
    places: Tensor

    def __init__(self, heads: int, side: int, kernel: int) -> None:
        super().__init__()
        span = 2 * kernel - 1
        self.bias = nn.Parameter(torch.zeros(heads, span, span))
        line = torch.arange(side)
        near = (line - kernel // 2).clamp(0, side - kernel)[:, None] + torch.arange(kernel)
        apart = near - line[:, None] + kernel - 1
        for name, lines, step in (("window", near, side), ("places", apart, span)):
            # Pixels or places in the table, counted by rows. -> (side * side, kernel * kernel)
            index = lines[:, None, :, None] * step + lines[None, :, None, :]
            self.register_buffer(name, index.flatten(2).flatten(0, 1), persistent=False)

    def forward(self, scores: Tensor, values: Tensor) -> Tensor:
        weights = (scores + self.bias.flatten(1)[:, self.places]).softmax(dim=-1)
        near = values.index_select(2, self.window.flatten()).unflatten(2, self.window.shape)
        out: Tensor = (weights.unsqueeze(3) @ near).squeeze(3)
        return out
