"""From a PyTorch module to a Core ML model, by coremltools."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latbench.api import Array, StageError, TensorSpec, UsageError
from latbench_exporters.coreml.package import IMAGENET
from latbench_exporters.coreml.quiet import quiet

if TYPE_CHECKING:
    import torch

TYPES = {"mlprogram": "iOS17", "neuralnetwork": "iOS14"}
"""What a model is made of -> default deployment target."""
INPUTS = ("tensor", "image")
IO = ("fp32", "fp16")
ROUTES = ("trace", "export")
TARGETS = (
    *("iOS13", "iOS14", "iOS15", "iOS16", "iOS17", "iOS18", "iOS26"),
    *("macOS10_15", "macOS11", "macOS12", "macOS13", "macOS14", "macOS15", "macOS26"),
)
FIRST_PROGRAM, FIRST_FP16_IO, FIRST_COMPRESSED = 6, 7, 7
"""Versions of the specification (iOS 15, iOS 16)."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What to make."""

    type: str
    precision: str
    input: str
    io: str
    target: str
    routes: tuple[str, ...]

    @property
    def computed(self) -> str:
        """What it is computed in: quantised weights are expanded to fp16, as everywhere else on
        Apple's devices but in a GPU's or CPU's fp32."""
        return "fp32" if self.precision == "fp32" else "fp16"


def wanted(precision: str, options: Mapping[str, str]) -> Wanted:
    """The options, defaults filled in. Raises :class:`UsageError` for values that do not fit."""
    kind = _one_of("type", options.get("type", "mlprogram"), tuple(TYPES))
    target = _one_of("target", options.get("target", TYPES[kind]), TARGETS)
    version = _version(target)
    if kind == "mlprogram" and version < FIRST_PROGRAM:
        raise UsageError(
            f"an mlprogram needs iOS15 or macOS12 at least, not {target}",
            hint="--option type=neuralnetwork makes what older systems execute",
        )
    if kind == "neuralnetwork" and version >= FIRST_PROGRAM:
        raise UsageError(
            f"a neuralnetwork is for targets before iOS15 and macOS12, not for {target}",
            hint="leave target out, or take type=mlprogram",
        )
    if kind == "mlprogram" and precision == "int8-weights" and version < FIRST_COMPRESSED:
        raise UsageError(
            f"an mlprogram with int8-weights needs iOS16 or macOS13 at least, not {target}",
            hint="leave target out, or take precision fp16",
        )
    half = kind == "mlprogram" and precision != "fp32" and version >= FIRST_FP16_IO
    io = _one_of("io", options.get("io", "fp16" if half else "fp32"), IO)
    if io == "fp16" and (kind == "neuralnetwork" or version < FIRST_FP16_IO):
        raise UsageError(
            f"fp16 inputs and outputs need an mlprogram and iOS16 or macOS13, not {target}",
            hint="--option io=fp32",
        )
    if io == "fp16" and precision == "fp32":
        raise UsageError(
            "arrays in fp16 differ by more than fp32 may, so they are for --precision fp16",
            hint="leave io out, or take --precision fp16",
        )
    route = options.get("route")
    return Wanted(
        type=kind,
        precision=precision,
        input=_one_of("input", options.get("input", "tensor"), INPUTS),
        io=io,
        target=target,
        routes=ROUTES if route is None else (_one_of("route", route, ROUTES),),
    )


@dataclass(frozen=True, kw_only=True)
class Converted:
    """What coremltools made."""

    model: Any
    """``coremltools.models.MLModel``."""
    route: str
    shapes: Mapping[str, tuple[int, ...]]
    """Of all that it computes, by name: a neural network of layers does not hold them itself."""


@contextmanager
def temporary_files_beside(out: Path) -> Iterator[None]:
    """Temporary files go beside ``out`` and are gone at the end.

    coremltools writes the whole model to one and removes it when the interpreter ends in order,
    which an exporting program that is ended from outside does not.
    """
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        tempfile.tempdir = folder
        try:
            yield
        finally:
            tempfile.tempdir = before


def convert(
    module: torch.nn.Module, inputs: Sequence[Array], specs: Sequence[TensorSpec], want: Wanted
) -> Converted:
    """Trace and convert a copy of ``module`` by the first route that works.

    Raises :class:`StageError` with what each route failed at.
    """
    import torch

    module = copy.deepcopy(module)
    tensors = tuple(torch.from_numpy(array) for array in inputs)
    with torch.no_grad():
        outputs = module(*tensors)
    names = _output_names(1 if isinstance(outputs, torch.Tensor) else len(outputs))
    if want.input == "image":
        _check_image(specs)
    errors = []
    for route in want.routes:
        with quiet() as told:
            try:
                traced = _TRACERS[route](module, tensors)
                model = _converted(traced, specs, names, want)
                shapes = _shapes(model)
                return Converted(model=_with_small_weights(model, want), route=route, shapes=shapes)
            except MemoryError:
                raise
            except Exception as error:  # noqa: BLE001 - converters raise whatever they meet
                # Its log names the place in the model; its exception often only the symptom.
                place = "".join(f" ({line.strip(' :')})" for line in told[:1])
                errors.append(f"{route}: {first_line(error)}{place}")
    raise StageError(
        "export",
        f"coremltools cannot convert the model ({'; '.join(errors)})",
        hint="replace that operator in the model, try another --option target, or give a ready "
        ".mlpackage",
    )


def first_line(error: Exception) -> str:
    """Of a foreign error's message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise UsageError(f"{name} cannot be {value!r}", hint=f"one of: {', '.join(allowed)}")
    return value


def _version(target: str) -> int:
    """Of the specification that a deployment target executes, without importing coremltools."""
    system = "iOS" if target.startswith("iOS") else "macOS"
    number = {"10_15": 10.15}.get(target.removeprefix(system)) or float(target.removeprefix(system))
    firsts = {"iOS": (13, 14, 15, 16, 17, 18, 26), "macOS": (10.15, 11, 12, 13, 14, 15, 26)}
    return 4 + firsts[system].index(number)


def _output_names(number: int) -> tuple[str, ...]:
    return ("output",) if number == 1 else tuple(f"output_{i}" for i in range(number))


def _check_image(specs: Sequence[TensorSpec]) -> None:
    if len(specs) != 1 or len(specs[0].shape) != 4 or specs[0].shape[:2] != (1, 3):
        raise UsageError(
            "an image input is one image of three channels, not "
            + " and ".join("x".join(map(str, spec.shape)) for spec in specs),
            hint="--option input=tensor, or --batch 1",
        )


def _traced(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> Any:
    import torch

    with torch.no_grad():
        return torch.jit.trace(module, inputs, check_trace=False)


def _exported(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> Any:
    import torch

    # Without decompositions coremltools refuses the dialect; with the default ones it meets
    # operators that it does not know.
    return torch.export.export(module, inputs).run_decompositions({})


_TRACERS: Mapping[str, Callable[[torch.nn.Module, tuple[torch.Tensor, ...]], Any]] = {
    "trace": _traced,
    "export": _exported,
}


def _converted(traced: Any, specs: Sequence[TensorSpec], names: Sequence[str], want: Wanted) -> Any:
    import coremltools as ct
    import numpy as np

    # Said in any case: left out, coremltools chooses by precision and target.
    dtype = np.float16 if want.io == "fp16" else np.float32
    if want.input == "image":
        inputs: list[Any] = [
            ct.ImageType(
                name=spec.name,
                shape=spec.shape,
                scale=IMAGENET.scale,
                bias=list(IMAGENET.bias),
                color_layout=ct.colorlayout.RGB,
            )
            for spec in specs
        ]
    else:
        inputs = [ct.TensorType(name=spec.name, shape=spec.shape, dtype=dtype) for spec in specs]
    precision = getattr(ct.precision, want.computed.replace("fp", "FLOAT"))
    # A neural network of layers takes neither a precision nor types of outputs.
    program = want.type == "mlprogram"
    typed = {"dtype": dtype} if program else {}
    return ct.convert(
        traced,
        convert_to=want.type,
        inputs=inputs,
        outputs=[ct.TensorType(name=name, **typed) for name in names],
        minimum_deployment_target=getattr(ct.target, want.target),
        skip_model_load=True,
        compute_precision=precision if program else None,
    )


def _shapes(model: Any) -> dict[str, tuple[int, ...]]:
    function = model._mil_program.functions["main"]
    variables = [v for operation in function.operations for v in operation.outputs]
    return {
        variable.name: tuple(variable.shape)
        for variable in (*function.inputs.values(), *variables)
        if all(isinstance(size, int) for size in variable.shape)
    }


def _with_small_weights(model: Any, want: Wanted) -> Any:
    """Weights as 16-bit floats or 8-bit integers, where the conversion has not seen to that."""
    if want.type == "mlprogram" and want.precision == "int8-weights":
        from coremltools.optimize import coreml as cto

        config = cto.OpLinearQuantizerConfig(mode="linear_symmetric", dtype="int8")
        return cto.linear_quantize_weights(model, cto.OptimizationConfig(global_config=config))
    if want.type == "neuralnetwork" and want.precision != "fp32":
        from coremltools.models.neural_network.quantization_utils import quantize_weights

        return quantize_weights(model, nbits=16 if want.precision == "fp16" else 8)
    return model
