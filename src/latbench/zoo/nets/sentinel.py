"""The sentinel as a PyTorch network, for formats that cannot write one themselves.

The same layers as the ONNX sentinel's: the shape of MobileNetV2 (Sandler et al. 2018, CVPR,
table 2), no biases, ReLU. A change of anything here is another workload and needs another name.
"""

from __future__ import annotations

import torch
from torch import nn

STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion, channels, repeats, stride of the first."""


class Residual(nn.Module):
    """``x + layers(x)``."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = x + self.layers(x)
        return out


def sentinel() -> nn.Module:
    """1x3x224x224 in, 1x1000 out."""
    layers: list[nn.Module] = _conv(3, 32, 3, stride=2)
    channels = 32
    for expansion, width, repeats, first_stride in STAGES:
        for repeat in range(repeats):
            stride, inner = (first_stride if repeat == 0 else 1), channels * expansion
            block = nn.Sequential(
                *(_conv(channels, inner, 1) if expansion > 1 else []),
                *_conv(inner, inner, 3, stride=stride, groups=inner),
                *_conv(inner, width, 1, relu=False),
            )
            layers.append(Residual(block) if stride == 1 and channels == width else block)
            channels = width
    layers += [*_conv(channels, 1280, 1), nn.AdaptiveAvgPool2d(1)]
    layers += [*_conv(1280, 1000, 1, relu=False), nn.Flatten()]
    return nn.Sequential(*layers)


def _conv(
    inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1, relu: bool = True
) -> list[nn.Module]:
    conv = nn.Conv2d(
        inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False
    )
    return [conv, nn.ReLU()] if relu else [conv]
