"""FBNet, networks whose blocks were searched one by one for the latency on a phone.

Source: B. Wu, X. Dai, P. Zhang, Y. Wang, F. Sun, Y. Wu, Y. Tian, P. Vajda, Y. Jia, K. Keutzer,
*FBNet: Hardware-Aware Efficient ConvNet Design via Differentiable Neural Architecture Search*, CVPR
2019, arXiv 1812.03443; the blocks as in the authors' release (facebookresearch/mobile-vision), with
biases before BatchNorm and no expanding convolution where the expansion is 1. The paper's counts
have one there (295 M for FBNet-B), and so has timm's ``fbnetc_100``; the release's have not (291.1
M), but count one for each element of the last pooling.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from latbench.zoo.nets.mbconv import MBConv, Style, conv_bn

CLASSES = 1000
STYLE = Style(activation=nn.ReLU, bias=True)
UNBIASED = Style(activation=nn.ReLU)


class Block(NamedTuple):
    """One searched block; blocks that the search has made an identity are left out."""

    kernel: int
    width: int
    expansion: int
    stride: int = 1
    groups: int = 1


class FBNet(nn.Module):
    """(N, 3, H, W) -> (N, 1000) logits: 3x3 stem, blocks, 1x1 to ``features``, classifier."""

    def __init__(
        self,
        *,
        stem: int,
        blocks: Sequence[Block],
        features: int,
        style: Style = STYLE,
        side: int = 224,
    ) -> None:
        super().__init__()
        self.input_shape = (3, side, side)
        self.stem = conv_bn(3, stem, 3, STYLE, stride=2)
        layers: list[nn.Module] = []
        width = stem
        for block in blocks:
            layers.append(
                MBConv(
                    width,
                    block.width,
                    kernel=block.kernel,
                    expansion=block.expansion,
                    style=style,
                    stride=block.stride,
                    groups=block.groups,
                )
            )
            width = block.width
        self.blocks = nn.Sequential(*layers)
        self.features = conv_bn(width, features, 1, STYLE)
        self.head = nn.Conv2d(features, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(self.blocks(self.stem(x)))
        logits: Tensor = self.head(x.mean(dim=(2, 3), keepdim=True)).flatten(1)
        return logits


def fbnet_a() -> FBNet:
    """4.3 M parameters, 244.5 M multiply-accumulates as published."""
    blocks = (
        *(Block(3, 24, 3, stride=2), Block(3, 24, 1)),
        *(Block(5, 32, 6, stride=2), Block(3, 32, 3), Block(5, 32, 1), Block(3, 32, 3)),
        *(Block(5, 64, 6, stride=2), Block(5, 64, 3), Block(5, 64, 1, groups=2), Block(5, 64, 6)),
        *(Block(3, 112, 6), Block(5, 112, 1, groups=2)),
        *(Block(5, 112, 3), Block(3, 112, 1, groups=2)),
        *(Block(5, 184, 6, stride=2), Block(5, 184, 6), Block(5, 184, 3), Block(5, 184, 6)),
        Block(5, 352, 6),
    )
    return FBNet(stem=16, blocks=blocks, features=1504)


def fbnet_b() -> FBNet:
    """4.8 M parameters, 291.1 M multiply-accumulates as published."""
    blocks = (
        Block(3, 16, 1),
        *(Block(3, 24, 6, stride=2), Block(5, 24, 1), Block(3, 24, 1), Block(3, 24, 1)),
        *(Block(5, 32, 6, stride=2), Block(5, 32, 3), Block(3, 32, 6), Block(5, 32, 6)),
        *(Block(5, 64, 6, stride=2), Block(5, 64, 6), Block(5, 64, 3)),
        *(Block(5, 112, 6), Block(3, 112, 1), Block(5, 112, 1), Block(5, 112, 3)),
        *(Block(5, 184, 6, stride=2), Block(5, 184, 1), Block(5, 184, 6), Block(5, 184, 6)),
        Block(3, 352, 6),
    )
    return FBNet(stem=16, blocks=blocks, features=1984)


def fbnet_c() -> FBNet:
    """5.5 M parameters, 378.2 M multiply-accumulates as published."""
    blocks = (
        Block(3, 16, 1),
        *(Block(3, 24, 6, stride=2), Block(3, 24, 1), Block(3, 24, 1)),
        *(Block(5, 32, 6, stride=2), Block(5, 32, 3), Block(5, 32, 6), Block(3, 32, 6)),
        *(Block(5, 64, 6, stride=2), Block(5, 64, 3), Block(5, 64, 6), Block(5, 64, 6)),
        *(Block(5, 112, 6), Block(5, 112, 6), Block(5, 112, 6), Block(5, 112, 3)),
        *(Block(5, 184, 6, stride=2), Block(5, 184, 6), Block(5, 184, 6), Block(5, 184, 6)),
        Block(3, 352, 6),
    )
    return FBNet(stem=16, blocks=blocks, features=1984)


def fbnet_96() -> FBNet:
    """The smallest, for images of 96 x 96; its blocks have no biases before BatchNorm."""
    blocks = (
        Block(3, 8, 1),
        *(Block(3, 16, 6, stride=2), Block(3, 16, 6)),
        *(Block(5, 16, 6, stride=2), Block(5, 16, 6)),
        *(Block(5, 24, 6, stride=2), Block(3, 40, 6)),
        *(Block(5, 72, 6, stride=2), Block(5, 72, 6), Block(5, 128, 6)),
    )
    return FBNet(stem=8, blocks=blocks, features=1416, style=UNBIASED, side=96)
