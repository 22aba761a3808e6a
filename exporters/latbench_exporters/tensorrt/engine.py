"""Engine files: what their header tells, and opening them on a GPU."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from latbench.api import Array, Exported, StageError, TensorSpec
from latbench_exporters.tensorrt.gpu import load_driver, memory

HEADER_BYTES = 32
SIZE_AT, VERSION_AT = 16, 24
"""Where the header has the file's size (8 bytes) and the version (4 numbers of a byte each). The
size was seen in engines for RTX alone; NVIDIA has named the place of the version."""
SIZED = b"vtrt"
TYPE_KEYS = ("DataType", "Format/Datatype", "Format")
"""Where a layer's tensor has its type: by itself in TensorRT 11, with its format before that."""
PRECISIONS = (
    (r"fp4|e2m1", "fp4"),
    (r"int4", "int4"),
    (r"fp8|e4m3", "fp8"),
    (r"(?<!u)int8", "int8"),
    (r"bf16|bfloat16", "bf16"),
    (r"half|fp16|float16", "fp16"),
    (r"float|fp32", "fp32"),
)
"""Part of the inspector's name for a type -> precision, the lowest first; the first one that is
found counts. Integers that are no quantised numbers are none of them."""


def logger_of(trt: Any) -> Any:
    """A logger that keeps the errors and prints nothing: they are the only reason ever given."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        """Errors, in order."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            """Called by TensorRT."""
            if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
                self.errors.append(message)

    return Logger()


def first_line(text: str) -> str:
    """Of what TensorRT says, the first line."""
    return (text.strip() or "it does not say why").splitlines()[0]


def check_header(path: Path, tool: str, magic: bytes) -> str:
    """The version of the tool that made the engine. Raises :class:`StageError`."""
    size = path.stat().st_size
    with path.open("rb") as file:
        header = file.read(HEADER_BYTES)
    if not header.startswith(magic) or len(header) < HEADER_BYTES:
        raise StageError(
            "export",
            f"{path.name} is no engine of {tool}: it does not begin as one",
            hint="some tools write a header of their own before the engine (Ultralytics does): "
            "save the engine alone, or start from the ONNX file",
        )
    whole = int.from_bytes(header[SIZE_AT : SIZE_AT + 8], "little")
    if magic == SIZED and whole != size:
        raise StageError(
            "export",
            f"{path.name} has {size} bytes where its header says {whole}",
            hint="truncated: copy it again",
        )
    return ".".join(str(number) for number in header[VERSION_AT : VERSION_AT + 4])


def opened(trt: Any, path: Path, *, own: bool) -> Any:
    """The engine at ``path``, on the GPU. Only where a driver answers.

    ``own``: it was built here, so that the code for the host is run that an engine for several
    versions carries. A foreign one could do anything.
    """
    logger = logger_of(trt)
    trt.init_libnvinfer_plugins(logger, "")
    runtime = trt.Runtime(logger)
    runtime.engine_host_code_allowed = own
    engine = runtime.deserialize_cuda_engine(path.read_bytes())
    if engine is None:
        reason = first_line(logger.errors[0] if logger.errors else "")
        raise StageError(
            "export",
            f"{path.name} cannot be opened by {trt.__name__} {trt.__version__}: {reason}",
            hint="an engine is of one version and for one kind of GPU, and one that is for several "
            "versions carries code that is only run if it was built here: build it again here",
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
    """The lowest precision that the engine's layers tell of, or ``unknown``; and, as details, what
    they do not tell. They tell of types only where the engine was built to (``detailed``)."""
    told = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    layers = [layer for layer in json.loads(told).get("Layers", []) if isinstance(layer, dict)]
    found = {_precision(tensor) for layer in layers for tensor in _tensors_of(layer)}
    lowest = next((name for _, name in PRECISIONS if name in found), None)
    if lowest is None:
        return "unknown", {"precision": "unknown: the engine does not tell its layers' types"}
    if lowest != "fp32":
        return lowest, {}
    if any("tf32" in str(layer.get("TacticName", "")).lower() for layer in layers):
        return "tf32", {}
    return lowest, {"tf32": "unknown: an engine does not tell it of every kernel"}


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
    """One inference, inputs and outputs in the order of ``exported``; without it in the engine's,
    which need not be that of the ONNX file."""
    import numpy as np

    specs, wanted = tensors(trt, engine)
    if exported is not None:
        specs = _ordered(specs, exported.inputs)
        wanted = _ordered(wanted, exported.outputs)
    context = engine.create_execution_context()
    if context is None:
        raise StageError("export", "the GPU has no memory for the engine", kind="out_of_memory")
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
    """The engine's tensors in another order. Raises :class:`StageError` if they are others."""
    by_name = {spec.name: spec for spec in found}
    names = [spec.name for spec in wanted]
    if sorted(by_name) != sorted(names):
        raise StageError(
            "export",
            f"the engine has the tensors {', '.join(by_name)} where the ONNX file has "
            f"{', '.join(names)}",
            hint="another version of TensorRT, or another opset (--option opset=18)",
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
            f"{name!r} of the engine is of type {kind}, which numpy has not",
            hint="give the engine inputs and outputs of fp32 or fp16",
        ) from None
