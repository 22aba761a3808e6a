"""Run ExecuTorch ``.pte`` programs with the runtime's Python binding.

Inputs are set before every inference: the program's memory plan may reuse their space, so every
caller of ExecuTorch pays for that copy.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
    first_line,
)
from latbench.clock import now_ns
from latbench_runners.packages import package_capability

KERNELS = "portable kernels"


class ExecutorchRunner:
    """Run the method ``forward`` of a program."""

    name = "executorch"
    formats = ("executorch",)
    needs: tuple[str, ...] = ("executorch", "torch")
    options: Mapping[str, str] = {}

    units: Mapping[str, tuple[str, ...]] = {
        "XnnpackBackend": ("xnnpack", "cpu"),
        "CoreMLBackend": ("coreml",),
        KERNELS: ("cpu", "kernels"),
    }

    def probe(self) -> Capability:
        return package_capability("executorch", extra="executorch", unit="CPU")

    def prepare(self) -> None:
        """Import the binding, which also loads torch."""
        from executorch.extension.pybindings import portable_lib  # noqa: F401

    @contextmanager
    def open(
        self, artifact: Artifact, path: Path, inputs: Sequence[Array], options: RunOptions
    ) -> Iterator[Session]:
        """Load the program and its method. Raises :class:`StageError`."""
        import torch
        from executorch.extension.pybindings import portable_lib

        _require(portable_lib, artifact.details)
        threads = _set_threads(portable_lib, options.threads)
        tensors = [torch.from_numpy(array) for array in inputs]
        yield ExecutorchSession(
            _loaded(portable_lib, path, False), tensors, path, artifact.details, threads
        )


class ExecutorchSession:
    """A loaded method and its input tensors."""

    def __init__(
        self,
        loaded: tuple[Any, Any],
        inputs: list[Any],
        path: Path,
        details: Mapping[str, str],
        threads: str,
    ) -> None:
        self._program, self._method = loaded
        self._inputs = inputs
        self._path = path
        self._details = details
        self._threads = threads

    def run(self) -> None:
        self._method.set_inputs(self._inputs)
        self._method.execute()

    def outputs(self) -> tuple[Array, ...]:
        return tuple(tensor.numpy() for tensor in self._method.get_outputs(True))

    def placement(self) -> Placement:
        """Fixed at export; the runtime follows it or fails."""
        details = self._details
        if "delegates" not in details:
            return Placement(units={"CPU": None}, known="unknown")
        nodes = details["delegated_nodes"]
        units: dict[str, int | None] = {
            name: int(nodes) if nodes.isdecimal() and ", " not in details["delegates"] else None
            for name in details["delegates"].split(", ")
            if name != "none"
        }
        if kernels := int(details["kernels"]):
            units[KERNELS] = kernels
        return Placement(
            units=units,
            known="planned",
            note="read from the file; nodes counted in each delegate's own graph",
            partitions=int(details["partitions"]),
        )

    def settings(self) -> Mapping[str, str]:
        return {"threads": self._threads, "inputs": "set before each inference"}

    def profile(self, calls: int) -> Profile | None:
        """Profile a second load with an event trace (ETDump); ``None`` if the binding has none."""
        from executorch.extension.pybindings import portable_lib

        program, method = _loaded(portable_lib, self._path, True)
        if not program.has_etdump():
            return None
        method.set_inputs(self._inputs)
        method.execute()
        total_ns = 0
        for _ in range(calls):
            begun = now_ns()
            method.set_inputs(self._inputs)
            method.execute()
            total_ns += now_ns() - begun
        return Profile(
            source=f"executorch {version('executorch')}, ETDump",
            calls=calls,
            total_ns=round(total_ns / calls),
            operators=_operators(_executions(program)[-calls:]),
        )


def runner() -> Runner:
    """Entry point."""
    return ExecutorchRunner()


def _require(portable_lib: Any, details: Mapping[str, str]) -> None:
    """Raise :class:`StageError` if the file requires a delegate that is not linked in."""
    needed = set(details.get("delegates", "none").split(", ")) - {"none"}
    present = set(portable_lib._get_registered_backend_names())
    if missing := sorted(needed - present):
        raise StageError(
            "open",
            f"this ExecuTorch does not have {', '.join(missing)}, which the file requires",
            hint=f"available: {', '.join(sorted(present))}; Core ML requires macOS or iOS",
            kind="unavailable",
        )


def _set_threads(portable_lib: Any, threads: int) -> str:
    """Set the size of the thread pool; return the actual size. Only private calls can do this."""
    reset = getattr(portable_lib, "_unsafe_reset_threadpool", None)
    count = getattr(portable_lib, "_threadpool_get_thread_count", None)
    if reset is not None:
        reset(threads)
    return "unknown" if count is None else str(count())


def _loaded(portable_lib: Any, path: Path, traced: bool) -> tuple[Any, Any]:
    """Program and method; the method does not keep the program alive."""
    try:
        program = portable_lib._load_program(str(path), enable_etdump=traced)
        return program, program.load_method("forward")
    except RuntimeError as error:
        first = first_line(error)
        raise StageError(
            "open",
            f"ExecuTorch cannot load {path.name}: {first}",
            hint="truncated, corrupt, or from another ExecuTorch version",
        ) from error


def _executions(program: Any) -> list[list[Any]]:
    """Events of each execution in the trace."""
    from executorch.devtools.etdump.serialize import deserialize_from_etdump_flatcc

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.etdp"
        program.write_etdump_result_to_file(str(path))
        trace = deserialize_from_etdump_flatcc(path.read_bytes())
    return [
        [event.profile_event for event in block.events if event.profile_event]
        for block in trace.run_data
        if block.name == "Execute"
    ]


def _operators(executions: Sequence[Sequence[Any]]) -> tuple[OperatorTime, ...]:
    """Kernels, and operators reported by delegates; one that reports none is one operator."""
    spent: dict[tuple[int, str], int] = {}
    units: dict[tuple[int, str], str] = {}
    for events in executions:
        open_ones = {e.instruction_id for e in events if e.delegate_debug_id_str}
        for event in events:
            inside, name = bool(event.delegate_debug_id_str), event.name or ""
            silent = name == "DELEGATE_CALL" and event.instruction_id not in open_ones
            if not (inside or silent or name.startswith("native_call_")):
                continue
            key = (event.instruction_id, event.delegate_debug_id_str or name)
            spent[key] = spent.get(key, 0) + event.end_time - event.start_time
            units[key] = "delegate" if inside or silent else KERNELS
    return tuple(
        OperatorTime(
            name=f"{instruction}: {name.removeprefix('native_call_')}",
            kind=name.removeprefix("native_call_").partition(" #")[0],
            time_ns=round(ns / len(executions)),
            unit=units[instruction, name],
            precision=_precision(name),
        )
        for (instruction, name), ns in spent.items()
    )


def _precision(name: str) -> str | None:
    """Precision in the name of an XNNPACK operator: ``Convolution (NHWC, F32) IGEMM #1``."""
    kinds = {"F32": "fp32", "F16": "fp16", "QS8": "int8", "QC8": "int8", "QU8": "int8"}
    inside = name.partition("(")[2].partition(")")[0]
    return next((kinds[word] for word in inside.split(", ") if word in kinds), None)
