"""Export TensorRT and TensorRT for RTX engines from ONNX, with one implementation.

The ONNX file determines the precision: networks are strongly typed, in TensorRT 10 as in 11, so a
precision means the same in every version. TensorRT builds on the target GPU. TensorRT for RTX needs
no GPU to build; it compiles for the GPU when the engine is loaded.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from latbench.api import Array, Exported, Exporter, ExportSpec, Model, StageError, first_line
from latbench_exporters.onnx.counts import count
from latbench_exporters.onnx.exporter import OnnxExporter
from latbench_exporters.onnx.external import main_file
from latbench_exporters.onnx.graph import describe, read, write
from latbench_exporters.onnx.int8 import quantize
from latbench_exporters.pre_exported import check_fixed
from latbench_exporters.tensorrt.build import build, check_size, checked
from latbench_exporters.tensorrt.engine import (
    check_header,
    computes_in,
    execute,
    opened,
    tensors,
)
from latbench_exporters.tensorrt.gpu import Gpu, find_gpu

ONNX_SUFFIX = ".onnx"
SHARED_OPTIONS = {
    "workspace_mib": "memory limit per layer in addition to weights, in MiB (default all)",
    "profiling": "none, layer_names, detailed: layer information kept in the engine (default "
    "detailed)",
    "tf32": "on, off: allow TF32 for fp32 products (default off)",
}


class TensorRtExporter:
    """Export TensorRT engines."""

    title = "TensorRT"
    module = "tensorrt"
    packages: tuple[str, ...] = ("tensorrt", "tensorrt_cu13", "tensorrt_cu12")
    """Distributions that may provide the module."""
    magic = b"ftrt"
    """First bytes of its engine files."""
    builds_on_gpu = True
    format = "tensorrt"
    suffix = ".engine"
    reads: tuple[str, ...] = (".engine", ".plan", ONNX_SUFFIX)
    precisions = ("fp32", "fp16", "int8")
    own_options: Mapping[str, str] = {
        **SHARED_OPTIONS,
        "optimization_level": "0 to 5: effort of the builder's search (default 3)",
        "hardware_compatibility": "none, ampere_plus, same_compute_capability: other GPUs that "
        "may run the engine (default none)",
        "version_compatible": "yes, no: allow later TensorRT versions to run it (default no)",
        "timing_cache": "file that keeps kernel timings between builds, or off (default off)",
        "build": "0, 1, 2, ...: another number forces another build, since builds differ "
        "(default 0)",
    }

    def __init__(self) -> None:
        self.onnx = OnnxExporter()
        self._written: tuple[Path, Exported] | None = None
        """Latest build: an engine stores neither its builder nor the order of the ONNX file."""
        self._open: tuple[tuple[Path, int], Any] | None = None
        """Latest engine executed, with its path and modification time."""

    @property
    def options(self) -> Mapping[str, str]:
        return {**self.onnx.options, **self.own_options}

    def toolchain(self) -> Mapping[str, str]:
        """Versions including the GPU: an engine is specific to it."""
        versions = dict(self.onnx.toolchain())
        if (own := self._version()) is not None:
            versions[self.module] = own
        if (gpu := find_gpu()) is not None:
            versions["gpu"] = f"{gpu.name} ({gpu.compute_capability})"
        return versions

    def export(self, model: Model, spec: ExportSpec, out: Path) -> Exported:
        """Export ``model`` to ONNX and build an engine from it. Raises :class:`StageError`."""
        own = checked(spec.options, self.own_options)
        trt, gpu = self._ready()
        # The ONNX exporter's int8 is meant for CPUs; see onnx.int8.
        int8 = spec.precision == "int8"
        made = replace(
            spec,
            precision="fp32" if int8 else spec.precision,
            options=_others(spec.options, own),
        )
        graph_path = out.with_suffix(ONNX_SUFFIX)
        try:
            exported = self.onnx.export(model, made, graph_path)
            if int8:
                names = [tensor.name for tensor in exported.inputs]
                trained = spec.options.get("form") == "trained"
                details = quantize(
                    graph_path, spec.calibration, names, symmetric=True, trained=trained
                )
                graph = read(graph_path)
                write(graph, graph_path)
                inputs, outputs = describe(graph)
                counts, counted = count(graph)
                details |= {"nodes": str(len(graph.graph.node)), **counted}
                exported = Exported(
                    inputs=inputs,
                    outputs=outputs,
                    counts=counts,
                    details={**exported.details, **details},
                )
            exported = replace(exported, precision=_computed(spec.precision, own))
            return self._built(trt, gpu, graph_path, own, exported, out)
        finally:
            _remove(graph_path)

    def adopt(self, path: Path, spec: ExportSpec, out: Path) -> Exported:
        """Build an engine from a pre-exported ONNX file, or check a pre-built engine on the
        GPU."""
        own = checked(spec.options, self.own_options)
        if path.suffix.lower() != ONNX_SUFFIX:
            return self._adopt_engine(path, spec, out)
        trt, gpu = self._ready()
        graph_path = out.with_suffix(ONNX_SUFFIX)
        if graph_path == path:
            graph_path = out.with_suffix(f".fixed{ONNX_SUFFIX}")
        try:
            others = replace(spec, options=_others(spec.options, own))
            exported = self.onnx.adopt(path, others, graph_path)
            exported = replace(exported, precision=_computed(exported.precision or "fp32", own))
            return self._built(trt, gpu, graph_path, own, exported, out)
        finally:
            _remove(graph_path)

    def evaluate(self, path: Path, inputs: Sequence[Array]) -> tuple[Array, ...] | None:
        """Run one inference on the GPU; ``None`` without a GPU or the package.

        For an engine that this exporter has just built, inputs and outputs are in the order of the
        ONNX file; otherwise in the engine's own order.
        """
        # Check the GPU first: objects created without a driver have crashed at process exit.
        if find_gpu() is None or find_spec(self.module) is None:
            return None
        trt = import_module(self.module)
        written, exported = self._written or (None, None)
        own = path == written
        key = (path, path.stat().st_mtime_ns)
        if self._open is None or self._open[0] != key:
            self._open = None  # the GPU may not have memory for two
            self._open = key, opened(trt, path, own=own)
        return execute(trt, self._open[1], inputs, exported if own else None)

    def _built(
        self,
        trt: Any,
        gpu: Gpu | None,
        graph_path: Path,
        own: Mapping[str, str],
        exported: Exported,
        out: Path,
    ) -> Exported:
        """``exported`` of the ONNX file, with the settings of the engine built at ``out``."""
        if own.get("compute_capability") == "current" and gpu is None:
            raise self._no_gpu("compute_capability=current requires the GPU")
        self._open = None
        made = build(trt, self.title, main_file(graph_path), own, out)
        check_size(out, exported.counts)
        exported = replace(
            exported,
            details={
                **exported.details,
                **made,
                "counts": "from the ONNX file; the graph of an engine cannot be counted",
                "gpu": "none" if gpu is None else gpu.name,
                "gpu_compute_capability": "none" if gpu is None else gpu.compute_capability,
            },
        )
        self._written = out, exported
        return exported

    def _adopt_engine(self, path: Path, spec: ExportSpec, out: Path) -> Exported:
        """Use the file unchanged. Without a GPU only the header of an engine can be read."""
        made_by = check_header(path, self.title, self.magic)
        gpu = find_gpu()
        if gpu is None:
            raise self._no_gpu("reading the inputs and outputs of an engine requires a GPU")
        trt = self._imported()
        engine = opened(trt, path, own=False)
        inputs, outputs = tensors(trt, engine)
        check_fixed(inputs, spec)
        precision, unknown = computes_in(trt, engine)
        shutil.copyfile(path, out)
        return Exported(
            inputs=inputs,
            outputs=outputs,
            counts=None,
            details={
                "route": "pre-exported",
                "made_by": f"{self.title} {made_by}",
                "gpu": gpu.name,
                "gpu_compute_capability": gpu.compute_capability,
                **unknown,
            },
            precision=precision,
        )

    def _ready(self) -> tuple[Any, Gpu | None]:
        """The package, and the GPU if there is one. Raises :class:`StageError`."""
        gpu = find_gpu()
        if gpu is None and self.builds_on_gpu:
            raise self._no_gpu(f"{self.title} builds an engine on its target GPU")
        return self._imported(), gpu

    def _imported(self) -> Any:
        try:
            return import_module(self.module)
        except (ImportError, OSError) as error:
            # OSError: the loader cannot find a shared library that the package needs.
            missing = find_spec(self.module) is None
            raise StageError(
                "export",
                f"{self.module} is not installed"
                if missing
                else f"{self.module} cannot be loaded: {first_line(error)}",
                hint=f"pip install 'latbench[{self.format}]'",
                kind="unavailable",
            ) from error

    def _no_gpu(self, why: str) -> StageError:
        return StageError(
            "export",
            f"{why}; no NVIDIA driver with a GPU found on this machine",
            hint="run latbench on the machine with the GPU, after "
            f"pip install 'latbench[{self.format}]'",
            kind="unavailable",
        )

    def _version(self) -> str | None:
        for package in self.packages:
            try:
                return version(package)
            except PackageNotFoundError:
                continue
        return None


class RtxExporter(TensorRtExporter):
    """Export engines of TensorRT for RTX.

    Omits the options of TensorRT that its builder does not have or ignores (the optimization
    level, as observed with 1.7). The same network always gives the same bytes.
    """

    title = "TensorRT for RTX"
    module = "tensorrt_rtx"
    packages = ("tensorrt_rtx",)
    magic = b"vtrt"
    builds_on_gpu = False
    format = "tensorrt-rtx"
    suffix = ".rtxengine"
    reads = (".rtxengine", ONNX_SUFFIX)
    own_options: Mapping[str, str] = {
        **SHARED_OPTIONS,
        "compute_capability": "portable, current, or a number such as 8.9: GPUs that may run the "
        "engine (default portable: 8.0 and later)",
    }


def exporter() -> Exporter:
    """Entry point of ``tensorrt``."""
    return TensorRtExporter()


def rtx_exporter() -> Exporter:
    """Entry point of ``tensorrt-rtx``."""
    return RtxExporter()


def _computed(precision: str, own: Mapping[str, str]) -> str:
    """Precision of the arithmetic for a file in ``precision``."""
    return "tf32" if precision == "fp32" and own["tf32"] == "on" else precision


def _remove(graph_path: Path) -> None:
    """Delete the ONNX file, which is a folder if it exceeds the size limit of a file."""
    if graph_path.is_dir():
        shutil.rmtree(graph_path)
    else:
        graph_path.unlink(missing_ok=True)


def _others(options: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """The options of the ONNX exporter."""
    return {name: value for name, value in options.items() if name not in own}
