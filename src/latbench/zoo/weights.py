"""Weights: seeded ones that no exporter can fold away, or the user's, read as plain data."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latbench.errors import StageError, UsageError, first_line

if TYPE_CHECKING:
    import torch
    from torch import nn

NESTINGS = ("model_ema", "state_dict_ema", "ema", "state_dict", "model", "module", "params")
"""Keys under which training scripts keep the weights proper, the averaged ones first."""
SHOWN = 5


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


def load_weights(module: nn.Module, path: Path) -> None:
    """Fill ``module`` from a ``.safetensors`` file, or from a ``.pth`` of plain tensors.

    Raises :class:`UsageError` for a file that would execute code, is damaged, or does not fit.
    """
    import torch

    given = _read(path)
    expected = module.state_dict()
    given = _without_counters(_without_prefix(given), expected)
    missing = sorted(set(expected) - set(given))
    extra = sorted(set(given) - set(expected))
    misshaped = [
        f"{name} is {_shape(given[name])}, the model has {_shape(expected[name])}"
        for name in sorted(set(given) & set(expected))
        if given[name].shape != expected[name].shape
    ]
    problems = [
        f"{len(names)} {what}: {', '.join(names[:SHOWN])}{', …' if len(names) > SHOWN else ''}"
        for what, names in (("missing", missing), ("extra", extra), ("mis-shaped", misshaped))
        if names
    ]
    if problems:
        raise UsageError(
            f"{path.name} does not fit the model: {'; '.join(problems)}",
            hint="are they the weights of this variant, head and version?",
        )
    for name, tensor in given.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise UsageError(f"{path.name}: {name} holds NaN or infinite values")
    module.load_state_dict(given)


def _read(path: Path) -> dict[str, torch.Tensor]:
    import torch

    if path.suffix == ".safetensors":
        tree: object = _read_safetensors(path)
    else:
        _refuse_programs(path)
        try:
            tree = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise UsageError(
                f"{path.name} holds more than tensors, and reading it would execute code: "
                f"{first_line(error)}",
                hint="save the state_dict alone, best as .safetensors",
            ) from error
        except (RuntimeError, EOFError, ValueError, OSError, KeyError, AssertionError) as error:
            raise UsageError(
                f"{path.name} cannot be read as weights: {first_line(error)}",
                hint="truncated, or not a file of weights",
            ) from error
    while isinstance(tree, dict):
        nested = next((k for k in NESTINGS if isinstance(tree.get(k), dict)), None)
        if nested is None:
            break
        tree = tree[nested]
    if not isinstance(tree, dict) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in tree.items()
    ):
        raise UsageError(f"{path.name} is not a dictionary of tensors")
    return tree


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ModuleNotFoundError as error:
        raise StageError(
            "build",
            "reading .safetensors needs the safetensors package",
            hint="pip install 'latbench[export]'",
            kind="unavailable",
        ) from error
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise UsageError(
            f"{path.name} cannot be read as weights: {first_line(error)}",
            hint="truncated, or not a file of weights",
        ) from error


def _refuse_programs(path: Path) -> None:
    """Refuse TorchScript archives, zip files with code, with a clearer message than torch's."""
    if path.stat().st_size == 0:
        raise UsageError(f"{path.name} is empty")
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any("/code/" in name or name.endswith("constants.pkl") for name in names):
        raise UsageError(
            f"{path.name} is a TorchScript program, not a file of weights",
            hint="save the state_dict alone, best as .safetensors",
        )


def _without_prefix(given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The names without the prefix ``module.`` that data-parallel training adds."""
    if given and all(name.startswith("module.") for name in given):
        return {name.removeprefix("module."): tensor for name, tensor in given.items()}
    return given


def _without_counters(
    given: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Add BatchNorm's batch counters if they are missing: inference does not use them."""
    counters = {
        name: tensor
        for name, tensor in expected.items()
        if name.endswith("num_batches_tracked") and name not in given
    }
    return {**given, **counters}


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a scalar"
