"""Weights: seeded ones that no exporter can fold away, or the user's, read as data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latbench.errors import UsageError
from latbench.zoo.checkpoint.fit import choose, remarks, tied
from latbench.zoo.checkpoint.read import reading
from latbench.zoo.checkpoint.shards import open_checkpoint

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class WeightsUsed:
    """Which tensors of a file became the weights."""

    key: str
    """The keys that lead to their dictionary, joined by dots; empty for the outermost one."""
    remarks: tuple[str, ...]
    """What was changed or left out."""


def seed_weights(module: nn.Module, seed: int) -> None:
    """Redraw what the network's own initialization left constant, in place.

    A branch that is multiplied by zero (zero-initialized BatchNorm scales) or almost zero (layer
    scales of 1e-5) can be folded away by an exporter or hides an error from the parity check, and
    equal constants can be merged. Tensors with all elements equal are drawn again: around their
    value where it is near one, around zero where it is small.
    """
    import torch

    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            value = float(parameter.flatten()[0]) if parameter.numel() else 0.0
            if not parameter.is_floating_point() or not bool((parameter == value).all()):
                continue
            if abs(value) < 0.5:
                parameter.copy_(_uniform(parameter, -0.1, 0.1, draw))
            else:
                parameter.copy_(value * _uniform(parameter, 0.5, 1.5, draw))


def seed_statistics(module: nn.Module, inputs: tuple[torch.Tensor, ...], seed: int) -> None:
    """Give every BatchNorm statistics that suit what it meets on ``inputs``, with a random part.

    Those of a fresh network are zeros and ones, which fold to nothing, and drawn blindly they let
    the activations of a network without shortcuts grow by 1e17. The true ones would not do either:
    taking off the mean of a channel that hardly varies within one image leaves its rounding errors,
    and scaling enlarges them, layer by layer. So each channel is scaled to about one by its power,
    and shifted by a tenth of that at most.
    """
    import torch
    from torch.nn.modules.batchnorm import _BatchNorm

    draw = torch.Generator().manual_seed(seed)

    def measure(norm: Any, args: tuple[torch.Tensor, ...]) -> None:
        power = args[0].transpose(0, 1).flatten(1).square().mean(1)
        # A channel that is quiet on these inputs need not be on others: all have a part in each.
        power = (power + power.mean()) / 2 + 1e-12
        norm.running_mean.copy_(power.sqrt() * _uniform(power, -0.1, 0.1, draw))
        norm.running_var.copy_(power * _uniform(power, 0.5, 1.5, draw))

    hooks = [
        part.register_forward_pre_hook(measure)
        for part in module.modules()
        if isinstance(part, _BatchNorm) and part.running_mean is not None
    ]
    try:
        with torch.no_grad():
            module(*inputs)
    finally:
        for hook in hooks:
            hook.remove()


def _uniform(like: torch.Tensor, low: float, high: float, draw: torch.Generator) -> torch.Tensor:
    import torch

    return torch.rand(like.shape, generator=draw) * (high - low) + low


def load_weights(module: nn.Module, path: Path, key: str | None = None) -> WeightsUsed:
    """Fill ``module`` from a file of ``torch.save`` or a ``.safetensors`` file, read as data, or
    from several files with an index.

    ``key`` names the dictionary of weights if the file has several. Raises :class:`UsageError` for
    a file that is damaged, a program, or does not fit.
    """
    import torch

    checkpoint = open_checkpoint(path)
    expected = module.state_dict()
    own = [name for name, _ in module.named_buffers() if name not in expected]
    fit, others = choose(checkpoint, expected, own, key)
    state, cast = dict(expected), set[str]()
    with reading(path):
        for name, entry in fit.tensors.items():
            given = entry.tensor.load()
            if given.is_floating_point() and not bool(torch.isfinite(given.float()).all()):
                raise UsageError(f"{path.name}: {name} holds NaN or infinite values")
            if given.dtype != expected[name].dtype:
                cast.add(f"{entry.tensor.dtype} cast to {_type(expected[name])}")
            state[name] = given.to(expected[name].dtype)
    for name in set(expected) - set(fit.tensors):
        for other in set(tied(name, expected)) & set(fit.tensors):
            state[name] = state[other]
    module.load_state_dict(state)
    return WeightsUsed(key=fit.key, remarks=(*remarks(fit, others), *sorted(cast)))


def _type(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
