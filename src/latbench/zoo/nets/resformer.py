"""ResFormer, a plain vision transformer for any resolution: convolutions tell the positions.

Source: R. Tian, Z. Wu, Q. Dai, H. Hu, Y. Qiao, Y.-G. Jiang, *ResFormer: Scaling ViTs with
Multi-Resolution Training*, CVPR 2023, arXiv 2212.00776. The positions of the whole image are a
depthwise convolution of sines; those nearby, in each attention, one of the values. What does not
depend on the image is computed once, at deployment, for the size that the network has met last.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from latbench.zoo.nets.mobilevig import CLASSES
from latbench.zoo.nets.tokens import DropPath

PATCH = 16
DEPTH = 12
HEAD_WIDTH = 64
EXPANSION = 4
NORM_EPS = 1e-6
TEMPERATURE = 10_000


class Attention(nn.Module):
    """(N, 1 + H * W, c) -> the same, the first a token for the class, which has no place."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.position = nn.Conv2d(HEAD_WIDTH, HEAD_WIDTH, 3, padding=1, groups=HEAD_WIDTH)
        nn.init.zeros_(self.position.weight)
        assert self.position.bias is not None
        nn.init.zeros_(self.position.bias)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        query, key, value = (
            part.unflatten(2, (-1, HEAD_WIDTH)).transpose(1, 2)
            for part in self.qkv(x).chunk(3, dim=2)
        )
        scores = (query @ key.transpose(2, 3)) * HEAD_WIDTH**-0.5
        maps = value[:, :, 1:].transpose(2, 3).unflatten(3, grid)
        near = self.position(maps.flatten(0, 1)).flatten(2).transpose(1, 2)
        near = near.unflatten(0, value.shape[:2])
        near = torch.cat((torch.zeros_like(near[:, :, :1]), near), dim=2)
        mixed = scores.softmax(dim=-1) @ value + near
        out: Tensor = self.project(mixed.transpose(1, 2).flatten(2))
        return out


class Block(nn.Module):
    """(N, L, c) -> (N, L, c): attention, then a multilayer perceptron, each normed and added."""

    def __init__(self, width: int, drop_path: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.attention = Attention(width)
        self.ffn_norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.ffn = nn.Sequential(
            nn.Linear(width, EXPANSION * width), nn.GELU(), nn.Linear(EXPANSION * width, width)
        )
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        y = self.attention(self.attention_norm(x), grid)
        x = x + self.drop_path(y)
        y = self.ffn(self.ffn_norm(x))
        out: Tensor = x + self.drop_path(y)
        return out


def sines(width: int, grid: tuple[int, int], like: Tensor) -> Tensor:
    """Of rows in the first half of the channels, of columns in the second; 2 pi is the whole image.

    -> (1, width, H, W), computed in the precision of ``like``, but single at least.
    """
    half, dtype = width // 2, torch.promote_types(like.dtype, torch.float32)
    frequency = TEMPERATURE ** -(torch.arange(half, dtype=dtype) // 2 * 2 / half)
    lines = []
    for size in grid:
        turn = torch.arange(1, size + 1, dtype=dtype) / (size + 1e-6) * 2 * math.pi
        angle = turn[:, None] * frequency
        # Sine and cosine by turns.
        lines.append(torch.where(torch.arange(half) % 2 == 0, angle.sin(), angle.cos()).T)
    rows = lines[0][:, :, None].expand(half, *grid)
    columns = lines[1][:, None, :].expand(half, *grid)
    return torch.cat((rows, columns)).unsqueeze(0).to(like)


class ResFormer(nn.Module):
    """(N, 3, H, W) -> (N, 1000) logits; H and W multiples of 16."""

    input_shape = (3, 224, 224)
    position: Tensor | None

    def __init__(self, *, width: int, drop_path: float) -> None:
        super().__init__()
        self.width = width
        self.class_token = nn.Parameter(torch.empty(1, 1, width))
        nn.init.trunc_normal_(self.class_token, std=0.02)
        self.embed = nn.Conv2d(3, width, PATCH, PATCH)
        self.position_conv = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.blocks = nn.ModuleList(
            [Block(width, drop_path * i / (DEPTH - 1)) for i in range(DEPTH)]
        )
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.head = nn.Linear(width, CLASSES)
        self.grid = (self.input_shape[1] // PATCH, self.input_shape[2] // PATCH)
        self.register_buffer("position", None)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        grid = (x.shape[2], x.shape[3])
        if self.position is None:
            self.grid = grid
            x = x + self.position_conv(sines(self.width, grid, x))
        else:
            x = x + self.position
        tokens = x.flatten(2).transpose(1, 2)
        tokens = torch.cat((self.class_token.expand(len(x), -1, -1), tokens), dim=1)
        for block in self.blocks:
            tokens = block(tokens, grid)
        logits: Tensor = self.head(self.norm(tokens)[:, 0])
        return logits

    def switch_to_deploy(self) -> None:
        """Keep the positions instead of their convolution, which is the same for every image."""
        if self.position is None:
            weight = self.position_conv.weight
            with torch.no_grad():
                self.position = self.position_conv(sines(self.width, self.grid, weight))
            del self.position_conv


def resformer_t() -> ResFormer:
    """5.7 M parameters."""
    return ResFormer(width=192, drop_path=0.0)


def resformer_s() -> ResFormer:
    """22.0 M parameters."""
    return ResFormer(width=384, drop_path=0.1)


def resformer_b() -> ResFormer:
    """86.4 M parameters."""
    return ResFormer(width=768, drop_path=0.1)
