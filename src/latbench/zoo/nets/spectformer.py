"""SpectFormer: gates on the frequencies of the image in two stages, attention in the other two.

Source: B. N. Patro, V. P. Namboodiri, V. S. Agneeswaran, *SpectFormer: Frequency and Attention is
what you need in a Vision Transformer*, arXiv 2304.06446 (2023), the hierarchical variants. Trained
with token labelling, as there: a second head looks at every token, and half of the largest logit
over all tokens is added. Tensors are (N, L, c) between blocks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from latbench.zoo.nets.mobilevig import CLASSES
from latbench.zoo.nets.tokens import DropPath

EXPANSIONS = (8, 8, 4, 4)
SPECTRAL_STAGES = 2
HEAD_WIDTH = 32
NORM_EPS = 1e-6


def layer_norm(width: int) -> nn.LayerNorm:
    """(..., width) -> the same."""
    return nn.LayerNorm(width, eps=NORM_EPS)


class SpectralGate(nn.Module):
    """(N, side * side, c) -> the same: each frequency of each channel times a learned number."""

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        self.side = side
        # Real and imaginary part last. Of a real image half of the columns say it all.
        self.weight = nn.Parameter(0.02 * torch.randn(side, side // 2 + 1, width, 2))

    def forward(self, x: Tensor) -> Tensor:
        x = x.unflatten(1, (self.side, self.side))
        spectrum = torch.fft.rfft2(x, dim=(1, 2), norm="ortho")
        spectrum = spectrum * torch.view_as_complex(self.weight)
        x = torch.fft.irfft2(spectrum, s=(self.side, self.side), dim=(1, 2), norm="ortho")
        return x.flatten(1, 2)


class Attention(nn.Module):
    """(N, L, c) -> (N, L, c)."""

    def __init__(self, width: int, *, keys_first: bool = False) -> None:
        super().__init__()
        if keys_first:
            # Held free before the query, in the order of the authors' weights.
            self.register_module("key_value", None)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.project = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.attend(x, x)

    def attend(self, asking: Tensor, asked: Tensor) -> Tensor:
        """(N, M, c) and (N, L, c) -> (N, M, c)."""
        key, value = self.key_value(asked).chunk(2, dim=2)
        query, key, value = (
            part.unflatten(2, (-1, HEAD_WIDTH)).transpose(1, 2)
            for part in (self.query(asking), key, value)
        )
        scores = (query @ key.transpose(2, 3)) * HEAD_WIDTH**-0.5
        mixed = scores.softmax(dim=-1) @ value
        out: Tensor = self.project(mixed.transpose(1, 2).flatten(2))
        return out


class FFN(nn.Module):
    """(N, side * side, c) -> the same: wider, depthwise 3x3, GELU, back."""

    def __init__(self, width: int, expansion: int, side: int) -> None:
        super().__init__()
        inner = width * expansion
        self.side = side
        self.expand = nn.Linear(width, inner)
        self.depthwise = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.act = nn.GELU()
        self.project = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.expand(x).transpose(1, 2).unflatten(2, (self.side, self.side))
        out: Tensor = self.project(self.act(self.depthwise(maps).flatten(2).transpose(1, 2)))
        return out


class Block(nn.Module):
    """(N, L, c) -> (N, L, c): ``mixer``, then the FFN, each normed and added."""

    def __init__(
        self, width: int, mixer: nn.Module, expansion: int, side: int, drop_path: float
    ) -> None:
        super().__init__()
        self.mixer_norm = layer_norm(width)
        self.ffn_norm = layer_norm(width)
        self.mixer = mixer
        self.ffn = FFN(width, expansion, side)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.mixer(self.mixer_norm(x)))
        out: Tensor = x + self.drop_path(self.ffn(self.ffn_norm(x)))
        return out


class ClassBlock(nn.Module):
    """(N, L, c) -> (N, 1 + L, c): the mean token attends to itself and all others; these stay."""

    def __init__(self, width: int, expansion: int) -> None:
        super().__init__()
        self.attention_norm = layer_norm(width)
        self.ffn_norm = layer_norm(width)
        self.attention = Attention(width, keys_first=True)
        self.ffn = nn.Sequential(
            nn.Linear(width, expansion * width), nn.GELU(), nn.Linear(expansion * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        token = x.mean(dim=1, keepdim=True)
        normed = self.attention_norm(torch.cat((token, x), dim=1))
        token = token + self.attention.attend(normed[:, :1], normed)
        token = token + self.ffn(self.ffn_norm(token))
        return torch.cat((token, x), dim=1)


class Stem(nn.Sequential):
    """(N, 3, H, W) -> (N, width, H/4, W/4)."""

    def __init__(self, inner: int, width: int) -> None:
        layers: list[nn.Module] = []
        for inputs, kernel, stride in ((3, 7, 2), (inner, 3, 1), (inner, 3, 1)):
            layers.append(nn.Conv2d(inputs, inner, kernel, stride, kernel // 2, bias=False))
            layers += [nn.BatchNorm2d(inner), nn.ReLU()]
        super().__init__(*layers, nn.Conv2d(inner, width, 3, 2, 1))


class SpectFormer(nn.Module):
    """(N, 3, 224, 224) -> (N, 1000) logits; in training those of the mean token and of all others.

    Four stages of ``depths`` blocks; ``stem`` is the width inside of the stem.
    """

    input_shape = (3, 224, 224)

    def __init__(self, *, stem: int, widths: Sequence[int], depths: Sequence[int]) -> None:
        super().__init__()
        side = self.input_shape[1] // 4
        self.stages = nn.ModuleList()
        inputs = 0
        for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            self.stages.append(nn.Conv2d(inputs, width, 3, 2, 1) if stage else Stem(stem, width))
            # With PyTorch's own epsilon, unlike all others.
            self.stages.append(nn.LayerNorm(width))
            for _ in range(depth):
                mixer = SpectralGate(width, side) if stage < SPECTRAL_STAGES else Attention(width)
                self.stages.append(Block(width, mixer, EXPANSIONS[stage], side, 0.0))
            if stage < len(widths) - 1:
                self.stages.append(layer_norm(width))
            inputs, side = width, side // 2
        # In the order of the authors' weights, the last norm is before the class block.
        self.norm = layer_norm(inputs)
        self.class_block = ClassBlock(inputs, EXPANSIONS[-1])
        self.head = nn.Linear(inputs, CLASSES)
        self.token_head = nn.Linear(inputs, CLASSES)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        for part in self.stages:
            if isinstance(part, nn.Conv2d | Stem):
                if x.ndim == 3:
                    side = int(x.shape[1] ** 0.5)
                    x = x.transpose(1, 2).unflatten(2, (side, side))
                x = part(x).flatten(2).transpose(1, 2)
            else:
                x = part(x)
        x = self.norm(self.class_block(x))
        logits, others = self.head(x[:, 0]), self.token_head(x[:, 1:])
        return (logits, others) if self.training else logits + 0.5 * others.amax(dim=1)


def spectformer_s() -> SpectFormer:
    """22.2 M parameters."""
    return SpectFormer(stem=32, widths=(64, 128, 320, 448), depths=(3, 4, 6, 3))


def spectformer_b() -> SpectFormer:
    """33.1 M parameters."""
    return SpectFormer(stem=64, widths=(64, 128, 320, 512), depths=(3, 4, 12, 3))


def spectformer_l() -> SpectFormer:
    """54.7 M parameters."""
    return SpectFormer(stem=64, widths=(96, 192, 384, 512), depths=(3, 6, 18, 3))
