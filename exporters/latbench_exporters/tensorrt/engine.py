"""Engine files: parse the header, open them on a GPU, run an inference."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from latbench.api import Array, Exported, StageError, TensorSpec, first_line
from latbench_exporters.tensorrt.gpu import load_driver, memory

NO_REASON = "no reason given"
HEADER_BYTES = 32
SIZE_AT, VERSION_AT = 16, 24
"""Offsets in the header: file size (8 bytes) and version (4 numbers of one byte each). The size was
observed in engines for RTX only; the position of the version is documented by NVIDIA."""
SIZED = b"vtrt"
TYPE_KEYS = ("DataType", "Format/Datatype", "Format")
"""Keys for the type of a layer's tensor: alone in TensorRT 11, combined with its format before."""
PRECISIONS = (
    (r"fp4|e2m1", "fp4"),
    (r"int4", "int4"),
    (r"fp8|e4m3", "fp8"),
    (r"(?<!u)int8", "int8"),
    (r"bf16|bfloat16", "bf16"),
    (r"half|fp16|float16", "fp16"),
    (r"float|fp32", "fp32"),
)
"""Pattern in the inspector's type name -> precision, lowest first; the first match counts. Plain
integers that are not quantized values do not match."""


def logger_of(trt: Any) -> Any:
    """A logger that collects errors and prints nothing. Only the logger receives the reasons."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        """Collects errors, in order."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            """Called by TensorRT."""
            if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
                self.errors.append(message)

    return Logger()


def check_header(path: Path, tool: str, magic: bytes) -> str:
    """Version of the tool that built the engine. Raises :class:`StageError` for other files."""
    size = path.stat().st_size
    with path.open("rb") as file:
        header = file.read(HEADER_BYTES)
    if not header.startswith(magic) or len(header) < HEADER_BYTES:
        raise StageError(
            "export",
            f"{path.name} is not an engine of {tool}: it has another header",
            hint="some tools, such as Ultralytics, write their own header before the engine: "
            "save the engine alone, or start from the ONNX file",
        )
    whole = int.from_bytes(header[SIZE_AT : SIZE_AT + 8], "little")
    if magic == SIZED and whole != size:
        raise StageError(
            "export",
            f"{path.name} has {size} bytes; its header states {whole}",
            hint="truncated: copy it again",
        )
    return ".".join(str(number) for number in header[VERSION_AT : VERSION_AT + 4])


def opened(trt: Any, path: Path, *, own: bool) -> Any:
    """Load the engine at ``path`` onto the GPU. Requires a working driver.

    ``own`` allows the host code embedded in version-compatible engines; pass it only for engines
    built here, since foreign host code could do anything. Raises :class:`StageError`.
    """
    logger = logger_of(trt)
    trt.init_libnvinfer_plugins(logger, "")
    runtime = trt.Runtime(logger)
    runtime.engine_host_code_allowed = own
    engine = runtime.deserialize_cuda_engine(path.read_bytes())
    if engine is None:
        reason = first_line(logger.errors[0] if logger.errors else "", NO_REASON)
        raise StageError(
            "export",
            f"{path.name} cannot be opened by {trt.__name__} {trt.__version__}: {reason}",
            hint="an engine requires the TensorRT version and kind of GPU that it was built for; "
            "the host code of a version-compatible engine runs only if built here: rebuild it here",
            detail="\n".join(logger.errors) or None,
        )
    return engine


def tensors(trt: Any, engine: Any) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs, in the engine's order. Raises :class:`StageError`."""
    found: dict[bool, list[TensorSpec]] = {True: [], False: []}
    for name in map(engine.get_tensor_name, range(engine.num_io_tensors)):
        shape = tuple(engine.get_tensor_shape(name))
        if any(size < 0 for size in shape):
            raise StageError(
                "export",
                f"{name!r} of the engine has no fixed shape: {shape}",
                hint="build the engine for one shape, or start from the ONNX file",
            )
        spec = TensorSpec(name=name, shape=shape, dtype=_dtype(trt, engine, name))
        found[engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT].append(spec)
    return tuple(found[True]), tuple(found[False])


def computes_in(trt: Any, engine: Any) -> tuple[str, dict[str, str]]:
    """The lowest precision of the engine's layers, or ``unknown``; and, as details, what is
    unknown. Engines report layer types only if built with ``profiling=detailed``."""
    report = engine.create_engine_inspector().get_engine_information(
        trt.LayerInformationFormat.JSON
    )
    layers = [layer for layer in json.loads(report).get("Layers", []) if isinstance(layer, dict)]
    found = {_precision(tensor) for layer in layers for tensor in _tensors_of(layer)}
    lowest = next((name for _, name in PRECISIONS if name in found), None)
    if lowest is None:
        return "unknown", {"precision": "unknown: the engine does not report layer types"}
    if lowest != "fp32":
        return lowest, {}
    if any("tf32" in str(layer.get("TacticName", "")).lower() for layer in layers):
        return "tf32", {}
    return lowest, {"tf32": "unknown: engines do not report it for every kernel"}


def _tensors_of(layer: Mapping[str, Any]) -> list[Any]:
    found = [*layer.get("Inputs", ()), *layer.get("Outputs", ())]
    return [tensor for tensor in found if isinstance(tensor, dict)]


def _precision(tensor: Mapping[str, Any]) -> str | None:
    kind = next((str(tensor[key]) for key in TYPE_KEYS if tensor.get(key)), "")
    found = (name for sign, name in PRECISIONS if re.search(sign, kind, re.IGNORECASE))
    return next(found, None)


def execute(
    trt: Any, engine: Any, inputs: Sequence[Array], exported: Exported | None
) -> tuple[Array, ...]:
    """Run one inference. Inputs and outputs are in the order of ``exported``, or of the engine
    without it; the two orders may differ."""
    import numpy as np

    specs, wanted = tensors(trt, engine)
    if exported is not None:
        specs = _ordered(specs, exported.inputs)
        wanted = _ordered(wanted, exported.outputs)
    context = engine.create_execution_context()
    if context is None:
        raise StageError("export", "not enough GPU memory for the engine", kind="out_of_memory")
    given = dict(zip((spec.name for spec in specs), inputs, strict=True))
    outputs = {spec.name: np.empty(spec.shape, spec.dtype) for spec in wanted}
    with memory(load_driver()) as held:
        addresses = {name: held.put(array) for name, array in given.items()}
        addresses |= {name: held.reserve(array.nbytes) for name, array in outputs.items()}
        order = map(engine.get_tensor_name, range(engine.num_io_tensors))
        if not context.execute_v2([addresses[name] for name in order]):
            raise StageError("export", "the engine failed on the GPU")
        for name, array in outputs.items():
            held.get(addresses[name], array)
        del context
    return tuple(outputs.values())


def _ordered(found: Sequence[TensorSpec], wanted: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """The engine's tensors in another order. Raises :class:`StageError` if the names differ."""
    by_name = {spec.name: spec for spec in found}
    names = [spec.name for spec in wanted]
    if sorted(by_name) != sorted(names):
        raise StageError(
            "export",
            f"the engine has the tensors {', '.join(by_name)} where the ONNX file has "
            f"{', '.join(names)}",
            hint="try another version of TensorRT, or another opset (--option opset=18)",
        )
    return tuple(by_name[name] for name in names)


def _dtype(trt: Any, engine: Any, name: str) -> str:
    import numpy as np

    kind = engine.get_tensor_dtype(name)
    try:
        return str(np.dtype(trt.nptype(kind)))
    except TypeError:
        raise StageError(
            "export",
            f"{name!r} of the engine has type {kind}, which numpy does not support",
            hint="use fp32 or fp16 inputs and outputs",
        ) from None
