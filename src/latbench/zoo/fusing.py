"""Ask the parts of a network to fuse their branches, by the methods that authors give them."""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from latbench.errors import first_line
from latbench.zoo.foreign_code import call, tensors_in

if TYPE_CHECKING:
    import torch
    from torch import nn

FUSION_TOLERANCE = 1e-4
"""Relative tolerance; folding in fp32 moved outputs by 1e-6."""
METHODS = re.compile(
    r"switch_to_(deploy|inference)\w*|convert_to_deploy|re_?param\w*|structural_re_?param\w*"
    r"|fuse(_\w+)?|merge(_\w+)?"
)
"""Names of such methods in RepVGG, MobileOne, RepViT, LeViT, YOLO, RepLKNet and code like theirs.
They change the part in place, or return what replaces it."""


@dataclass(frozen=True, kw_only=True)
class Fused:
    """A network after its parts were asked."""

    module: nn.Module
    done: tuple[str, ...] = ()
    """Methods that were called, by class."""
    refused: tuple[str, ...] = ()
    """Methods that were not, because they fail or change the outputs."""


def fuse_branches(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> Fused:
    """Call the methods of each class of parts, outer ones first, and keep what leaves the outputs
    on ``inputs`` equal. ``module`` itself is not changed."""
    if next(_asked(module), None) is None and not any(map(_computed, module.modules())):
        return Fused(module=module)
    expected = call(module, inputs)
    done, refused, parts = list[str](), list[str](), set[str]()
    if any(map(_computed, module.modules())):
        plain = _with_plain_weights(module, inputs, expected)
        if isinstance(plain, str):
            refused.append(f"computed weights {plain}")
        else:
            module = plain
            done.append("computed weights")
    tried: set[type[nn.Module]] = set()
    while (found := next((f for f in _asked(module) if f[0] not in tried), None)) is not None:
        kind, methods = found
        tried.add(kind)
        names = {name for name, part in module.named_modules() if type(part) is kind}
        reasons = []
        for method in methods:
            label = f"{kind.__name__}.{method}"
            fused = _trial(module, kind, method, inputs, expected)
            if not isinstance(fused, str):
                module = fused
                done.append(label)
                parts |= names
                break
            reasons.append(f"{label} {fused}")
        else:
            # A part of what was fused has been fused with it.
            if not all(_within(name, parts) for name in names):
                refused += reasons
    return Fused(module=module, done=tuple(done), refused=tuple(refused))


def _computed(part: nn.Module) -> list[tuple[str, Callable[[], object]]]:
    """Weights of ``part`` that are computed from others at each call (weight norm, spectral norm,
    pruning), each with what makes it plain."""
    from torch.nn.utils import parametrize, prune
    from torch.nn.utils.spectral_norm import SpectralNorm, remove_spectral_norm
    from torch.nn.utils.weight_norm import WeightNorm, remove_weight_norm

    found = list[tuple[str, Callable[[], object]]]()
    if parametrize.is_parametrized(part):
        found += [
            (name, partial(parametrize.remove_parametrizations, part, name))
            for name, _ in part.parametrizations.named_children()  # type: ignore[union-attr]
        ]
    for hook in part._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm):
            found.append((hook.name, partial(remove_weight_norm, part, hook.name)))
        elif isinstance(hook, SpectralNorm):
            found.append((hook.name, partial(remove_spectral_norm, part, hook.name)))
        elif isinstance(hook, prune.BasePruningMethod):
            found.append((hook._tensor_name, partial(prune.remove, part, hook._tensor_name)))
    return found


def _with_plain_weights(
    module: nn.Module, inputs: tuple[torch.Tensor, ...], expected: object
) -> nn.Module | str:
    """A copy whose weights are all plain, or why there is none."""
    import torch

    try:
        plain = copy.deepcopy(module)
        with torch.no_grad():
            for part in list(plain.modules()):
                for name, make_plain in _computed(part):
                    make_plain()
                    if name not in part._parameters:
                        value = getattr(part, name).detach()
                        delattr(part, name)
                        part.register_parameter(name, torch.nn.Parameter(value))
        plain.eval().requires_grad_(False)
        actual = call(plain, inputs)
    except Exception as error:
        if isinstance(error, MemoryError):
            raise
        return f"cannot be made plain ({type(error).__name__}: {first_line(error)})"
    return plain if same_outputs(expected, actual) else "change the outputs when they are plain"


def same_outputs(expected: object, actual: object) -> bool:
    """Whether all tensors are equal up to rounding."""
    one, other = tensors_in(expected), tensors_in(actual)
    return len(one) == len(other) and all(map(_close, one, other))


def _close(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.shape != other.shape:
        return False
    if not one.numel():
        return True
    difference = float((one.double() - other.double()).abs().max())
    return difference <= FUSION_TOLERANCE * max(float(one.abs().max()), 1e-12)


def _asked(module: nn.Module) -> Iterator[tuple[type[nn.Module], list[str]]]:
    """Each class with methods that fuse, outer parts first, and their names."""
    import torch

    for part in module.modules():
        kind = type(part)
        if isinstance(part, torch.jit.ScriptModule) or kind.__module__.startswith("torch."):
            continue
        methods = [
            name
            for name in dir(kind)
            if METHODS.fullmatch(name) and _takes_nothing(getattr(part, name))
        ]
        if methods:
            # Methods that replace the part by its deployed form come before helpers.
            yield (
                kind,
                sorted(methods, key=lambda name: (name.startswith(("fuse_", "merge_")), name)),
            )


def _takes_nothing(method: Callable[..., object]) -> bool:
    try:
        inspect.signature(method).bind()
    except (TypeError, ValueError):
        return False
    return True


def _trial(
    module: nn.Module,
    kind: type[nn.Module],
    method: str,
    inputs: tuple[torch.Tensor, ...],
    expected: object,
) -> nn.Module | str:
    """A copy in which all parts of a class are fused, or why they cannot be."""
    import torch

    try:
        fused = copy.deepcopy(module)
        with torch.no_grad():
            for part in [part for part in fused.modules() if type(part) is kind]:
                result = getattr(part, method)()
                if isinstance(result, torch.nn.Module) and result is not part:
                    fused = _replaced(fused, part, result)
        fused.eval().requires_grad_(False)
        actual = call(fused, inputs)
    except Exception as error:
        if isinstance(error, MemoryError):
            raise
        return f"fails ({type(error).__name__}: {first_line(error)})"
    return fused if same_outputs(expected, actual) else "changes the outputs"


def _replaced(root: nn.Module, part: nn.Module, by: nn.Module) -> nn.Module:
    """``root`` with ``by`` wherever ``part`` was."""
    if root is part:
        return by
    for parent in list(root.modules()):
        children: dict[str, Any] = parent._modules
        for name, child in children.items():
            if child is part:
                children[name] = by
    return root


def _within(name: str, parts: set[str]) -> bool:
    return any(not part or name.startswith(f"{part}.") for part in parts)
