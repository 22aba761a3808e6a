"""Networks that exist in this process only: a ``torch.nn.Module`` given to the Python API."""

from __future__ import annotations

import copy
import hashlib
import inspect
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from latbench.errors import UsageError
from latbench.schema.codec import digest
from latbench.schema.input_content import STORED
from latbench.zoo.fingerprint import architecture_digest
from latbench.zoo.given_inputs import GivenInputs

if TYPE_CHECKING:
    import torch
    from torch import nn

AnyModel: TypeAlias = "str | Path | nn.Module"
"""A name or file, or a network."""
Examples: TypeAlias = "torch.Tensor | Sequence[torch.Tensor] | Mapping[str, torch.Tensor]"
"""Inputs of a network: one, several in the order of its ``forward``, or several by name."""

PREFIX = "module:"


@dataclass(frozen=True, kw_only=True)
class InMemory:
    """A copy of a network, and the inputs that it is timed with."""

    name: str
    module: nn.Module
    given: GivenInputs
    architecture: str
    """Digest of its structure, and of its source where that is known."""
    weights: str
    """``sha256:`` of its parameters and buffers."""


_MODULES: dict[str, InMemory] = {}


def name_of(model: AnyModel, example_inputs: Examples | None = None) -> str:
    """The name by which ``model`` can be requested in this process.

    A module is copied, so that changing it later does not change what the name means. Raises
    :class:`UsageError` for something that is not a model.
    """
    if isinstance(model, str | Path):
        if example_inputs is not None:
            raise UsageError(
                "example_inputs are for a torch.nn.Module", hint="give shapes= and inputs="
            )
        return str(model)
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(model, torch.nn.Module):
        raise UsageError(
            f"{type(model).__name__} is not a model",
            hint="a name, a path, or a torch.nn.Module with example_inputs",
        )
    found = _described(model, example_inputs)
    name = f"{PREFIX}{found.name}#{digest([found.architecture, found.weights])[:8]}"
    if found.given.contents:
        name += f"-{digest(dict(found.given.contents))[:8]}"
    _MODULES[name] = found
    return name


def find_module_in_memory(name: str) -> InMemory | None:
    """The module that was given under this name; ``None`` for other names.

    Raises :class:`UsageError` if it was given to another process.
    """
    if not name.startswith(PREFIX):
        return None
    if name not in _MODULES:
        raise UsageError(
            f"{name} was given to another process as an object",
            hint="give the module again, or name its factory: path/to/file.py:factory",
        )
    return _MODULES[name]


def _described(module: nn.Module, examples: Examples | None) -> InMemory:
    try:
        own = copy.deepcopy(module)
    except Exception as error:
        raise UsageError(
            f"{type(module).__name__} cannot be copied: {error}",
            hint="name its factory instead: path/to/file.py:factory",
        ) from error
    kind = type(module)
    return InMemory(
        name=kind.__name__,
        module=own,
        given=_given(module, examples),
        architecture=digest([str(module), _source(kind)]),
        weights=f"sha256:{_state(module)}",
    )


def _source(kind: type) -> str:
    """Digest of the source of a module's class and of what that imports; empty if there is none,
    as in a notebook."""
    try:
        path = inspect.getsourcefile(kind)
        if path is None or not Path(path).is_file():
            return ""
        return architecture_digest(Path(path), kind.__module__, sys.path)
    except (OSError, TypeError, SyntaxError, ValueError):
        return ""


def _state(module: nn.Module) -> str:
    total = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if hasattr(tensor, "detach"):
            plain = tensor.detach().cpu().contiguous().flatten()
            total.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
            total.update(plain.view(_bytes()).numpy().tobytes() if plain.numel() else b"")
    return total.hexdigest()


def _bytes() -> torch.dtype:
    import torch

    return torch.uint8


def _given(module: nn.Module, examples: Examples | None) -> GivenInputs:
    """The examples by the names of the arguments of ``forward``."""
    import torch

    if examples is None:
        return GivenInputs()
    if isinstance(examples, torch.Tensor):
        examples = (examples,)
    if isinstance(examples, Mapping):
        named = dict(examples)
    else:
        parameters = inspect.signature(module.forward).parameters
        if len(examples) > len(parameters):
            raise UsageError(
                f"{len(examples)} example_inputs for a forward with {len(parameters)} arguments"
            )
        named = dict(zip(parameters, examples, strict=False))
    if strange := [name for name, each in named.items() if not isinstance(each, torch.Tensor)]:
        raise UsageError(f"example_inputs must be tensors; {strange[0]} is not")
    arrays = {name: tensor.detach().cpu().numpy() for name, tensor in named.items()}
    return GivenInputs(
        shapes={name: array.shape for name, array in arrays.items()},
        dtypes={name: array.dtype.name for name, array in arrays.items()},
        contents={
            name: STORED + hashlib.sha256(array.tobytes()).hexdigest()
            for name, array in arrays.items()
        },
        arrays=arrays,
    )
