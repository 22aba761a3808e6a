"""ONNX, through ``torch.onnx.export`` on ``torch.export``.

Opset 20 is the first in which GELU is one operator. Where the ``torch.export`` route fails, the
TorchScript route is tried; the file says which one made it.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from latbench.api import (
    Array,
    Exported,
    Exporter,
    ExportSpec,
    Model,
    StageError,
    make_inputs,
)
from latbench_exporters.onnx_graph import count, describe, fix_shapes, read, write
from latbench_exporters.onnx_sentinel import SENTINEL, build_sentinel

if TYPE_CHECKING:
    import torch

OPSET = 20


class OnnxExporter:
    """Writes single-file ONNX."""

    format = "onnx"
    suffix = ".onnx"
    precisions = ("fp32",)
    sentinel = SENTINEL

    def export_sentinel(self, out: Path) -> Exported:
        """A network of the shape of MobileNetV2: see :mod:`latbench_exporters.onnx_sentinel`."""
        graph = build_sentinel()
        write(graph, out)
        inputs, outputs = describe(graph)
        return Exported(
            inputs=inputs, outputs=outputs, counts=count(graph), details=_details(graph, "built")
        )

    def toolchain(self) -> Mapping[str, str]:
        versions = {}
        for package in ("torch", "onnx", "onnxscript", "onnxruntime"):
            try:
                versions[package] = version(package)
            except PackageNotFoundError:
                continue
        return versions

    def export(self, model: Model, spec: ExportSpec, out: Path) -> Exported:
        """Trace the deploy form at its input shape. Raises :class:`StageError`."""
        # Building comes first: where torch is missing it says so in words.
        specs = model.inputs()
        import torch

        arguments = tuple(torch.from_numpy(array) for array in make_inputs(specs, seed=0))
        names = [tensor.name for tensor in specs]
        module = model.module()
        raw = out.with_suffix(".traced")
        try:
            route = _trace(module, arguments, names, raw)
            graph = read(raw)
        finally:
            raw.unlink(missing_ok=True)
        write(graph, out)
        inputs, outputs = describe(graph)
        return Exported(
            inputs=inputs, outputs=outputs, counts=count(graph), details=_details(graph, route)
        )

    def adopt(self, path: Path, spec: ExportSpec, out: Path) -> Exported:
        """Check a ready file, fix its dynamic axes and write it as one file."""
        graph = read(path)
        fix_shapes(graph, batch=spec.batch, resolution=spec.resolution, dims=spec.dims)
        write(graph, out)
        inputs, outputs = describe(graph)
        return Exported(
            inputs=inputs, outputs=outputs, counts=count(graph), details=_details(graph, "ready")
        )

    def evaluate(self, path: Path, inputs: Sequence[Array]) -> tuple[Array, ...]:
        """One inference on the CPU with graph optimisation off."""
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 4
        try:
            session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            names = [tensor.name for tensor in session.get_inputs()]
            return tuple(session.run(None, dict(zip(names, inputs, strict=True))))
        except Exception as error:
            # Its errors share no nearer ancestor. Lack of memory is for the harness to tell.
            if isinstance(error, MemoryError) or "allocate memory" in str(error):
                raise
            raise StageError(
                "export",
                f"ONNX Runtime cannot execute the file: {_first_line(error)}",
                hint="an operator, type or opset that this onnxruntime does not know, or a shape "
                "that the graph cannot take; see its version with `latbench backends`",
            ) from error


def exporter() -> Exporter:
    """Entry point."""
    return OnnxExporter()


def _trace(
    module: torch.nn.Module, arguments: tuple[torch.Tensor, ...], names: list[str], out: Path
) -> str:
    """Write ``module`` to ``out``; the route that worked."""
    import torch

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    errors = []
    for route, dynamo in (("torch.export", True), ("torchscript", False)):
        try:
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")
                torch.onnx.export(
                    module,
                    arguments,
                    out,
                    dynamo=dynamo,
                    opset_version=OPSET,
                    input_names=names,
                    external_data=False,
                    verbose=False,
                )
        except Exception as error:  # noqa: BLE001 - converters raise whatever they meet
            errors.append(f"{route}: {_first_line(error)}")
            continue
        return route
    raise StageError(
        "export",
        f"torch.onnx.export cannot convert the model ({'; '.join(errors)})",
        hint="make its control flow independent of the data, or give a ready .onnx file",
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _details(graph: object, route: str) -> Mapping[str, str]:
    import onnx

    assert isinstance(graph, onnx.ModelProto)
    opsets = {entry.domain or "ai.onnx": str(entry.version) for entry in graph.opset_import}
    return {
        "route": route,
        "opset": opsets.pop("ai.onnx", "none"),
        "ir_version": str(graph.ir_version),
        "nodes": str(len(graph.graph.node)),
        **{f"opset:{domain}": number for domain, number in sorted(opsets.items())},
    }
