"""One engine on one GPU: buffers, inferences and their times."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latbench.api import Array, Artifact, Placement, Profile, Stage, StageError, first_line
from latbench.clock import time_calls
from latbench_runners.tensorrt.cuda import Gpu
from latbench_runners.tensorrt.engine import NO_REASON, load_context, logger_of, read_tensors
from latbench_runners.tensorrt.nvml import load_nvml, read_clocks
from latbench_runners.tensorrt.profile import profile_calls


@dataclass(frozen=True, kw_only=True)
class Buffer:
    """An input or output: device address, and a pinned host array for copies."""

    address: int
    host: Array


@contextmanager
def open_session(
    trt: Any,
    gpu: Gpu,
    artifact: Artifact,
    path: Path,
    inputs: Sequence[Array],
    settings: Mapping[str, str],
) -> Iterator[TensorRtSession]:
    """Load the engine at ``path``, bind buffers, and copy ``inputs`` to the GPU."""
    logger = logger_of(trt)
    engine, context = load_context(trt, logger, artifact, path)
    session = TensorRtSession(trt, gpu, engine, context, logger)
    del engine, context
    try:
        session.bind(inputs, artifact)
        session.know(settings, artifact)
        yield session
    finally:
        # Release the engine before the GPU's context, in which it has memory.
        session.drop()


class TensorRtSession:
    """A session that times itself with events on the GPU's stream."""

    def __init__(self, trt: Any, gpu: Gpu, engine: Any, context: Any, logger: Any) -> None:
        self._trt = trt
        self._gpu = gpu
        self._engine = engine
        self._context = context
        self._logger = logger
        self._inputs: list[Buffer] = []
        self._outputs: list[Buffer] = []
        self._marks: list[ctypes.c_void_p] = []
        """Events, created on demand and reused."""
        self._infer: Callable[[], None] = self._enqueue
        self._settings: dict[str, str] = {}
        self._reported: dict[str, str] | None = None
        self._kernels_loaded = False
        self._beside: dict[str, Sequence[int]] = {}

    def bind(self, inputs: Sequence[Array], artifact: Artifact) -> None:
        """Allocate buffers for all tensors of the engine, which must match the artifact's."""
        given = dict(zip((spec.name for spec in artifact.inputs), inputs, strict=True))
        wanted = {spec.name: spec for spec in (*artifact.inputs, *artifact.outputs)}
        bound: dict[str, Buffer] = {}
        for spec in read_tensors(self._trt, self._engine):
            if spec != wanted.get(spec.name):
                raise StageError(
                    "open",
                    f"the engine has a tensor {spec.name!r} {spec.dtype}{list(spec.shape)} that "
                    "the artifact does not have",
                    hint="the file is not the exported one: run with --no-cache",
                )
            host = self._gpu.host_array(spec.shape, spec.dtype)
            bound[spec.name] = Buffer(address=self._gpu.device_memory(host.nbytes), host=host)
            self._context.set_tensor_address(spec.name, bound[spec.name].address)
        for name in sorted(set(wanted) - set(bound)):
            raise StageError("open", f"the engine has no tensor {name!r}, unlike the artifact")
        self._inputs = [bound[spec.name] for spec in artifact.inputs]
        self._outputs = [bound[spec.name] for spec in artifact.outputs]
        for buffer, array in zip(self._inputs, given.values(), strict=True):
            buffer.host[...] = array
            self._gpu.copy_in(buffer.address, buffer.host)
        self._gpu.synchronize()

    def know(self, settings: Mapping[str, str], artifact: Artifact) -> None:
        """Store the settings and switch to stage ``time``. Runs nothing: the caller makes the first
        inference, which loads or compiles kernels."""
        self._settings = dict(settings)
        if artifact.details.get("tf32") == "on" and artifact.precision == "fp32":
            self._settings["precision"] = "tf32"
        self._gpu.stage = "time"

    def run(self) -> None:
        self._capture()
        self._infer()
        self._gpu.synchronize()
        self._kernels_loaded = True

    def time_block(self, calls: int) -> Sequence[int]:
        self._capture()
        moves = self._settings["transfers"] == "on"
        per_call = 4 if moves else 2
        while len(self._marks) < calls * per_call:
            self._marks.append(self._gpu.event())
        marks = iter(self._marks)
        call_ns = time_calls(lambda: self._marked(marks, moves), calls)
        self._kernels_loaded = True
        # Read after the block, so that reading is not part of any call.
        between, device_ns, transfer_ns = self._gpu.between_ns, [], []
        for i in range(0, calls * per_call, per_call):
            if moves:
                begun, start, end, done = self._marks[i : i + per_call]
                transfer_ns.append(between(begun, start) + between(end, done))
            else:
                start, end = self._marks[i : i + per_call]
            device_ns.append(between(start, end))
        by_host = self._settings["clock"] == "host"
        self._beside = {"device": device_ns} if by_host else {"call": call_ns}
        if moves:
            self._beside["transfers"] = transfer_ns
        return call_ns if by_host else device_ns

    def beside_ns(self) -> Mapping[str, Sequence[int]]:
        return self._beside

    def profile(self, calls: int) -> Profile | None:
        with self._at("outputs"):
            return profile_calls(self._trt, self._gpu, self._engine, self._context, calls)

    def outputs(self) -> tuple[Array, ...]:
        with self._at("outputs"):
            for buffer in self._outputs:
                self._gpu.copy_out(buffer.host, buffer.address)
            self._gpu.synchronize()
        return tuple(buffer.host.copy() for buffer in self._outputs)

    def placement(self) -> Placement:
        return Placement(
            units={self._gpu.facts.name: self._engine.num_layers},
            known="proven",
            note="an engine cannot run on another unit",
        )

    def settings(self) -> Mapping[str, str]:
        # Read on first use, after loading was timed, so that it is not part of the load time.
        if self._reported is None:
            facts = self._gpu.facts
            self._reported = {
                "threads": "unknown",
                **self._settings,
                "gpu": facts.name,
                "compute_capability": facts.compute_capability,
                "cuda": facts.cuda,
                self._trt.__name__: str(self._trt.__version__),
                "engine_memory_bytes": str(_memory_bytes(self._engine)),
                **read_clocks(load_nvml(), facts.bus),
            }
        return self._reported

    def drop(self) -> None:
        """Release TensorRT's objects, even if the session is still referenced."""
        self._infer = self._enqueue
        self._context = self._engine = None

    def _marked(self, marks: Iterator[ctypes.c_void_p], moves: bool) -> None:
        """Run one inference between events and wait for it."""
        gpu = self._gpu
        if moves:
            gpu.record(next(marks))
            for buffer in self._inputs:
                gpu.copy_in(buffer.address, buffer.host)
        gpu.record(next(marks))
        self._infer()
        gpu.record(next(marks))
        if moves:
            for buffer in self._outputs:
                gpu.copy_out(buffer.host, buffer.address)
            gpu.record(next(marks))
        gpu.synchronize()

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(self._gpu.stream):
            errors = self._logger.errors
            raise StageError(
                self._gpu.stage,
                f"TensorRT could not start the inference: "
                f"{first_line(errors[-1] if errors else '', NO_REASON)}",
                detail="\n".join(errors) or None,
            )

    def _capture(self) -> None:
        """Switch to launching one graph, if requested. Called after the first block, since loading
        kernels cannot be captured."""
        captured = self._infer != self._enqueue
        if self._settings["cuda_graph"] == "off" or captured or not self._kernels_loaded:
            return
        try:
            self._infer = self._gpu.capture(self._enqueue)
        except StageError as error:
            raise StageError(
                error.stage,
                f"the engine cannot be captured as a CUDA graph: {error.message}",
                hint="omit cuda_graph: an engine with loops or data-dependent shapes cannot be "
                "captured",
                kind=error.kind,
                detail=error.detail,
            ) from error

    @contextmanager
    def _at(self, stage: Stage) -> Iterator[None]:
        before, self._gpu.stage = self._gpu.stage, stage
        try:
            yield
        finally:
            self._gpu.stage = before


def _memory_bytes(engine: Any) -> int:
    """Bytes that an inference needs besides the weights; the name changed in TensorRT 10."""
    found = getattr(engine, "device_memory_size_v2", None)
    return int(engine.device_memory_size if found is None else found)
