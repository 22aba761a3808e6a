"""Export ONNX with ``torch.onnx.export``.

Opset 20 is the first with GELU as one operator. If the ``torch.export`` route fails, the
TorchScript route is tried; the details of the artifact name the route.
"""

from __future__ import annotations

import copy
import logging
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from latbench.api import (
    FORM,
    Array,
    Exported,
    Exporter,
    ExportSpec,
    FileContent,
    Model,
    StageError,
    TensorSpec,
    UsageError,
    choice_option,
    first_line,
    is_out_of_memory,
)
from latbench_exporters.onnx import external
from latbench_exporters.onnx.content import inspect_file
from latbench_exporters.onnx.counts import count
from latbench_exporters.onnx.deciding import deciding_inputs
from latbench_exporters.onnx.graph import describe, kind_of, read, write
from latbench_exporters.onnx.int8 import quantize
from latbench_exporters.onnx.precision import precision_of
from latbench_exporters.onnx.randomness import random_operators
from latbench_exporters.onnx.sentinel import SENTINEL, build_sentinel
from latbench_exporters.onnx.session import is_optimizable, load, run
from latbench_exporters.onnx.shapes import fix_shapes, open_inputs, reopen
from latbench_exporters.packages import installed
from latbench_exporters.pre_exported import check_plain

if TYPE_CHECKING:
    import torch

OPSET = 20
OPSETS = range(17, 24)
ROUTES = ("torch.export", "torchscript")


class OnnxExporter:
    """Export single-file ONNX models."""

    format = "onnx"
    suffix = ".onnx"
    reads = (".onnx",)
    precisions = ("fp32", "fp16", "int8")
    options: Mapping[str, str] = {
        "opset": f"ONNX opset, {OPSETS[0]} to {OPSETS[-1]} (default {OPSET})",
        "route": f"{', '.join(ROUTES)}: the tracer (default the first that works)",
        **FORM,
    }
    sentinel = SENTINEL

    def export_sentinel(self, out: Path) -> Exported:
        """Write the sentinel, a network like MobileNetV2; see
        :mod:`latbench_exporters.onnx.sentinel`."""
        graph = build_sentinel()
        write(graph, out)
        inputs, outputs = describe(graph)
        counts, _ = count(graph)
        return Exported(
            inputs=inputs, outputs=outputs, counts=counts, details=_details(graph, "built", outputs)
        )

    def toolchain(self) -> Mapping[str, str]:
        return installed("torch", "onnx", "onnxscript", "onnx-ir", "onnxruntime")

    def export(self, model: Model, spec: ExportSpec, out: Path) -> Exported:
        """Trace the model at its input shape, batch first, NCHW. Raises :class:`StageError`."""
        # Build first: if torch is missing, this raises an error that says so.
        specs = model.inputs()
        opset, routes = _asked(spec.options)
        import torch

        arguments = tuple(torch.from_numpy(array) for array in model.example_inputs())
        names = [tensor.name for tensor in specs]
        module = model.module()
        if spec.precision == "fp16":
            module = copy.deepcopy(module).half()
            arguments = tuple(tensor.half() for tensor in arguments)
        with tempfile.TemporaryDirectory(dir=out.parent) as folder:
            raw = Path(folder) / "traced.onnx"
            trained = spec.options.get("form") == "trained"
            route = _trace(module, arguments, names, raw, opset, routes, trained=trained)
            graph = read(raw)
            quantized = {}
            if spec.precision == "int8":
                quantized = quantize(raw, spec.calibration, names, trained=trained)
                graph = read(raw)
            write(graph, out)
        inputs, outputs = describe(graph)
        counts, counted = count(graph)
        return Exported(
            inputs=inputs,
            outputs=outputs,
            counts=counts,
            details=_details(graph, route, outputs) | quantized | counted,
        )

    def adopt(self, path: Path, spec: ExportSpec, out: Path) -> Exported:
        """Check a pre-exported file, fix its dynamic axes, and write it in its own precision: as
        one file, or as a folder of two if its weights exceed the size limit of a file."""
        check_plain(spec)
        graph = read(path)
        opened = open_inputs(graph)
        fix_shapes(graph, spec)
        write(graph, out)
        inputs, outputs = describe(graph)
        counts, counted = count(graph, spec.make_inputs(inputs))
        details = _details(graph, "pre-exported", outputs) | counted
        if opened and out.is_file() and not is_optimizable(out):
            reopen(graph, opened)
            write(graph, out)
            details["axes"] = "open in the file: ONNX Runtime does not optimize it with fixed ones"
        if decided := deciding_inputs(graph.graph):
            details["decided_by"] = ", ".join(decided)
        return Exported(
            inputs=inputs,
            outputs=outputs,
            counts=counts,
            details=details,
            precision=precision_of(graph),
        )

    def inspect(self, path: Path) -> FileContent:
        return inspect_file(path)

    def evaluate(self, path: Path, inputs: Sequence[Array]) -> tuple[Array, ...]:
        """Run one inference on the CPU without graph optimization. Outputs of bfloat16 are
        float32."""
        try:
            return run(load(str(external.main_file(path))), inputs)
        except Exception as error:
            # Its errors have no closer common base. The harness reports lack of memory.
            if is_out_of_memory(error):
                raise
            raise StageError(
                "export",
                f"ONNX Runtime cannot execute the file: {first_line(error)}",
                hint="an operator, type or opset unknown to this onnxruntime, or an invalid input "
                "shape; `latbench backends` shows the version",
            ) from error


def exporter() -> Exporter:
    """Entry point."""
    return OnnxExporter()


def _asked(options: Mapping[str, str]) -> tuple[int, tuple[str, ...]]:
    """The requested opset and the routes to try."""
    opset, route = options.get("opset", str(OPSET)), options.get("route")
    if not opset.isdecimal() or int(opset) not in OPSETS:
        raise UsageError(f"opset cannot be {opset!r}", hint=f"{OPSETS[0]} to {OPSETS[-1]}")
    routes = ROUTES if route is None else (choice_option("route", route, ROUTES),)
    return int(opset), routes


def _trace(
    module: torch.nn.Module,
    arguments: tuple[torch.Tensor, ...],
    names: list[str],
    out: Path,
    opset: int,
    routes: Sequence[str],
    *,
    trained: bool,
) -> str:
    """Write ``module`` to ``out`` and return the route that worked. ``trained`` keeps
    BatchNorms."""
    import torch
    from torch.onnx import TrainingMode

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    errors = []
    weights = sum(p.numel() * p.element_size() for p in module.parameters())
    for route in routes:
        try:
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")
                torch.onnx.export(
                    module,
                    arguments,
                    out,
                    dynamo=route == "torch.export",
                    opset_version=opset,
                    input_names=names,
                    external_data=weights > external.LIMIT_BYTES,
                    verbose=False,
                    # Both routes fold BatchNorms by default; each has its own switch.
                    optimize=not trained,
                    training=TrainingMode.PRESERVE if trained else TrainingMode.EVAL,
                )
            if trained and route == "torch.export":
                _fold_constants(out)
            _require_opset(out, opset)
        except Exception as error:
            # Converters raise exceptions of any type. The harness reports lack of memory.
            if isinstance(error, MemoryError):
                raise
            errors.append(f"{route}: {first_line(error)}")
            continue
        return route
    raise StageError(
        "export",
        f"torch.onnx.export cannot convert the model ({'; '.join(errors)})",
        hint="make its control flow independent of the data, or pass a pre-exported .onnx file",
    )


def _require_opset(path: Path, opset: int) -> None:
    """Raise :class:`ValueError` if the file has another opset. The ``torch.export`` route exports
    opset 18 and converts; if it cannot, it gives no error."""
    import onnx

    graph = onnx.load(path, load_external_data=False)
    made = next(o.version for o in graph.opset_import if o.domain in ("", "ai.onnx"))
    if made != opset:
        raise ValueError(f"the result has opset {made} instead of {opset}")


def _fold_constants(path: Path) -> None:
    """Apply the optimizer of the ``torch.export`` route without its fusion rules."""
    import onnx
    from onnxscript import ir, optimizer

    model = ir.from_proto(onnx.load(path))
    optimizer.inline(model)
    optimizer.fold_constants(model)
    optimizer.remove_unused_nodes(model)
    onnx.save(ir.to_proto(model), path)


def _details(graph: object, route: str, outputs: Sequence[TensorSpec]) -> dict[str, str]:
    import onnx

    assert isinstance(graph, onnx.ModelProto)
    opsets = {entry.domain or "ai.onnx": str(entry.version) for entry in graph.opset_import}
    random = random_operators(graph.graph)
    compared = {tensor.name for tensor in outputs}
    skipped = [f"{v.name} ({kind_of(v)})" for v in graph.graph.output if v.name not in compared]
    narrow = [
        value.name
        for value in (*graph.graph.input, *graph.graph.output)
        if value.type.tensor_type.elem_type == onnx.TensorProto.BFLOAT16
    ]
    return {
        "route": route,
        **({"random": ", ".join(random)} if random else {}),
        **({"not_compared": ", ".join(skipped)} if skipped else {}),
        **({"bfloat16": ", ".join(narrow)} if narrow else {}),
        "opset": opsets.pop("ai.onnx", "none"),
        "ir_version": str(graph.ir_version),
        "nodes": str(len(graph.graph.node)),
        **{f"opset:{domain}": number for domain, number in sorted(opsets.items())},
    }
