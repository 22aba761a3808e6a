"""The inverted residual of MobileNetV2, of which networks found by search are made."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Style:
    """What all blocks of a network have in common."""

    activation: type[nn.Module]
    bias: bool = False
    """Of convolutions, although BatchNorm follows."""
    norm_eps: float = 1e-5


def conv_bn(
    inputs: int,
    outputs: int,
    kernel: int,
    style: Style,
    *,
    stride: int = 1,
    groups: int = 1,
    activated: bool = True,
) -> nn.Sequential:
    """Convolution (same padding at stride 1), BatchNorm and the activation, if ``activated``."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=style.bias),
        nn.BatchNorm2d(outputs, eps=style.norm_eps),
    ]
    if activated:
        layers.append(style.activation())
    return nn.Sequential(*layers)


class MBConv(nn.Module):
    """(N, inputs, H, W) -> (N, outputs, H/stride, W/stride): 1x1 wider, depthwise, 1x1 narrower.

    Nothing is made wider at ``expansion`` 1. Added to the input where the shapes are the same. With
    ``groups`` the last convolution is grouped, and channels are shuffled before the depthwise one.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        kernel: int,
        expansion: int,
        style: Style,
        stride: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expand = nn.Identity() if expansion == 1 else conv_bn(inputs, inner, 1, style)
        self.shuffle = nn.Identity() if groups == 1 else nn.ChannelShuffle(groups)
        self.depthwise = conv_bn(inner, inner, kernel, style, stride=stride, groups=inner)
        self.project = conv_bn(inner, outputs, 1, style, groups=groups, activated=False)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.depthwise(self.shuffle(self.expand(x))))
        return x + y if self.residual else y
