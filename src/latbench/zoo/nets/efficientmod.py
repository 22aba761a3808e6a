"""EfficientMod, which modulates values by a context from large depthwise convolutions.

Source: X. Ma, X. Dai, J. Yang, B. Xiao, Y. Chen, Y. Fu, L. Yuan, *Efficient Modulation for Vision
Networks*, ICLR 2024, arXiv 2403.19963. Tensors are channels-last, (N, H, W, c), except around
convolutions. The later stages of three variants end with blocks of ordinary attention.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from latbench.zoo.nets.mobilevig import CLASSES
from latbench.zoo.nets.tokens import DropPath

LAYER_SCALE = 1e-4
CONTEXT_KERNEL = 7
HEADS = 8
LEAST_HEAD_WIDTH = 32


class PatchEmbedding(nn.Module):
    """(N, H, W, inputs) -> (N, H/stride, W/stride, width): overlapping convolution, LayerNorm."""

    def __init__(self, inputs: int, width: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, width, kernel, stride, kernel // 2)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        return y


class Modulation(nn.Module):
    """(N, H, W, c) -> (N, H, W, c): values, c * expansion wide, times a context that is c wide.

    The context is repeated to the values' width. At expansion 1 the values have no activation.
    """

    def __init__(self, width: int, expansion: int) -> None:
        super().__init__()
        self.expansion = expansion
        self.value = nn.Linear(width, width * expansion)
        self.squeeze = nn.Linear(width, width)
        self.unsqueeze = nn.Linear(width, width)
        self.conv = nn.Conv2d(
            width, width, CONTEXT_KERNEL, padding=CONTEXT_KERNEL // 2, groups=width
        )
        self.project = nn.Linear(width * expansion, width)

    def forward(self, x: Tensor) -> Tensor:
        near = functional.gelu(self.conv(self.squeeze(x).permute(0, 3, 1, 2)))
        context = self.unsqueeze(near.permute(0, 2, 3, 1))
        value = self.value(x)
        if self.expansion > 1:
            value = functional.gelu(value)
            context = context.repeat(1, 1, 1, self.expansion)
        out: Tensor = self.project(value * context)
        return out


class ModulationBlock(nn.Module):
    """(N, H, W, c) -> (N, H, W, c): normalised, modulated, scaled, added."""

    def __init__(self, width: int, expansion: int, drop_path: float) -> None:
        super().__init__()
        self.layer_scale = nn.Parameter(torch.full((width,), LAYER_SCALE))
        self.norm = nn.LayerNorm(width)
        self.modulation = Modulation(width, expansion)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.drop_path(self.layer_scale * self.modulation(self.norm(x)))
        return out


class Attention(nn.Module):
    """(N, L, c) -> (N, L, c): eight heads, never narrower than 32, and no bias before them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head_width = max(width // HEADS, LEAST_HEAD_WIDTH)
        inner = HEADS * self.head_width
        self.qkv = nn.Linear(width, 3 * inner, bias=False)
        self.project = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        images, tokens, _ = x.shape
        qkv = self.qkv(x).reshape(images, tokens, 3, HEADS, self.head_width)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.project(mixed.transpose(1, 2).flatten(2))
        return out


class AttentionBlock(nn.Module):
    """(N, H, W, c) -> (N, H, W, c): attention, then a multilayer perceptron, each added."""

    def __init__(self, width: int, expansion: int, drop_path: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = Attention(width)
        self.ffn = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, width * expansion),
            nn.GELU(),
            nn.Linear(width * expansion, width),
        )
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        grid = x.shape[1:3]
        x = x.flatten(1, 2)
        x = x + self.drop_path(self.attention(self.norm(x)))
        x = x + self.drop_path(self.ffn(x))
        out: Tensor = x.unflatten(1, grid)
        return out


class EfficientMod(nn.Module):
    """(N, 3, H, W) -> (N, 1000) logits.

    Each of the four stages has ``depths`` modulation blocks, whose expansion alternates between 1
    and ``expansion``, and ``attentions`` attention blocks of the ``attention_expansions``.
    """

    input_shape = (3, 224, 224)

    def __init__(
        self,
        *,
        widths: Sequence[int],
        depths: Sequence[int],
        expansion: int,
        attentions: Sequence[int] = (0, 0, 0, 0),
        attention_expansions: Sequence[int] = (4, 4, 4, 4),
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        total = sum(depths) + sum(attentions)
        drop = iter([drop_path * i / (total - 1) for i in range(total)])
        blocks: list[nn.Module] = []
        inputs = 3
        for width, depth, attention, by in zip(
            widths, depths, attentions, attention_expansions, strict=True
        ):
            kernel, stride = (3, 2) if blocks else (7, 4)
            blocks.append(PatchEmbedding(inputs, width, kernel, stride))
            blocks += [
                ModulationBlock(width, expansion if i % 2 else 1, next(drop)) for i in range(depth)
            ]
            blocks += [AttentionBlock(width, by, next(drop)) for _ in range(attention)]
            inputs = width
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(inputs)
        self.head = nn.Linear(inputs, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.blocks(x.permute(0, 2, 3, 1)))
        logits: Tensor = self.head(x.mean(dim=(1, 2)))
        return logits


def efficientmod_xxs() -> EfficientMod:
    """4.7 M parameters."""
    return EfficientMod(
        widths=(32, 64, 128, 256), depths=(2, 2, 6, 2), expansion=6, attentions=(0, 0, 1, 2)
    )


def efficientmod_xs() -> EfficientMod:
    """6.6 M parameters."""
    return EfficientMod(
        widths=(32, 64, 144, 288), depths=(3, 3, 4, 2), expansion=4, attentions=(0, 0, 3, 3)
    )


def efficientmod_s() -> EfficientMod:
    """12.9 M parameters."""
    return EfficientMod(
        widths=(32, 64, 144, 312),
        depths=(4, 4, 8, 4),
        expansion=6,
        attentions=(0, 0, 4, 4),
        attention_expansions=(4, 4, 4, 5),
        drop_path=0.02,
    )


def efficientmod_s_conv() -> EfficientMod:
    """12.9 M parameters, without attention."""
    return EfficientMod(
        widths=(40, 80, 160, 344), depths=(4, 4, 12, 8), expansion=6, drop_path=0.02
    )
