"""Convert a PyTorch module to a Core ML model with coremltools."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latbench.api import Array, StageError, TensorSpec, UsageError, choice_option, first_line
from latbench.schema.artifact import shape_text
from latbench_exporters.coreml.package import IMAGENET
from latbench_exporters.coreml.quiet import quiet

if TYPE_CHECKING:
    import torch

TYPES = {"mlprogram": "iOS17", "neuralnetwork": "iOS14"}
"""Model type -> default deployment target."""
INPUTS = ("tensor", "image")
IO = ("fp32", "fp16")
ROUTES = ("trace", "export")
TARGETS = (
    *("iOS13", "iOS14", "iOS15", "iOS16", "iOS17", "iOS18", "iOS26"),
    *("macOS10_15", "macOS11", "macOS12", "macOS13", "macOS14", "macOS15", "macOS26"),
)
FIRST_PROGRAM, FIRST_FP16_IO, FIRST_COMPRESSED = 6, 7, 7
"""Core ML specification versions; 6 is iOS 15, 7 is iOS 16."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The conversion requested by precision and options."""

    type: str
    precision: str
    input: str
    io: str
    target: str
    routes: tuple[str, ...]

    @property
    def computed(self) -> str:
        """Precision of the arithmetic. Quantized weights are expanded to fp16, the precision used
        on all Apple hardware except in fp32 models on a CPU or GPU."""
        return "fp32" if self.precision == "fp32" else "fp16"


def wanted(precision: str, options: Mapping[str, str]) -> Wanted:
    """Read the exporter's options and fill in defaults.

    Raises :class:`UsageError` for an invalid value or combination.
    """
    kind = choice_option("type", options.get("type", "mlprogram"), tuple(TYPES))
    target = choice_option("target", options.get("target", TYPES[kind]), TARGETS)
    version = _version(target)
    if kind == "mlprogram" and version < FIRST_PROGRAM:
        raise UsageError(
            f"an mlprogram requires target iOS15 or macOS12 or later, not {target}",
            hint="for older systems use --option type=neuralnetwork",
        )
    if kind == "neuralnetwork" and version >= FIRST_PROGRAM:
        raise UsageError(
            f"a neuralnetwork requires a target before iOS15 and macOS12, not {target}",
            hint="omit target, or use type=mlprogram",
        )
    if kind == "mlprogram" and precision == "int8-weights" and version < FIRST_COMPRESSED:
        raise UsageError(
            f"an mlprogram with int8-weights requires target iOS16 or macOS13 or later, "
            f"not {target}",
            hint="omit target, or use --precision fp16",
        )
    half = kind == "mlprogram" and precision != "fp32" and version >= FIRST_FP16_IO
    io = choice_option("io", options.get("io", "fp16" if half else "fp32"), IO)
    if io == "fp16" and (kind == "neuralnetwork" or version < FIRST_FP16_IO):
        raise UsageError(
            f"io=fp16 requires an mlprogram and target iOS16 or macOS13 or later, not {target}",
            hint="use --option io=fp32",
        )
    if io == "fp16" and precision == "fp32":
        raise UsageError(
            "io=fp16 is invalid with --precision fp32: rounding to fp16 exceeds the fp32 tolerance",
            hint="omit io, or use --precision fp16",
        )
    route = options.get("route")
    return Wanted(
        type=kind,
        precision=precision,
        input=choice_option("input", options.get("input", "tensor"), INPUTS),
        io=io,
        target=target,
        routes=ROUTES if route is None else (choice_option("route", route, ROUTES),),
    )


@dataclass(frozen=True, kw_only=True)
class Converted:
    """Result of a conversion."""

    model: Any
    """``coremltools.models.MLModel``."""
    route: str
    shapes: Mapping[str, tuple[int, ...]]
    """Shape of every computed value, by name. A neuralnetwork file does not store them."""


@contextmanager
def temporary_files_beside(out: Path) -> Iterator[None]:
    """Direct temporary files to the folder of ``out`` and delete them at the end.

    coremltools writes the whole model to a temporary file and deletes it in an exit handler, which
    does not run if the export process is killed.
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
    """Trace and convert a copy of ``module``, using the first route that works.

    Raises :class:`StageError` with the error of each route.
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
        with quiet() as logged:
            try:
                traced = _TRACERS[route](module, tensors)
                model = _converted(traced, specs, names, want)
                shapes = _shapes(model)
                return Converted(model=_with_small_weights(model, want), route=route, shapes=shapes)
            except MemoryError:
                raise
            except Exception as error:  # noqa: BLE001 - converters raise whatever they meet
                # The log names the location in the model; the exception often does not.
                place = "".join(f" ({line.strip(' :')})" for line in logged[:1])
                errors.append(f"{route}: {first_line(error)}{place}")
    raise StageError(
        "export",
        f"coremltools cannot convert the model ({'; '.join(errors)})",
        hint="replace that operator in the model, try another --option target, or pass a "
        "pre-exported "
        ".mlpackage",
    )


def _version(target: str) -> int:
    """The specification version of a deployment target, without importing coremltools."""
    system = "iOS" if target.startswith("iOS") else "macOS"
    number = {"10_15": 10.15}.get(target.removeprefix(system)) or float(target.removeprefix(system))
    firsts = {"iOS": (13, 14, 15, 16, 17, 18, 26), "macOS": (10.15, 11, 12, 13, 14, 15, 26)}
    return 4 + firsts[system].index(number)


def _output_names(number: int) -> tuple[str, ...]:
    return ("output",) if number == 1 else tuple(f"output_{i}" for i in range(number))


def _check_image(specs: Sequence[TensorSpec]) -> None:
    if len(specs) != 1 or len(specs[0].shape) != 4 or specs[0].shape[:2] != (1, 3):
        raise UsageError(
            "input=image requires one input of shape 1x3xHxW, not "
            + " and ".join(shape_text(spec.shape) for spec in specs),
            hint="use --option input=tensor, or --batch 1",
        )


def _traced(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> Any:
    import torch

    with torch.no_grad():
        return torch.jit.trace(module, inputs, check_trace=False)


def _exported(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> Any:
    import torch

    # Without run_decompositions coremltools rejects the dialect; with the default decompositions it
    # meets operators that it does not know.
    return torch.export.export(module, inputs).run_decompositions({})


_TRACERS: Mapping[str, Callable[[torch.nn.Module, tuple[torch.Tensor, ...]], Any]] = {
    "trace": _traced,
    "export": _exported,
}


def _converted(traced: Any, specs: Sequence[TensorSpec], names: Sequence[str], want: Wanted) -> Any:
    import coremltools as ct
    import numpy as np

    # Always explicit: otherwise coremltools chooses by precision and target.
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
    # A neuralnetwork takes neither a compute precision nor output types.
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
    """Compress weights to fp16 or int8 where the conversion did not."""
    if want.type == "mlprogram" and want.precision == "int8-weights":
        from coremltools.optimize import coreml as cto

        config = cto.OpLinearQuantizerConfig(mode="linear_symmetric", dtype="int8")
        return cto.linear_quantize_weights(model, cto.OptimizationConfig(global_config=config))
    if want.type == "neuralnetwork" and want.precision != "fp32":
        from coremltools.models.neural_network.quantization_utils import quantize_weights

        return quantize_weights(model, nbits=16 if want.precision == "fp16" else 8)
    return model
