"""PRepBN: LayerNorm in early training, re-parameterised BatchNorm at its end and in use.

Source: J. Guo, X. Chen, Y. Tang, Y. Wang, *SLAB: Efficient Transformers with Simplified Linear
Attention and Progressive Re-parameterized Batch Normalization*, ICML 2024, arXiv 2405.11582.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

STEPS = 60_000
"""Training steps over which LayerNorm's share falls from one to zero; the release's for Swin."""


class RepBN(nn.Module):
    """BatchNorm of the channels, and ``alpha`` times the input. (N, L, c) -> (N, L, c)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1))
        self.norm = nn.BatchNorm1d(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)
        y: Tensor = (self.norm(x) + self.alpha * x).transpose(1, 2)
        return y

    def affine(self) -> tuple[Tensor, Tensor]:
        """Scale and shift by channel, (c,) in float64, that do the same outside of training."""
        mean, variance = self.norm.running_mean, self.norm.running_var
        assert mean is not None
        assert variance is not None
        scale = self.norm.weight.double() * (variance.double() + self.norm.eps).rsqrt()
        shift = self.norm.bias.double() - scale * mean.double()
        return scale + self.alpha.double(), shift


class PRepBN(nn.Module):
    """(N, L, c) -> (N, L, c). ``steps_left`` counts down by one with each training step."""

    steps_left: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("steps_left", torch.tensor(STEPS))
        self.early = nn.LayerNorm(width)
        self.late = RepBN(width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.late(x)
        if self.training:
            share = self.steps_left / STEPS
            self.steps_left.copy_((self.steps_left - 1).clamp(min=0))
            y = share * self.early(x) + (1 - share) * y
        return y


def absorb_after(norm: nn.Module, layer: nn.Linear) -> nn.Module:
    """Give ``layer``, which takes what ``norm`` gives, its work. What is left of the norm."""
    if not isinstance(norm, PRepBN):
        return norm
    scale, shift = norm.late.affine()
    with torch.no_grad():
        weight = layer.weight.double()
        bias = weight @ shift
        if layer.bias is not None:
            bias = bias + layer.bias.double()
        dtype = layer.weight.dtype
        layer.weight = nn.Parameter((weight * scale).to(dtype), layer.weight.requires_grad)
        layer.bias = nn.Parameter(bias.to(dtype), layer.weight.requires_grad)
    return nn.Identity()


def absorb_before(norm: nn.Module, layer: nn.Conv2d) -> nn.Module:
    """Give ``layer``, whose output ``norm`` takes, its work. What is left of the norm."""
    if not isinstance(norm, PRepBN):
        return norm
    scale, shift = norm.late.affine()
    assert layer.bias is not None
    with torch.no_grad():
        dtype = layer.weight.dtype
        weight = layer.weight.double() * scale.reshape(-1, 1, 1, 1)
        bias = layer.bias.double() * scale + shift
        layer.weight = nn.Parameter(weight.to(dtype), layer.weight.requires_grad)
        layer.bias = nn.Parameter(bias.to(dtype), layer.bias.requires_grad)
    return nn.Identity()
