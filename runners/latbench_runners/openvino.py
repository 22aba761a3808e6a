"""Run ONNX files with OpenVINO, on Intel and Arm CPUs and on Intel GPUs and NPUs.

Its CPU plugin computes fp32 models in bf16 wherever the CPU can, with errors up to 1e-2. This
runner requests fp32 by default and reads the precision used from the compiled graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

from latbench.api import (
    Array,
    Artifact,
    Capability,
    OperatorTime,
    Placement,
    Profile,
    Runner,
    RunOptions,
    Session,
    StageError,
    UsageError,
    choice_option,
)
from latbench.clock import now_ns
from latbench_runners.packages import package_capability

PRECISIONS = {"f32": "f32", "bf16": "bf16", "f16": "f16", "default": None}
"""Option value -> hint of the plugin."""
MODES = {"latency": "LATENCY", "throughput": "THROUGHPUT"}
NAMES = {
    "f32": "fp32",
    "f16": "fp16",
    "bf16": "bf16",
    "i8": "int8",
    "u8": "int8",
    "float32": "fp32",
    "float16": "fp16",
    "bfloat16": "bf16",
}
"""OpenVINO element type -> latbench precision."""
PRODUCTS = ("convolution", "deconvolution", "fullyconnected", "matmul", "gemm")
"""OpenVINO layers that multiply with weights, in lower case without underscores."""
NOT_EXECUTED = ("Const", "Constant", "Input", "Output", "Parameter", "Result")


WARM_CALLS = 3
"""Inferences before operators are timed."""


class OpenVinoRunner:
    """Run ONNX files with OpenVINO's own reader, without a cache on disk."""

    name = "openvino"
    formats = ("onnx",)
    needs: tuple[str, ...] = ("openvino",)
    options: Mapping[str, str] = {
        "device": "CPU, GPU, NPU or AUTO, as OpenVINO names them (default CPU)",
        "inference_precision": "f32, bf16, f16, or default for the plugin's choice (default f32)",
        "performance_mode": f"{', '.join(MODES)}: the plugin's hint (default latency)",
        "streams": "number of parallel inferences to divide the device for (default: by the hint)",
    }

    units: Mapping[str, tuple[str, ...]] = {"CPU": (), "GPU": (), "NPU": ()}

    def probe(self) -> Capability:
        return package_capability("openvino", extra="openvino", unit="CPU")

    def prepare(self) -> None:
        import openvino  # noqa: F401

    @contextmanager
    def open(
        self, artifact: Artifact, path: Path, inputs: Sequence[Array], options: RunOptions
    ) -> Iterator[Session]:
        """Compile the file and fill the request's input tensors. Raises :class:`StageError`."""
        asked = _asked(options)
        properties = _properties(asked, options.threads)
        import openvino as ov

        # A model whose weights exceed the size limit of an ONNX file is a folder.
        graph = path / "model.onnx" if path.is_dir() else path
        core = ov.Core()
        _require(core, asked["device"])
        with _as_stage_error(f"OpenVINO cannot load the file on {asked['device']}"):
            compiled = core.compile_model(core.read_model(str(graph)), asked["device"], properties)
        tensors = {
            spec.name: ov.Tensor(array) for spec, array in zip(artifact.inputs, inputs, strict=True)
        }

        def profiled() -> Any:
            return core.compile_model(
                core.read_model(str(graph)), asked["device"], {**properties, "PERF_COUNT": "YES"}
            )

        yield OpenVinoSession(compiled, tensors, asked, profiled, artifact.precision)


class OpenVinoSession:
    """One request of a compiled model, with inputs set once."""

    def __init__(
        self,
        compiled: Any,
        tensors: Mapping[str, Any],
        asked: Mapping[str, str],
        profiled: Any,
        precision: str,
    ) -> None:
        self._compiled = compiled
        self._tensors = tensors
        self._asked = asked
        self._profiled = profiled
        self._precision = precision
        self._request = _request(compiled, tensors)

    def run(self) -> None:
        # Shared: otherwise each output is copied again into an unused array.
        self._request.infer(share_outputs=True)

    def outputs(self) -> tuple[Array, ...]:
        return tuple(
            self._request.get_output_tensor(i).data.copy()
            for i in range(len(self._compiled.outputs))
        )

    def placement(self) -> Placement:
        """The CPU plugin has no fallback; other devices may share the work."""
        devices = list(_property(self._compiled, "EXECUTION_DEVICES", [self._asked["device"]]))
        executed = len(_executed(self._compiled))
        if self._asked["device"] == "CPU":
            return Placement(
                units={"CPU": executed or None}, known="proven", note="compiled for the CPU only"
            )
        units = dict.fromkeys(map(str, devices))
        if len(units) == 1 and executed:
            units = dict.fromkeys(units, executed)
        return Placement(units=units, known="planned", note="from EXECUTION_DEVICES")

    def settings(self) -> Mapping[str, str]:
        settings = {
            **self._asked,
            "threads": str(_property(self._compiled, "INFERENCE_NUM_THREADS", "unknown")),
            "streams": str(_property(self._compiled, "NUM_STREAMS", "unknown")),
            "cpu_pinning": str(_property(self._compiled, "ENABLE_CPU_PINNING", "unknown")),
        }
        computed = _float_precision(self._compiled)
        # For int8 files: the part that remains floating point.
        same = computed == (self._precision if self._precision != "int8" else "fp32")
        return settings if computed is None or same else {**settings, "precision": computed}

    def profile(self, calls: int) -> Profile | None:
        """Profile a second compiled model, since counters slow down each operator slightly.

        Counters are means over all inferences since compilation, in whole microseconds. The first
        inferences are slow, so their share is subtracted.
        """
        request = _request(self._profiled(), self._tensors)
        for _ in range(WARM_CALLS):
            request.infer(share_outputs=True)
        before = {name: ns for name, (_, ns) in _spent(request, WARM_CALLS).items()}
        begun = now_ns()
        for _ in range(calls):
            request.infer(share_outputs=True)
        total_ns = now_ns() - begun
        spent = _spent(request, WARM_CALLS + calls)
        return Profile(
            source=f"openvino {version('openvino')}, PERF_COUNT",
            calls=calls,
            total_ns=round(total_ns / calls),
            operators=tuple(
                OperatorTime(
                    name=name,
                    kind=info.node_type,
                    time_ns=max(0, round((ns - before.get(name, 0)) / calls)),
                    unit=self._asked["device"],
                    precision=NAMES.get(info.exec_type.rpartition("_")[2]),
                )
                for name, (info, ns) in spent.items()
            ),
        )


def _spent(request: Any, inferences: int) -> dict[str, tuple[Any, int]]:
    """Each executed operator, and its total time over all ``inferences`` so far."""
    return {
        info.node_name: (info, _ns(info.real_time) * inferences)
        for info in request.get_profiling_info()
        if info.status == info.Status.EXECUTED
    }


def runner() -> Runner:
    """Entry point."""
    return OpenVinoRunner()


def _asked(options: RunOptions) -> dict[str, str]:
    """Options as given, with defaults filled in."""
    asked = {
        "device": "CPU",
        "inference_precision": "f32",
        "performance_mode": "latency",
        **options.extra,
    }
    for name, known in (("inference_precision", PRECISIONS), ("performance_mode", MODES)):
        choice_option(name, asked[name], known)
    streams = asked.get("streams")
    if streams is not None and (not streams.isdecimal() or int(streams) < 1):
        raise UsageError("streams must be a positive integer")
    return asked


def _properties(asked: Mapping[str, str], threads: int) -> dict[str, str | int]:
    properties: dict[str, str | int] = {"PERFORMANCE_HINT": MODES[asked["performance_mode"]]}
    if asked["device"] == "CPU":
        properties["INFERENCE_NUM_THREADS"] = threads
    if hint := PRECISIONS[asked["inference_precision"]]:
        properties["INFERENCE_PRECISION_HINT"] = hint
    if "streams" in asked:
        properties["NUM_STREAMS"] = asked["streams"]
    return properties


def _require(core: Any, device: str) -> None:
    """Raise :class:`StageError` if ``device`` is not available."""
    present = list(core.available_devices)
    if device.partition(":")[0].partition(".")[0] in {"AUTO", *(d.split(".")[0] for d in present)}:
        return
    raise StageError(
        "open",
        f"OpenVINO finds no device {device}",
        hint=f"available: {', '.join(present) or 'none'}, AUTO; a GPU or NPU also needs its driver",
        kind="unavailable",
    )


def _request(compiled: Any, tensors: Mapping[str, Any]) -> Any:
    request = compiled.create_infer_request()
    for name, tensor in tensors.items():
        request.set_tensor(name, tensor)
    return request


def _property(compiled: Any, name: str, otherwise: Any) -> Any:
    """A property of the compiled model; ``otherwise`` if the device does not report it."""
    try:
        return compiled.get_property(name)
    except RuntimeError:
        return otherwise


def _executed(compiled: Any) -> list[Mapping[str, str]]:
    """Properties of each node in the compiled graph that does work; empty if unreadable."""
    try:
        nodes = compiled.get_runtime_model().get_ordered_ops()
    except RuntimeError:
        return []
    infos = [
        {
            key: str(value.value if hasattr(value, "value") else value)
            for key, value in node.get_rt_info().items()
            if key in ("layerType", "runtimePrecision")
        }
        for node in nodes
    ]
    return [info for info in infos if info.get("layerType") not in NOT_EXECUTED]


def _float_precision(compiled: Any) -> str | None:
    """The lowest float precision of convolutions and products or, without any, the plugin's hint;
    ``None`` if it is not reported.

    Other nodes may only convert inputs.
    """
    found = {
        NAMES.get(info.get("runtimePrecision", ""))
        for info in _executed(compiled)
        if info.get("layerType", "").lower().replace("_", "") in PRODUCTS
    }
    if not found:
        hint = str(_property(compiled, "INFERENCE_PRECISION_HINT", ""))
        found = {NAMES.get(hint.removeprefix("<Type: '").removesuffix("'>"))}
    return next((name for name in ("bf16", "fp16", "fp32") if name in found), None)


def _ns(time: timedelta) -> int:
    return round(time.total_seconds() * 1e9)


@contextmanager
def _as_stage_error(what: str) -> Iterator[None]:
    """Turn OpenVINO's errors into :class:`StageError`. They start with locations in its source and
    with what it was doing; the reason is the last line."""
    try:
        yield
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reasons = [line for line in lines if not line.startswith("Exception from")]
        raise StageError(
            "open",
            f"{what}: {(reasons or lines or [type(error).__name__])[-1].removeprefix('-- ')}",
            hint="a damaged file, or an operator or device unknown to this version",
        ) from error
