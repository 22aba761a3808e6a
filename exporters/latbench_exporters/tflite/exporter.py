"""Export TFLite with ``litert-torch``; fp16 and int8 with ``ai-edge-quantizer``.

Inputs and outputs are floating point in every precision, so that all files take the model's inputs.
Conversions at the boundary are part of the graph and of its latency.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latbench.api import (
    FORM,
    Array,
    Exported,
    Exporter,
    ExportSpec,
    FileContent,
    Model,
    StageError,
)
from latbench_exporters.packages import installed, require
from latbench_exporters.pre_exported import check_plain
from latbench_exporters.tflite.adopt import adopt_file
from latbench_exporters.tflite.content import inspect_file
from latbench_exporters.tflite.file import (
    PERCEPTION,
    Graph,
    Tensor,
    computed_twice,
    count,
    describe,
    is_numeric,
    not_compared,
    precision_of,
    read,
    uncounted,
)
from latbench_exporters.tflite.rewrites import misconverted, rewritten

if TYPE_CHECKING:
    import torch

SIGNATURE = "serving_default"
CONVERTER = ("litert-torch", "litert-converter", "ai-edge-quantizer", "torch", "torchao")


class TfliteExporter:
    """Export single-file TFLite models with built-in operators."""

    format = "tflite"
    suffix = ".tflite"
    reads = (".tflite", ".lite")
    precisions = ("fp32", "fp16", "int8")
    options: Mapping[str, str] = FORM

    def toolchain(self) -> Mapping[str, str]:
        return installed(*CONVERTER, "ai-edge-litert", "tflite-runtime")

    def export(self, model: Model, spec: ExportSpec, out: Path) -> Exported:
        """Convert the deploy form at its input shape, batch first, NCHW. Raises
        :class:`StageError`."""
        # Build first: if torch is missing, this raises an error that says so.
        examples = model.example_inputs()
        require("litert-torch", "converting to TFLite", "tflite-export")
        import torch

        arguments = tuple(torch.from_numpy(array) for array in examples)
        module = copy.deepcopy(model.module()).eval()
        changes = _convert(module, arguments, out)
        details = {"route": "litert-torch"}
        if changes:
            details["rewrites"] = ", ".join(changes)
        if spec.precision != "fp32":
            calibration = spec.calibration if spec.precision == "int8" else ()
            details |= _quantize(out, spec.precision, calibration)
        graph = read(out)
        inputs, outputs = describe(graph)
        details["operators"] = str(len(graph.operators))
        return Exported(inputs=inputs, outputs=outputs, counts=count(graph), details=details)

    def adopt(self, path: Path, spec: ExportSpec, out: Path) -> Exported:
        """Check a pre-exported file, select its signature and give its open axes their sizes."""
        if _runtime() is None:
            raise StageError(
                "export",
                "checking a pre-exported TFLite file requires a TFLite runtime, which is not "
                "installed",
                hint="pip install 'latbench[tflite]'",
                kind="unavailable",
            )
        check_plain(spec, signatures=True)
        graph, details = adopt_file(path, spec, out)
        if details.get("resized"):
            graph = replace(graph, tensors=_resized(out, graph))
        inputs, outputs = describe(graph)
        return Exported(
            inputs=inputs,
            outputs=outputs,
            counts=count(graph),
            details={
                "route": "pre-exported",
                "operators": str(len(graph.operators)),
                **uncounted(graph),
                **not_compared(graph),
                **details,
            },
            precision=precision_of(graph),
        )

    def inspect(self, path: Path) -> FileContent:
        return inspect_file(path)

    def evaluate(self, path: Path, inputs: Sequence[Array]) -> tuple[Array, ...] | None:
        """The outputs of numbers of one inference with the runtime's own kernels, without a
        delegate."""
        interpreter = _interpreter(path)
        if interpreter is None:
            return None
        graph = read(path)
        outputs = [graph.tensors[i] for i in graph.outputs]
        try:
            interpreter.allocate_tensors()
            for detail, array in zip(interpreter.get_input_details(), inputs, strict=True):
                interpreter.set_tensor(detail["index"], array)
            interpreter.invoke()
            return tuple(
                interpreter.get_tensor(detail["index"]).copy()
                for detail, tensor in zip(interpreter.get_output_details(), outputs, strict=True)
                if is_numeric(tensor)
            )
        except (RuntimeError, ValueError) as error:
            raise StageError(
                "export",
                f"the TFLite runtime cannot execute the file: {_first_line(error)}",
                hint="an operator or operator version unknown to this runtime; "
                "`latbench backends` shows its version",
            ) from error


def exporter() -> Exporter:
    """Entry point."""
    return TfliteExporter()


def _convert(
    module: torch.nn.Module, arguments: tuple[torch.Tensor, ...], out: Path
) -> tuple[str, ...]:
    """Write ``module`` to ``out``, unchanged or, if that fails, duplicates work or leaves
    subgraphs, after exact rewrites of its graph. Return the names of the rewrites."""
    errors: list[str] = []
    faults = None
    if not misconverted(module, arguments) and _written(module, arguments, out, errors):
        faults = _faults(out)
        if not faults:
            return ()
    try:
        module, names = rewritten(module, arguments)
    except Exception as error:
        if isinstance(error, MemoryError):
            raise
        errors.append(_first_line(error))
        names = ()
    other = out.with_name(f"{out.stem}.rewritten{out.suffix}")
    try:
        better = names and _written(module, arguments, other, errors)
        if better and (faults is None or _faults(other) < faults):
            other.replace(out)
            return names
    finally:
        other.unlink(missing_ok=True)
    if faults is not None:  # a layer that the model itself uses twice also looks duplicated
        return ()
    raise StageError(
        "export",
        f"litert-torch cannot convert the model ({'; '.join(dict.fromkeys(errors))})",
        hint="express that operation differently, or pass a pre-exported .tflite file",
    )


def _faults(path: Path) -> int:
    """Number of operations in a converted file that are duplicated or cannot be executed."""
    graph = read(path)
    return computed_twice(graph) + graph.subgraphs - 1


def _written(
    module: torch.nn.Module, arguments: tuple[torch.Tensor, ...], out: Path, errors: list[str]
) -> bool:
    """Whether ``module`` was converted to ``out``; if not, append the reason to ``errors``."""
    import litert_torch

    try:
        litert_torch.convert(module, arguments).export(str(out))
    except Exception as error:
        if isinstance(error, MemoryError):
            raise
        errors.append(_first_line(error))
        return False
    return True


def _quantize(
    path: Path, precision: str, calibration: Sequence[tuple[Array, ...]]
) -> dict[str, str]:
    """Replace the fp32 file at ``path`` by one in ``precision``; return details. Raises
    :class:`StageError`."""
    require("ai-edge-quantizer", f"quantizing to {precision}", "tflite-export")
    from ai_edge_quantizer import quantizer, recipe

    names = [tensor.name for tensor in describe(read(path))[0]]
    made = path.with_suffix(".quantized")
    try:
        if precision == "fp16":
            conversion = quantizer.Quantizer(str(path), HALF_WEIGHTS)
            conversion.quantize().export_model(str(made), overwrite=True)
            made.replace(path)
            return {"quantisation": "fp16 weights, expanded or used directly by the runtime"}
        if not calibration:
            raise StageError("export", "static int8 requires calibration inputs; none were given")
        conversion = quantizer.Quantizer(str(path), [*recipe.static_wi8_ai8(), *FLOAT_BORDERS])
        sets = [_named(array_set, names) for array_set in calibration]
        ranges = conversion.calibrate({SIGNATURE: sets})
        conversion.quantize(ranges).export_model(str(made), overwrite=True)
        made.replace(path)
    except (RuntimeError, ValueError, NotImplementedError, KeyError) as error:
        raise StageError(
            "export",
            f"ai-edge-quantizer cannot quantize the file to {precision}: {_first_line(error)}",
            hint="fp32 may still work: omit --precision",
        ) from error
    finally:
        made.unlink(missing_ok=True)
    return {
        "quantisation": "static, weights per channel, floats at the boundary",
        "calibration_sets": str(len(calibration)),
    }


FLOAT_BORDERS: tuple[dict[str, Any], ...] = tuple(
    {"regex": ".*", "operation": border, "algorithm_key": "no_quantize", "op_config": {}}
    for border in ("INPUT", "OUTPUT")
)
HALF_WEIGHTS = [
    {
        "regex": ".*",
        "operation": "*",
        "algorithm_key": "float_casting",
        "op_config": {
            "weight_tensor_config": {"num_bits": 16, "dtype": "FLOAT"},
            "compute_precision": "FLOAT",
            "explicit_dequantize": True,
        },
    }
]


def _resized(path: Path, graph: Graph) -> tuple[Tensor, ...]:
    """The tensors with the shapes that the runtime computes from those of the inputs."""
    interpreter = _interpreter(path)
    try:
        interpreter.allocate_tensors()
        shapes = {
            detail["index"]: tuple(map(int, detail["shape"]))
            for detail in interpreter.get_tensor_details()
        }
    except (RuntimeError, ValueError) as error:
        raise StageError(
            "export",
            f"the TFLite runtime cannot resize the inputs: {_first_line(error)}",
            hint="a shape in the graph is fixed; try another size, or convert the model again",
        ) from error
    return tuple(
        replace(tensor, shape=shapes.get(i, tensor.shape)) for i, tensor in enumerate(graph.tensors)
    )


def _named(arrays: Sequence[Array], names: Sequence[str]) -> dict[str, Array]:
    """Arrays by input name in the signature: the tensor name without its prefix."""
    return {
        name.removeprefix(f"{SIGNATURE}_").partition(":")[0]: array
        for name, array in zip(names, arrays, strict=True)
    }


def _interpreter(path: Path) -> Any:
    """An interpreter without default delegates, unless the file has operators that require them;
    ``None`` if no runtime is installed."""
    if (tflite := _runtime()) is None:
        return None
    kinds = tflite.OpResolverType
    delegated = any(operator.custom in PERCEPTION for operator in read(path).operators)
    kind = kinds.BUILTIN if delegated else kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    try:
        return tflite.Interpreter(str(path), experimental_op_resolver_type=kind, num_threads=1)
    except (ValueError, RuntimeError, SystemError) as error:
        raise StageError(
            "export",
            f"the TFLite runtime cannot load the file: {_first_line(error)}",
            hint="damaged, or newer than this runtime",
        ) from error


def _runtime() -> Any:
    """The module of the installed runtime; ``None`` if there is none."""
    try:
        from ai_edge_litert import interpreter
    except ImportError:
        try:
            from tflite_runtime import interpreter
        except ImportError:
            return None
    return interpreter


def _first_line(error: Exception) -> str:
    """The first informative line: converters start with a generic one; the reason has a colon."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "error:" in line]
    return (telling or lines or [type(error).__name__])[0]
