"""The deploy form of a network: branches fused, BatchNorm folded."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from latbench.zoo.foreign_code import call, tensors_in
from latbench.zoo.fusing import fuse_branches, same_outputs

if TYPE_CHECKING:
    import torch
    from torch import nn


def deploy_form(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> nn.Module:
    """A copy with branches fused and BatchNorms folded; ``inputs`` to follow it with."""
    return fold_batch_norms(fuse_branches(module, inputs).module, inputs)


def fold_batch_norms(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> nn.Module:
    """A copy without those BatchNorms that take the output of one convolution or linear layer.

    Who follows whom is seen by running it, not read from names or guessed from order. Should
    folding change what the network computes, ``module`` itself is returned: exporters fold too.
    """
    pairs = foldable_pairs(module, inputs)
    if not pairs:
        return module
    folded = copy.deepcopy(module)
    for layer, norm in pairs:
        _fold(folded.get_submodule(layer), folded.get_submodule(norm))
        parent, _, name = norm.rpartition(".")
        setattr(folded.get_submodule(parent), name, _remainder(folded.get_submodule(norm)))
    same = same_outputs(call(module, inputs), call(folded, inputs))
    return folded if same else module


def foldable_pairs(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> list[tuple[str, str]]:
    """Names of (layer, BatchNorm), each called once, the layer's output used by nothing else."""
    from torch import nn
    from torch.overrides import TorchFunctionMode

    if not any(map(_foldable, module.modules())):
        return []
    # What layers gave, kept alive: an id means nothing once its tensor is gone.
    made: dict[int, tuple[str, torch.Tensor]] = {}
    used: dict[int, int] = {}
    calls: dict[str, int] = {}
    follows: dict[str, tuple[str, torch.Tensor]] = {}

    class Uses(TorchFunctionMode):
        """Counts how often each layer's output is an argument."""

        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            result = func(*args, **(kwargs or {}))
            # What gives no tensor (a shape, a number of axes) uses no element.
            if tensors_in(result):
                for value in tensors_in((args, kwargs)):
                    if id(value) in made:
                        used[id(value)] = used.get(id(value), 0) + 1
            return result

    def after_layer(name: str) -> Any:
        def hook(_: nn.Module, __: Any, output: torch.Tensor) -> None:
            calls[name] = calls.get(name, 0) + 1
            made[id(output)] = (name, output)

        return hook

    def before_norm(name: str) -> Any:
        def hook(_: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            calls[name] = calls.get(name, 0) + 1
            if args and id(args[0]) in made:
                follows[name] = made[id(args[0])]

        return hook

    handles = []
    for name, part in module.named_modules():
        if isinstance(part, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear):
            handles.append(part.register_forward_hook(after_layer(name)))
        elif _foldable(part):
            handles.append(part.register_forward_pre_hook(before_norm(name)))
    try:
        with Uses():
            call(module, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return [
        (layer, norm)
        for norm, (layer, output) in follows.items()
        if calls[norm] == calls[layer] == 1
        and used.get(id(output)) == 1
        and not (isinstance(module.get_submodule(layer), nn.Linear) and output.ndim != 2)
    ]


def _foldable(part: nn.Module) -> bool:
    """A plain BatchNorm with running statistics, or timm's, which carries an activation."""
    from torch import nn

    if not isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
        return False
    plain = type(part) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    with_act = isinstance(getattr(part, "act", None), nn.Module)
    return (plain or with_act) and part.running_mean is not None


def _remainder(norm: nn.Module) -> nn.Module:
    """Replacement of a folded BatchNorm."""
    from torch import nn

    act = getattr(norm, "act", None)
    return act if isinstance(act, nn.Module) else nn.Identity()


def _fold(layer: Any, norm: Any) -> None:
    """Scale the layer's filters and shift its bias, in float64 so that nothing is rounded twice."""
    import torch
    from torch import nn

    with torch.no_grad():
        scale = (norm.running_var.double() + norm.eps).rsqrt()
        if norm.weight is not None:
            scale = scale * norm.weight.double()
        shift = -norm.running_mean.double()
        if layer.bias is not None:
            shift = shift + layer.bias.double()
        bias = shift * scale + (norm.bias.double() if norm.bias is not None else 0)
        shape = (-1, *[1] * (layer.weight.ndim - 1))
        dtype = layer.weight.dtype
        layer.weight = nn.Parameter((layer.weight.double() * scale.reshape(shape)).to(dtype))
        layer.bias = nn.Parameter(bias.to(dtype))
