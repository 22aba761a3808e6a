"""What a network does when it is called: change its inputs, leave parameters unread, draw numbers.

Networks are code of others. Each call gets inputs of its own, and what is unusual is observed and
reported, since it decides whether two calls, and a network and its file, can be compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from latbench.analysis.parity import output_difference
from latbench.schema.artifact import Counts

if TYPE_CHECKING:
    import torch
    from torch import nn


SHOWN = 5


def call(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> object:
    """The outputs for a copy of ``inputs``, without gradients."""
    import torch

    with torch.no_grad():
        return module(*copies(inputs))


def copies(inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """Inputs with the same elements in memory of their own."""
    return tuple(tensor.clone() for tensor in inputs)


def changes_inputs(given: tuple[torch.Tensor, ...], inputs: tuple[torch.Tensor, ...]) -> bool:
    """Whether a call changed ``given``, which were copies of ``inputs`` before."""
    return any(
        tensor._version > 0 or tensor.numpy().tobytes() != before.numpy().tobytes()
        for tensor, before in zip(given, inputs, strict=True)
    )


def copying_inputs(module: nn.Module) -> nn.Module:
    """``module``, called on copies of its inputs, so that every call has the same ones."""
    from torch import nn

    class OwnInputs(nn.Module):
        """``network``, which changes its inputs in place."""

        def __init__(self) -> None:
            super().__init__()
            self.network = module

        def forward(self, *inputs: torch.Tensor) -> Any:
            return self.network(*(tensor.clone() for tensor in inputs))

    return OwnInputs().eval()


def plain_network(built: nn.Module) -> tuple[nn.Module, str | None]:
    """The network in float32, without the wrappers of torch.compile and data-parallel training; and
    what was changed."""
    import torch
    from torch import nn

    changes = []
    while True:
        inner = getattr(built, "_orig_mod", None)
        if isinstance(built, nn.DataParallel):
            inner = built.module
        if not isinstance(inner, nn.Module):
            break
        changes.append(f"{type(built).__name__} unwrapped")
        built = inner
    narrow = sorted(
        {
            str(tensor.dtype).removeprefix("torch.")
            for tensor in built.parameters()
            if tensor.is_floating_point() and tensor.dtype != torch.float32
        }
    )
    if narrow:
        built = built.float()
        changes.append(f"{', '.join(narrow)} cast to float32")
    return built, "; ".join(changes) or None


def script_part(module: nn.Module) -> str | None:
    """The first part that is compiled by TorchScript, if any."""
    import torch

    for name, part in module.named_modules():
        if isinstance(part, torch.jit.ScriptModule):
            return name or type(part).__name__
    return None


def without_unread(
    counts: Counts, module: nn.Module, inputs: tuple[torch.Tensor, ...]
) -> tuple[Counts, str | None]:
    """``counts`` without the parameters that no call reads, and which these are."""
    unread = unread_parameters(module, inputs)
    if not unread:
        return counts, None
    left_out = [module.get_parameter(name) for name in unread]
    left_out = [parameter for parameter in left_out if parameter.numel() > 1]
    counts = msgspec.structs.replace(
        counts,
        parameters=counts.parameters - sum(each.numel() for each in left_out),
        parameter_bytes=counts.parameter_bytes
        - sum(each.numel() * each.element_size() for each in left_out),
    )
    parts = list(dict.fromkeys(name.rpartition(".")[0] or name for name in unread))
    shown = ", ".join(parts[:SHOWN]) + (", …" if len(parts) > SHOWN else "")
    number = sum(module.get_parameter(name).numel() for name in unread)
    return counts, f"{number:,} parameters, which the evaluated forward never reads: {shown}"


def unread_parameters(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> list[str]:
    """Names of the parameters that no operation of a call reads, such as a head for training."""
    from torch.utils._python_dispatch import TorchDispatchMode

    unread = {id(parameter): name for name, parameter in module.named_parameters()}

    class Reading(TorchDispatchMode):
        """Sees every ATen call below autograd."""

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            for tensor in tensors_in((args, kwargs or {})):
                unread.pop(id(tensor), None)
            return func(*args, **(kwargs or {}))

    with Reading():  # type: ignore[no-untyped-call]
        call(module, inputs)
    return list(unread.values())


def repeats(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> bool:
    """Whether two calls with equal inputs have equal outputs up to rounding."""
    one, other = (
        [tensor.detach().numpy() for tensor in tensors_in(call(module, inputs))] for _ in range(2)
    )
    found = output_difference(one, other, "fp32")
    return found.relative <= found.bound


def random_part(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> str:
    """The innermost part that gives different outputs for equal inputs in two calls."""
    calls: list[list[tuple[str, object, object]]] = []

    def after(name: str) -> Any:
        def hook(_: nn.Module, given: object, outputs: object) -> None:
            calls[-1].append((name, _content(given), _content(outputs)))

        return hook

    hooks = [part.register_forward_hook(after(name)) for name, part in module.named_modules()]
    try:
        for _ in range(2):
            calls.append([])
            call(module, inputs)
    finally:
        for hook in hooks:
            hook.remove()
    for (name, given, outputs), (_, again, others) in zip(*calls, strict=False):
        if given == again and outputs != others:
            kind = type(module.get_submodule(name)).__name__
            return f"{name} ({kind})" if name else f"the forward of {kind}"
    return f"the forward of {type(module).__name__}"


def _content(value: object) -> object:
    return tuple(hash(tensor.contiguous().numpy().tobytes()) for tensor in tensors_in(value))


def tensors_in(value: object) -> list[torch.Tensor]:
    """All tensors in nested tuples, lists, dictionaries and data classes, in order."""
    import torch

    if isinstance(value, torch.Tensor):
        return [value]
    if is_dataclass(value) and not isinstance(value, type):
        value = [getattr(value, each.name) for each in fields(value)]
    if isinstance(value, Mapping):
        value = list(value.values())
    return (
        [t for item in value for t in tensors_in(item)] if isinstance(value, list | tuple) else []
    )
