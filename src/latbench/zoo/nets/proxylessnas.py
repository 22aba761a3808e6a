"""ProxylessNAS, networks searched for the latency on one kind of device each.

Source: H. Cai, L. Zhu, S. Han, *ProxylessNAS: Direct Neural Architecture Search on Target Task and
Hardware*, ICLR 2019, arXiv 1812.00332. ``mobile14`` is the mobile network, 1.4 times as wide.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from latbench.zoo.nets.mbconv import MBConv, Style, conv_bn

CLASSES = 1000
STYLE = Style(activation=nn.ReLU6, norm_eps=1e-3)
STRIDES = (2, 2, 2, 1, 2, 1)

Block = tuple[int, int]
"""Kernel and expansion."""


class ProxylessNAS(nn.Module):
    """(N, 3, H, W) -> (N, 1000) logits.

    ``widths`` are those of the stem, of the first block (3x3, not expanded), of six stages and of
    the features before the classifier; ``stages`` are the blocks in each stage, without those that
    the search has left out. The first block of a stage changes width and resolution.
    """

    input_shape = (3, 224, 224)

    def __init__(self, *, widths: Sequence[int], stages: Sequence[Sequence[Block]]) -> None:
        super().__init__()
        stem, width, *outputs, features = widths
        self.stem = conv_bn(3, stem, 3, STYLE, stride=2)
        blocks = [MBConv(stem, width, kernel=3, expansion=1, style=STYLE)]
        for following, stage, stride in zip(outputs, stages, STRIDES, strict=True):
            for i, (kernel, expansion) in enumerate(stage):
                blocks.append(
                    MBConv(
                        width,
                        following,
                        kernel=kernel,
                        expansion=expansion,
                        style=STYLE,
                        stride=1 if i else stride,
                    )
                )
                width = following
        self.blocks = nn.Sequential(*blocks)
        self.features = conv_bn(width, features, 1, STYLE)
        self.head = nn.Linear(features, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(self.blocks(self.stem(x)))
        logits: Tensor = self.head(x.mean(dim=(2, 3)))
        return logits


MOBILE: tuple[tuple[Block, ...], ...] = (
    ((5, 3), (3, 3)),
    ((7, 3), (3, 3), (5, 3), (5, 3)),
    ((7, 6), (5, 3), (5, 3), (5, 3)),
    ((5, 6), (5, 3), (5, 3), (5, 3)),
    ((7, 6), (7, 6), (7, 3), (7, 3)),
    ((7, 6),),
)


def proxylessnas_mobile() -> ProxylessNAS:
    """4.1 M parameters."""
    return ProxylessNAS(widths=(32, 16, 32, 40, 80, 96, 192, 320, 1280), stages=MOBILE)


def proxylessnas_mobile14() -> ProxylessNAS:
    """6.9 M parameters."""
    return ProxylessNAS(widths=(48, 24, 40, 56, 112, 136, 256, 448, 1792), stages=MOBILE)


def proxylessnas_gpu() -> ProxylessNAS:
    """7.1 M parameters."""
    return ProxylessNAS(
        widths=(40, 24, 32, 56, 112, 128, 256, 432, 1728),
        stages=(
            ((5, 3),),
            ((7, 3), (3, 3)),
            ((7, 6), (5, 3)),
            ((5, 6), (3, 3), (5, 3)),
            ((7, 6), (7, 6), (7, 6), (5, 6)),
            ((7, 6),),
        ),
    )


def proxylessnas_cpu() -> ProxylessNAS:
    """4.4 M parameters."""
    return ProxylessNAS(
        widths=(40, 24, 32, 48, 88, 104, 216, 360, 1432),
        stages=(
            ((3, 6), (3, 3), (3, 3), (3, 3)),
            ((3, 6), (3, 3), (3, 3), (5, 3)),
            ((3, 6), (3, 3)),
            ((5, 6), (3, 3), (3, 3), (3, 3)),
            ((5, 6), (5, 3), (5, 3), (3, 3)),
            ((5, 6),),
        ),
    )
