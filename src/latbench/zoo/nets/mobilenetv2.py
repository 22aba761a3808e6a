"""MobileNetV2 1.3 times as wide, which timm lacks and FBNet's authors compare with.

Source: M. Sandler, A. Howard, M. Zhu, A. Zhmoginov, L.-C. Chen, *MobileNetV2: Inverted Residuals
and Linear Bottlenecks*, CVPR 2018, arXiv 1801.04381, table 2.
"""

from __future__ import annotations

from torch import Tensor, nn

from latbench.zoo.nets.mbconv import MBConv, Style, conv_bn

CLASSES = 1000
STYLE = Style(activation=nn.ReLU6)
STAGES = (
    *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
    *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
)
"""Expansion, width, blocks, stride of the first of them."""
STEM, FEATURES = 32, 1280


class MobileNetV2(nn.Module):
    """(N, 3, H, W) -> (N, 1000) logits; all widths times ``multiplier``, in steps of 8."""

    input_shape = (3, 224, 224)

    def __init__(self, multiplier: float) -> None:
        super().__init__()
        width = in_eights(STEM * multiplier)
        self.stem = conv_bn(3, width, 3, STYLE, stride=2)
        blocks = []
        for expansion, base, count, stride in STAGES:
            following = in_eights(base * multiplier)
            for i in range(count):
                blocks.append(
                    MBConv(
                        width,
                        following,
                        kernel=3,
                        expansion=expansion,
                        style=STYLE,
                        stride=1 if i else stride,
                    )
                )
                width = following
        self.blocks = nn.Sequential(*blocks)
        features = max(FEATURES, in_eights(FEATURES * multiplier))
        self.features = conv_bn(width, features, 1, STYLE)
        self.head = nn.Linear(features, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(self.blocks(self.stem(x)))
        logits: Tensor = self.head(x.mean(dim=(2, 3)))
        return logits


def in_eights(width: float) -> int:
    """The nearest multiple of 8, not below nine tenths of ``width``."""
    nearest = max(8, int(width + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * width else nearest


def mobilenetv2_130() -> MobileNetV2:
    """5.4 M parameters."""
    return MobileNetV2(1.3)
