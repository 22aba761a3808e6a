"""The inputs of a network: those that the request gives, or those that the network declares."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from latbench.errors import UsageError, listed
from latbench.schema.artifact import TensorSpec
from latbench.schema.input_content import ANY, find_input
from latbench.zoo import timm
from latbench.zoo.given_inputs import FilledInputs
from latbench.zoo.model import ResolvedModel

if TYPE_CHECKING:
    import torch
    from torch import nn

DEFAULT_INPUT = (3, 224, 224)
"""Channels, height and width of a network that declares none."""
IMAGE, IMAGE_AXES = "image", 4
"""Name of the only input of a network, if it has as many axes as an image."""


def module_inputs(model: ResolvedModel, module: nn.Module) -> FilledInputs:
    """The inputs of ``module``, one for each argument of its ``forward`` that has no default.

    Raises :class:`UsageError` if the shape of one of several inputs is unknown, or if the request
    gives an input that the network does not have.
    """
    given = model.given
    required, optional = _arguments(module)
    name = model.identity.name
    if len(required) <= 1 and not (set(given.all_shapes()) & set(optional)):
        given = given.with_names(dict.fromkeys((*required, ANY), IMAGE))
        shape = given.all_shapes().get(IMAGE) or _declared(model, module)
        own = IMAGE if len(shape) == IMAGE_AXES else required[0]
        given = given.with_names({IMAGE: own})
        specs = [_spec(own, shape, given.dtypes.get(own))]
    else:
        specs = _several(model, module, required, optional)
    return given.applied(specs, name)


def _several(
    model: ResolvedModel, module: nn.Module, required: Sequence[str], optional: Sequence[str]
) -> list[TensorSpec]:
    """One input for each required argument and for each optional one up to the last given."""
    shapes, names = model.given.all_shapes(), [*required, *optional]
    found = {find_input(each, names, what=model.identity.name): shapes[each] for each in shapes}
    example = _example(module, names)
    known = {**{spec.name: spec.shape for spec in example}, **found}
    dtypes = {spec.name: spec.dtype for spec in example} | dict(model.given.dtypes)
    last = max(names.index(each) for each in (*required, *known))
    missing = [each for each in names[: last + 1] if each not in known]
    if missing:
        raise UsageError(
            f"the network takes {len(required)} inputs ({listed(required)}); their shapes are "
            f"needed: {listed(missing)}",
            hint=" ".join(f"--shape {each}=1x3x224x224" for each in missing)
            + " (with the sizes of your model; NAME=1x128:int64 for integers)",
        )
    return [_spec(each, known[each], dtypes.get(each)) for each in names[: last + 1]]


def _spec(name: str, shape: Sequence[int], dtype: str | None) -> TensorSpec:
    import numpy as np

    if dtype is not None:
        try:
            known = np.dtype(dtype)
        except TypeError:
            raise UsageError(
                f"unknown type {dtype!r} of input {name!r}",
                hint="a numpy type such as float32, int64 or bool",
            ) from None
        if known.kind not in "fiub":
            raise UsageError(f"input {name!r} cannot have type {dtype}: it is not numeric")
        dtype = known.name
    return TensorSpec(name=name, shape=tuple(shape), dtype=dtype or "float32")


def _declared(model: ResolvedModel, module: nn.Module) -> tuple[int, ...]:
    """Shape of the only input as the network or the request declares it, batch first."""
    own = getattr(module, "input_shape", None) if model.identity.source != "timm" else None
    if own is None and timm.declared_input(module) is None and (found := _example(module, [IMAGE])):
        shape = found[0].shape
        if len(shape) != 4:
            return (model.identity.batch or shape[0], *shape[1:]) if shape else shape
        own = shape[1:]
    channels, height, width = _image_of(own, model) or timm.declared_input(module) or DEFAULT_INPUT
    if model.identity.resolution is not None:
        height, width = model.identity.resolution
    return (model.identity.batch or 1, channels, height, width)


def _image_of(declared: object, model: ResolvedModel) -> tuple[int, int, int] | None:
    """Channels, height and width of a network's ``input_shape``, with or without the batch."""
    if declared is None:
        return None
    sizes = tuple(declared) if isinstance(declared, Sequence) else ()
    if len(sizes) not in (3, 4) or not all(isinstance(each, int) and each > 0 for each in sizes):
        raise UsageError(
            f"the input_shape of {model.identity.name} is {declared!r}, not channels, height and "
            "width",
            hint="give the input's shape: --shape NAME=1x3x224x224",
        )
    channels, height, width = sizes[-3:]
    return channels, height, width


def _example(module: nn.Module, names: Sequence[str]) -> list[TensorSpec]:
    """The inputs in ``example_input_array``, as Lightning modules declare them."""
    import torch

    example = getattr(module, "example_input_array", None)
    if isinstance(example, torch.Tensor):
        example = (example,)
    if isinstance(example, Mapping):
        pairs = list(example.items())
    elif isinstance(example, tuple | list):
        pairs = list(zip(names, example, strict=False))
    else:
        return []
    return [
        TensorSpec(name=name, shape=tuple(tensor.shape), dtype=_dtype(tensor))
        for name, tensor in pairs
        if isinstance(tensor, torch.Tensor)
    ]


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _arguments(module: nn.Module) -> tuple[list[str], list[str]]:
    """Names of the arguments of ``forward``: those that must be given, and the others."""
    try:
        parameters = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):  # a forward without a Python signature
        return [IMAGE], []
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    taken = [each for each in parameters if each.kind in positional]
    required = [each.name for each in taken if each.default is inspect.Parameter.empty]
    return required or [IMAGE], [each.name for each in taken if each.name not in required]
