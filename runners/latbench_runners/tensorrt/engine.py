"""Load an engine file into an execution context, and explain errors in TensorRT's log."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from latbench.api import Artifact, StageError, TensorSpec, first_line

MADE_BY = slice(24, 28)
"""Offset of the builder's version in an engine's header: four numbers of one byte each."""
NO_REASON = "no reason given"
REBUILD = "export it again on this machine: latbench run ... --no-cache"
REASONS = (
    (
        r"version tag does not match|incompatible serialization version|created with TensorRT",
        "it was built by another version",
        REBUILD,
    ),
    (
        r"incompatible device|compute capability|platform (specific )?tag|expecting compute",
        "it was built for another kind of GPU",
        REBUILD,
    ),
    (r"header\.size == blobSize", "the file is truncated", "copy it again"),
    (r"magic ?tag", "the file is not an engine of this runtime", "check its format and --backend"),
    (
        r"cudaError 35|driver version is insufficient",
        "the NVIDIA driver is older than its CUDA",
        "update the driver",
    ),
    (
        r"lean runtime|host code",
        "it contains host code, which runs only from engines that were built here",
        REBUILD,
    ),
)
"""Pattern in the log, its meaning, what to do."""


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


def load_context(trt: Any, logger: Any, artifact: Artifact, path: Path) -> tuple[Any, Any]:
    """The engine and a context to execute it in. Raises :class:`StageError`."""
    trt.init_libnvinfer_plugins(logger, "")
    runtime = trt.Runtime(logger)
    if artifact.details.get("version_compatible") == "yes":
        # Host code embedded in the engine is allowed, since the engine was built here.
        runtime.engine_host_code_allowed = True
    content = path.read_bytes()
    engine = runtime.deserialize_cuda_engine(content)
    if engine is None:
        raise _unreadable(trt, path, content, logger.errors)
    context = engine.create_execution_context()
    if context is None:
        raise _no_context(logger.errors)
    return engine, context


def read_tensors(trt: Any, engine: Any) -> list[TensorSpec]:
    """All inputs and outputs of the engine."""
    import numpy as np

    specs = []
    for name in map(engine.get_tensor_name, range(engine.num_io_tensors)):
        kind = engine.get_tensor_dtype(name)
        try:
            dtype = np.dtype(trt.nptype(kind)).name
        except TypeError:
            raise StageError(
                "open",
                f"{name!r} of the engine has type {kind}, which numpy does not support",
                hint="use fp32 or fp16 inputs and outputs",
            ) from None
        shape = tuple(int(size) for size in engine.get_tensor_shape(name))
        specs.append(TensorSpec(name=name, shape=shape, dtype=dtype))
    return specs


def _unreadable(trt: Any, path: Path, content: bytes, errors: list[str]) -> StageError:
    log = "\n".join(errors)
    found = ((what, do) for sign, what, do in REASONS if re.search(sign, log, re.IGNORECASE))
    first = first_line(errors[0] if errors else "", NO_REASON)
    what, do = next(found, (first, REBUILD))
    made_by = ".".join(str(number) for number in content[MADE_BY])
    here = str(trt.__version__)
    if "version" in what and made_by:
        what = f"{what} ({made_by}; this is {here})"
    short = re.search("out ?of ?memory", log, re.IGNORECASE) is not None
    return StageError(
        "open",
        f"{trt.__name__} {here} cannot open {path.name}: {what}",
        hint="use a smaller batch, or a GPU that nothing else uses" if short else do,
        kind="out_of_memory" if short else "error",
        detail=log or None,
    )


def _no_context(errors: list[str]) -> StageError:
    log = "\n".join(errors)
    short = "memory" in log.lower() or not log
    return StageError(
        "open",
        "TensorRT cannot create an execution context: "
        f"{first_line(errors[0] if errors else '', NO_REASON)}",
        hint="use a smaller batch, or a GPU that nothing else uses",
        kind="out_of_memory" if short else "error",
        detail=log or None,
    )
