"""Swin Transformers whose first two stages attend to the whole image at a linear cost.

Sources: D. Han, X. Pan, Y. Han, S. Song, G. Huang, *FLatten Transformer: Vision Transformer using
Focused Linear Attention*, ICCV 2023, arXiv 2308.00442; J. Guo, X. Chen, Y. Tang, Y. Wang, *SLAB:
Efficient Transformers with Simplified Linear Attention and Progressive Re-parameterized Batch
Normalization*, ICML 2024, arXiv 2405.11582. The last two stages are Swin's. SLAB has no norm left
once it is deployed: each is an affine map by channel, which the linear layer beside it takes in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from latbench.zoo.nets.mobilevig import CLASSES
from latbench.zoo.nets.prepbn import PRepBN, absorb_after, absorb_before
from latbench.zoo.nets.swin import HEAD_WIDTH, WindowAttention
from latbench.zoo.nets.tokens import DropPath

WIDTH = 96
PATCH = 4
EXPANSION = 4
LOCAL_KERNEL = 5
EPS = 1e-6

Attention = Callable[[int, int], nn.Module]
"""(width, side of the square map) -> (N, L, c) to (N, L, c)."""


class LinearAttention(nn.Module):
    """Attention without softmax: keys meet values first, so the cost is linear in the tokens.

    (N, L, c) -> (N, L, c), for a square map of L tokens. ReLU makes queries and keys positive; keys
    have a learned position. A depthwise 5x5 convolution of the values, the same for each head, is
    added.
    """

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        self.side = side
        # Held free for focused attention, in the order of the authors' weights.
        self.register_parameter("scale", None)
        self.position = nn.Parameter(torch.zeros(1, side * side, width))
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.local = nn.Conv2d(
            HEAD_WIDTH, HEAD_WIDTH, LOCAL_KERNEL, padding=LOCAL_KERNEL // 2, groups=HEAD_WIDTH
        )

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x).chunk(3, dim=-1)
        query, key = self.features(query, key + self.position)
        query, key, value = heads(query), heads(key), heads(value)
        mixed = self.mix(query, key, value) + self.nearby(value)
        out: Tensor = self.project(mixed.transpose(1, 2).flatten(2))
        return out

    def features(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """Both (N, L, c) and not negative."""
        return functional.relu(query), functional.relu(key)

    def mix(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """All (N, heads, L, width of a head)."""
        total = query @ key.sum(dim=2).unsqueeze(3)
        mixed: Tensor = query @ (key.transpose(2, 3) @ value) / (total + EPS)
        return mixed

    def nearby(self, value: Tensor) -> Tensor:
        """(N, heads, L, width of a head) -> the same."""
        maps = value.flatten(0, 1).transpose(1, 2).unflatten(2, (self.side, self.side))
        out: Tensor = self.local(maps).flatten(2).transpose(1, 2)
        out = out.unflatten(0, value.shape[:2])
        return out


class FocusedAttention(LinearAttention):
    """Linear attention whose features are cubed at the same length, which points them more sharply
    at single directions; learned scales divide them before."""

    def __init__(self, width: int, side: int) -> None:
        super().__init__(width, side)
        self.scale = nn.Parameter(torch.zeros(1, 1, width))

    def features(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        scale = functional.softplus(self.scale)
        query, key = functional.relu(query) + EPS, functional.relu(key) + EPS
        return focused(query / scale), focused(key / scale)

    def mix(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        # In means instead of sums, with the tokens' number split over both factors.
        # The release has this since May 2024; before it, in sums, the epsilon weighed less.
        share = key.shape[2] ** -0.5
        mean = query @ key.mean(dim=2).unsqueeze(3)
        mixed: Tensor = query @ ((key.transpose(2, 3) * share) @ (value * share)) / (mean + EPS)
        return mixed


def focused(x: Tensor) -> Tensor:
    """Cubed, at the length that it had. (N, L, c) -> (N, L, c)."""
    cubed = x**3
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    out: Tensor = cubed / torch.linalg.vector_norm(cubed, dim=-1, keepdim=True) * length
    return out


def heads(x: Tensor) -> Tensor:
    """(N, L, c) -> (N, heads, L, width of a head)."""
    out: Tensor = x.unflatten(2, (-1, HEAD_WIDTH)).transpose(1, 2)
    return out


class Block(nn.Module):
    """(N, L, c) -> (N, L, c): attention, then a multilayer perceptron, each normed and added."""

    def __init__(
        self, width: int, attention: nn.Module, norm: Callable[[int], nn.Module], drop_path: float
    ) -> None:
        super().__init__()
        self.attention_norm = norm(width)
        self.attention = attention
        self.ffn_norm = norm(width)
        self.expand = nn.Linear(width, EXPANSION * width)
        self.act = nn.GELU()
        self.project = nn.Linear(EXPANSION * width, width)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        y = self.attention(self.attention_norm(x))
        x = x + self.drop_path(y)
        y = self.project(self.act(self.expand(self.ffn_norm(x))))
        out: Tensor = x + self.drop_path(y)
        return out

    def switch_to_deploy(self) -> None:
        """Let the linear layers behind them take in the norms, if those can be."""
        qkv = self.attention.qkv
        assert isinstance(qkv, nn.Linear)
        self.attention_norm = absorb_after(self.attention_norm, qkv)
        self.ffn_norm = absorb_after(self.ffn_norm, self.expand)


class Merge(nn.Module):
    """(N, L, c) -> (N, L/4, 2c): four neighbours joined, normed and narrowed."""

    def __init__(self, width: int, side: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.side = side
        self.reduce = nn.Linear(4 * width, 2 * width, bias=False)
        self.norm = norm(4 * width)

    def forward(self, x: Tensor) -> Tensor:
        x = x.unflatten(1, (self.side, self.side))
        # Down the columns first, as Swin has it.
        corners = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        y: Tensor = self.reduce(self.norm(torch.cat(corners, dim=-1).flatten(1, 2)))
        return y

    def switch_to_deploy(self) -> None:
        self.norm = absorb_after(self.norm, self.reduce)


class LinearSwin(nn.Module):
    """(N, 3, 224, 224) -> (N, 1000) logits.

    Two stages with ``linear`` attention over the whole map, two with Swin's windows; ``norm`` takes
    and gives (N, L, c).
    """

    input_shape = (3, 224, 224)

    def __init__(
        self,
        *,
        depths: Sequence[int],
        linear: Attention,
        norm: Callable[[int], nn.Module],
        drop_path: float,
    ) -> None:
        super().__init__()
        drop = iter([drop_path * i / (sum(depths) - 1) for i in range(sum(depths))])
        width, side = WIDTH, self.input_shape[1] // PATCH
        self.embed = nn.Conv2d(3, width, PATCH, PATCH)
        self.embed_norm = norm(width)
        blocks: list[nn.Module] = []
        for stage, depth in enumerate(depths):
            if stage:
                blocks.append(Merge(width, side, norm))
                width, side = 2 * width, side // 2
            for i in range(depth):
                attention = (
                    linear(width, side)
                    if stage < 2
                    else WindowAttention(width, side, shifted=i % 2 == 1)
                )
                blocks.append(Block(width, attention, norm, next(drop)))
        self.blocks = nn.Sequential(*blocks)
        self.norm = norm(width)
        self.head = nn.Linear(width, CLASSES)
        for part in self.modules():
            if isinstance(part, nn.Linear):
                nn.init.trunc_normal_(part.weight, std=0.02)
                if part.bias is not None:
                    nn.init.zeros_(part.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed_norm(self.embed(x).flatten(2).transpose(1, 2))
        logits: Tensor = self.head(self.norm(self.blocks(x)).mean(dim=1))
        return logits

    def switch_to_deploy(self) -> None:
        """Averaging lies between the last norm and the head, and changes nothing: it is linear."""
        self.embed_norm = absorb_before(self.embed_norm, self.embed)
        self.norm = absorb_after(self.norm, self.head)


def slab_swin_t() -> LinearSwin:
    """Simplified linear attention; PRepBN, folded for deployment."""
    return LinearSwin(depths=(2, 2, 6, 2), linear=LinearAttention, norm=PRepBN, drop_path=0.2)


def slab_swin_s() -> LinearSwin:
    """Simplified linear attention; PRepBN, folded for deployment."""
    return LinearSwin(depths=(2, 2, 18, 2), linear=LinearAttention, norm=PRepBN, drop_path=0.3)


def flatten_swin_t() -> LinearSwin:
    """Focused linear attention; LayerNorm."""
    return LinearSwin(
        depths=(2, 2, 6, 2), linear=FocusedAttention, norm=nn.LayerNorm, drop_path=0.2
    )


def flatten_swin_s() -> LinearSwin:
    """Focused linear attention; LayerNorm. 51 M parameters, 8.7 G as published."""
    return LinearSwin(
        depths=(2, 2, 18, 2), linear=FocusedAttention, norm=nn.LayerNorm, drop_path=0.3
    )
