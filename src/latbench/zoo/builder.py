"""Build a resolved model: construct and check it, load weights, bring it into its form."""

from __future__ import annotations

import ast
import copy
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from latbench.errors import (
    LatbenchError,
    StageError,
    UsageError,
    first_line,
    is_out_of_memory,
)
from latbench.schema.artifact import Counts, TensorSpec
from latbench.zoo import timm
from latbench.zoo.catalog import ZooModel
from latbench.zoo.file_access import FileReads
from latbench.zoo.foreign_code import (
    changes_inputs,
    copies,
    copying_inputs,
    plain_network,
    random_part,
    repeats,
    script_part,
    tensors_in,
    without_unread,
)
from latbench.zoo.fusing import Fused, fuse_branches
from latbench.zoo.given_inputs import FilledInputs
from latbench.zoo.macs import count
from latbench.zoo.model import ResolvedModel
from latbench.zoo.module_inputs import module_inputs
from latbench.zoo.reparameterize import fold_batch_norms
from latbench.zoo.weights import load_weights, seed_statistics, seed_weights

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class BuiltModel:
    """A network in its form, with its inputs and counts."""

    module: nn.Module
    inputs: FilledInputs
    counts: Counts
    trained_parameters: int
    reads: FileReads
    """What a user's own model read while it was constructed."""
    notes: Mapping[str, str]
    """What is unusual about the network, its weights or its form: details of the artifact."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A network as it is trained: branches and BatchNorms are not fused, outputs are plain."""

    module: nn.Module
    filled: FilledInputs
    inputs: tuple[torch.Tensor, ...]
    parameters: int
    notes: Mapping[str, str]


def build(model: ResolvedModel) -> BuiltModel:
    """Build the network of ``model``.

    Raises :class:`StageError` (stage ``build``), or ``UsageError`` for weights that do not fit.
    """
    reads = FileReads()
    trained = build_trained(model, reads)
    module, notes = trained.module, dict(trained.notes)
    if model.form == "deploy":
        fused = _fused(model, module, trained.inputs)
        module = fold_batch_norms(fused.module, trained.inputs)
        notes |= {"not_fused": "; ".join(fused.refused)} if fused.refused else {}
        notes |= {"fused": ", ".join(fused.done)} if fused.done else {}
    counts = count(module, trained.inputs)
    if model.entry is None:
        counts, unread = without_unread(counts, module, trained.inputs)
        notes |= {"not_read": unread} if unread else {}
    return BuiltModel(
        module=module,
        inputs=trained.filled,
        counts=counts,
        trained_parameters=trained.parameters,
        reads=reads,
        notes=notes,
    )


def build_trained(model: ResolvedModel, reads: FileReads | None = None) -> Trained:
    """The network in evaluation mode, with its weights. Raises as :func:`build`."""
    module, changed = plain_network(construct(model, reads))
    import torch

    notes = {"network": changed} if changed else {}
    parameters = sum(parameter.numel() for parameter in module.parameters())
    if model.entry is not None:
        _check(module, model.entry, parameters)
    if model.weights is not None:
        used = load_weights(module, model.weights, model.weights_key)
        notes |= {"weights_key": used.key} if used.key else {}
        notes |= {"weights": "; ".join(used.remarks)} if used.remarks else {}
    elif model.module is None:
        seed_weights(module, model.seed)
    with summary(f"{model.identity.name} has no evaluation mode"):
        module.eval().requires_grad_(False)
    filled = module_inputs(model, module)
    inputs = tuple(torch.from_numpy(array) for array in filled.arrays(model.seed))
    given = copies(inputs)
    outputs = _try(module, given, filled.specs)
    if changes_inputs(given, inputs):
        module = copying_inputs(module)
        notes["inputs"] = "copied before each call, because the network changes them in place"
    module = _with_plain_outputs(module, outputs)
    if model.weights is None and model.module is None:
        seed_statistics(module, inputs, model.seed)
    foreign = model.source is not None or model.module is not None
    if foreign and not repeats(module, inputs):
        notes["random"] = f"{random_part(module, inputs)}, random in evaluation"
    return Trained(module=module, filled=filled, inputs=inputs, parameters=parameters, notes=notes)


def deployed(
    model: ResolvedModel, module: nn.Module, inputs: tuple[torch.Tensor, ...]
) -> nn.Module:
    """Bring ``module``, a trained network of ``model``, into the form that is deployed."""
    return fold_batch_norms(_fused(model, module, inputs).module, inputs)


def _fused(model: ResolvedModel, module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> Fused:
    if model.identity.source == "timm":
        return Fused(module=timm.reparameterize(module))
    return fuse_branches(module, inputs)


def construct(model: ResolvedModel, reads: FileReads | None = None) -> nn.Module:
    """The network with its own initialization; a user's own model adds the files that it opens to
    ``reads``. Raises as :func:`build`."""
    if importlib.util.find_spec("torch") is None:
        raise StageError(
            "build",
            "building a PyTorch model needs torch, which is not installed",
            hint="pip install 'latbench[export]', or give a pre-exported .onnx file",
            kind="unavailable",
        )
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(model.seed)
        return _construct(model, reads or FileReads())


def _construct(model: ResolvedModel, reads: FileReads) -> nn.Module:
    from torch import nn

    if model.module is not None:
        return copy.deepcopy(model.module)
    if model.entry is not None:
        name, _, function = model.entry.factory.partition(":")
        built: object = getattr(importlib.import_module(name), function)()
    elif model.source is None:
        assert model.factory is not None
        search = model.search or tuple(sys.path)
        with _importable(search), summary(f"timm cannot build {model.factory}"):
            _import_first(model)
            built = timm.build_timm(model.factory, model.identity.resolution, _values(model))
    else:
        built = _call_factory(model, model.source, reads)
    if not isinstance(built, nn.Module):
        raise StageError(
            "build",
            f"{model.identity.name} returned {type(built).__name__}, not a torch.nn.Module",
            hint="the factory must return the network",
        )
    if (compiled := script_part(built)) is not None:
        raise StageError(
            "build",
            f"{model.identity.name} returned a network with TorchScript in it ({compiled}), which "
            "exporters cannot follow",
            hint="return the network itself, without torch.jit.script, trace or load",
        )
    if (empty := _without_values(built)) is not None:
        raise StageError(
            "build",
            f"{model.identity.name} returned a network without values: {empty}",
            hint="call a lazy network once with an example before it is returned, and create the "
            "network on the CPU, not on the meta device",
        )
    return built


def _without_values(module: nn.Module) -> str | None:
    """Return a parameter or buffer that has no values yet, and why; ``None`` if all have."""
    from itertools import chain

    from torch.nn.parameter import is_lazy

    for name, tensor in chain(module.named_parameters(), module.named_buffers()):
        if is_lazy(tensor):
            return f"{name} is lazy"
        if tensor.is_meta:
            return f"{name} is on the meta device"
    return None


def _call_factory(model: ResolvedModel, source: Path, reads: FileReads) -> object:
    """Import the user's module with its own folder importable, and call its factory."""
    assert model.factory is not None
    module_name, _, factory_name = model.factory.partition(":")
    failing = summary(f"{model.identity.name} failed")
    timm.repair_torchvision()  # the user's code, or a package that it uses, may import it
    with _importable(model.search), failing, reads.recording():
        _import_first(model)
        if model.by_path:
            spec = importlib.util.spec_from_file_location(module_name, source)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            # Under its own name, so that modules that it imports can import it back.
            sys.modules.setdefault(module_name, module)
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(module_name)
        factory = getattr(module, factory_name, None)
        if not callable(factory):
            raise UsageError(
                f"{source} has no function {factory_name!r}",
                hint=f"it has: {', '.join(_functions(module)) or 'none'}",
            )
        return factory(**(_wanted(factory, model.identity.resolution) | _values(model)))


def _import_first(model: ResolvedModel) -> None:
    if model.imports:
        timm.repair_torchvision()
    for package in model.imports:
        importlib.import_module(package)


def _values(model: ResolvedModel) -> dict[str, object]:
    """The arguments that the user gives, read as Python literals where they are any."""
    found: dict[str, object] = {}
    for name, text in model.arguments.items():
        try:
            found[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            found[name] = {"true": True, "false": False, "none": None}.get(text.lower(), text)
    return found


def _functions(module: object) -> list[str]:
    return sorted(
        name
        for name, value in vars(module).items()
        if callable(value) and not name.startswith("_") and hasattr(value, "__module__")
    )[:10]


def _wanted(
    factory: Callable[..., object], resolution: tuple[int, int] | None
) -> dict[str, object]:
    """The resolution, for a factory with a parameter for it."""
    if resolution is None:
        return {}
    names = inspect.signature(factory).parameters
    return {name: resolution for name in ("resolution", "img_size") if name in names}


def _check(module: nn.Module, entry: ZooModel, parameters: int) -> None:
    """Compare with the published counts: a wrong head or a missing branch is another network."""
    import torch

    image = torch.zeros(1, *entry.input_shape)
    training = module.training
    macs = count(module.eval(), (image,)).macs
    module.train(training)
    for what, found, declared in (
        ("parameters", parameters, entry.parameters),
        ("multiply-accumulates", macs, entry.macs),
    ):
        if found != declared:
            raise StageError(
                "build",
                f"{entry.name} has {found:,} {what}; {declared:,} are declared",
                kind="mismatch",
            )


def _try(
    module: nn.Module, inputs: tuple[torch.Tensor, ...], specs: Sequence[TensorSpec]
) -> object:
    import torch

    shapes = ", ".join("x".join(map(str, spec.shape)) or "scalar" for spec in specs)
    with summary(f"the network cannot take an input of {shapes}"), torch.no_grad():
        return module(*inputs)


def _with_plain_outputs(module: nn.Module, outputs: object) -> nn.Module:
    """Wrap ``module`` if its outputs are nested or a dictionary, which most converters reject.

    The outputs of the wrapper are one tuple, in the same order and without names.
    """
    import torch

    if any(tensor.is_complex() for tensor in tensors_in(outputs)):
        raise StageError(
            "build",
            "the network returns complex numbers, which artifacts and their checks do not have",
            hint="return torch.view_as_real(OUTPUT): the last axis has real and imaginary part",
        )
    plain = outputs if isinstance(outputs, tuple) else (outputs,)
    if plain and all(isinstance(value, torch.Tensor) for value in plain):
        return module
    if not tensors_in(outputs):
        raise StageError(
            "build",
            f"the network returns {type(outputs).__name__} without a tensor in it",
            hint="its forward must return tensors, alone or in tuples, lists or dictionaries",
        )
    return _flat(module)


def _flat(module: nn.Module) -> nn.Module:
    from torch import nn

    class Flat(nn.Module):
        """``network``, its outputs as one tuple of tensors."""

        def __init__(self) -> None:
            super().__init__()
            self.network = module

        def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return tuple(tensors_in(self.network(*inputs)))

    return Flat().eval()


@contextmanager
def summary(what: str) -> Iterator[None]:
    """Turn an exception of the network's own code into a failure that names the line."""
    try:
        yield
    except LatbenchError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise  # the harness reports lack of memory
        traceback.print_exc()
        frame = traceback.extract_tb(error.__traceback__)[-1]
        raise StageError(
            "build",
            f"{what}: {type(error).__name__}: {first_line(error)} "
            f"({Path(frame.filename).name}:{frame.lineno})",
            hint=_hint_of(error),
        ) from error


def _hint_of(error: Exception) -> str:
    if "torchvision" in str(error) and importlib.util.find_spec("torchvision"):
        return (
            f"torchvision {version('torchvision')} was built for another torch than "
            f"{version('torch')}: install the two of one release and one index"
        )
    if "unexpected keyword argument" in str(error):
        return "--model-arg NAME=VALUE takes the names of the factory's parameters"
    if "required positional argument" in str(error) or "required keyword-only" in str(error):
        return (
            "a factory's arguments: --model-arg NAME=VALUE; the inputs of a network's forward are "
            "given by position (--shape NAME=1x3x224x224 for each): wrap one that takes them by "
            "keyword only"
        )
    if "Long, Int" in str(error) or "must be integers" in str(error):
        return "an input of integers: --shape NAME=1x128:int64 --input NAME=0:LARGEST"
    return "another input (--shape, --resolution, --batch), or a mistake in the network's own code"


@contextmanager
def _importable(search: tuple[str, ...]) -> Iterator[None]:
    """Use ``search`` as the import path within the block."""
    before = list(sys.path)
    sys.path[:] = search
    try:
        yield
    finally:
        sys.path[:] = before
