"""Methods that are trained beside a network's own layers and merged into them afterwards.

Sources: D. Lian, D. Zhou, J. Feng, X. Wang, *Scaling & Shifting Your Features: A New Baseline for
Efficient Model Tuning*, arXiv 2210.08823 (2022), and the authors' release; M. Wortsman et al.,
*Model soups: averaging weights of multiple fine-tuned models improves accuracy without increasing
inference time*, arXiv 2203.05482 (2022).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

NORMS = (nn.LayerNorm, nn.GroupNorm, _BatchNorm)
LAYERS = (nn.Linear, _ConvNd)
SPREAD = 0.1
"""Of random scales around 1, of shifts around 0 and of weights between trainings: enough to be seen
in the outputs, too little to drive a deep network's activations out of range."""


class ScaleAndShift(nn.Module):
    """Each channel times a number, and another added. The shape stays."""

    def __init__(self, scale: Tensor, shift: Tensor, trailing: bool) -> None:
        """``scale`` and ``shift``: (c,); ``trailing``: whether channels are the last axis."""
        super().__init__()
        self.scale = nn.Parameter(scale, requires_grad=False)
        self.shift = nn.Parameter(shift, requires_grad=False)
        self.trailing = trailing

    def forward(self, x: Tensor) -> Tensor:
        if self.trailing:
            return x * self.scale + self.shift
        shape = (-1, *[1] * (x.ndim - 2))
        return x * self.scale.reshape(shape) + self.shift.reshape(shape)


class Together(nn.Module):
    """The mean of what several networks give."""

    def __init__(self, parts: Sequence[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        found = [part(x) for part in self.parts]
        outputs = [one if isinstance(one, tuple) else (one,) for one in found]
        return tuple(torch.stack(same).mean(dim=0) for same in zip(*outputs, strict=True))


def places(module: nn.Module) -> list[str]:
    """Where SSF puts a scale and shift: after each norm, linear layer and convolution.

    Layers without a bias are left out, as in its authors' code (those between stages of Swin).

    Norms that carry an activation with them are left out: it would come too late there.
    """
    return [
        name
        for name, part in module.named_modules()
        if (isinstance(part, NORMS) and not isinstance(getattr(part, "act", None), nn.Module))
        or (isinstance(part, LAYERS) and part.bias is not None)
    ]


def with_scale_and_shift(module: nn.Module, names: Sequence[str]) -> nn.Module:
    """A copy in which a random scale and shift follows each of the modules called ``names``."""
    draw = torch.Generator().manual_seed(0)
    applied = copy.deepcopy(module)
    for name in names:
        layer = applied.get_submodule(name)
        width = _width(layer)
        scale, shift = (SPREAD * torch.randn(width, generator=draw) for _ in range(2))
        last = isinstance(layer, nn.Linear | nn.LayerNorm) and "2d" not in type(layer).__name__
        follows = ScaleAndShift(1 + scale, shift, last).to(next(module.parameters()).dtype)
        _replace(applied, name, nn.Sequential(layer, follows))
    return applied


def merged(applied: nn.Module) -> nn.Module:
    """A copy in which each scale and shift is taken in by weight and bias of the layer before it.

    It stays where there is none with both.
    """
    found = copy.deepcopy(applied)
    for name, pair in list(found.named_modules()):
        if isinstance(pair, nn.Sequential) and len(pair) == 2:
            layer, follows = pair
            if isinstance(follows, ScaleAndShift) and _take_in(layer, follows):
                _replace(found, name, layer)
    return found


def trainings(module: nn.Module, count: int) -> list[nn.Module]:
    """Copies whose weights have gone apart."""
    draw = torch.Generator().manual_seed(0)
    parts = [copy.deepcopy(module) for _ in range(count)]
    for part in parts:
        for parameter in part.parameters():
            noise = torch.randn(parameter.shape, generator=draw)
            parameter.mul_(1 + SPREAD * noise.to(parameter.dtype))
    return parts


def averaged(parts: Sequence[nn.Module]) -> nn.Module:
    """A network of the mean weights; what is counted in integers is the first one's."""
    found = copy.deepcopy(parts[0])
    states = [part.state_dict() for part in parts]
    mean = {
        name: torch.stack([state[name] for state in states]).mean(dim=0)
        for name, tensor in states[0].items()
        if tensor.is_floating_point()
    }
    found.load_state_dict(mean, strict=False)
    return found


def _width(layer: nn.Module) -> int:
    """Channels that it gives."""
    for name in ("out_features", "out_channels", "num_features", "num_channels"):
        width = getattr(layer, name, None)
        if isinstance(width, int):
            return width
    assert isinstance(layer, nn.LayerNorm)
    return layer.normalized_shape[-1]


def _take_in(layer: nn.Module, follows: ScaleAndShift) -> bool:
    """Whether it could."""
    weight, bias = getattr(layer, "weight", None), getattr(layer, "bias", None)
    if not isinstance(layer, NORMS + LAYERS) or weight is None or bias is None:
        return False
    with torch.no_grad():
        # Transposed convolutions have the channels that they give second.
        outputs = 1 if getattr(layer, "transposed", False) else 0
        shape = [1] * weight.ndim
        shape[outputs] = -1
        weight.mul_(follows.scale.reshape(shape))
        bias.mul_(follows.scale).add_(follows.shift)
    return True


def _replace(module: nn.Module, name: str, part: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(module.get_submodule(parent), last, part)
