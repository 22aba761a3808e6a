"""Run TFLite files with ``ai-edge-litert`` or its predecessor ``tflite-runtime``.

Both provide the same ``Interpreter``. The predecessor is for boards that lack a wheel of it. It
was built against numpy 1 and fails with numpy 2, but only when the first model is loaded.
"""

from __future__ import annotations

import importlib
import mmap
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from latbench.api import (
    Array,
    Artifact,
    Capability,
    Placement,
    Profile,
    Runner,
    RunOptions,
    Session,
    StageError,
    UsageError,
    choice_option,
    examples_of,
    first_line,
)
from latbench_runners.tflite.accelerated import UNITS, AcceleratedSession, with_accelerator
from latbench_runners.tflite.profile import profile_file

NEW, OLD = "ai-edge-litert", "tflite-runtime"
MODULES = {NEW: "ai_edge_litert.interpreter", OLD: "tflite_runtime.interpreter"}
XNNPACK, KERNELS = "XNNPACK", "TFLite kernels"
PERMITS = b"reduced_precision_support"
"""Metadata that permits XNNPACK to compute in 16 bits (see the README of the XNNPACK delegate)."""


class TfliteRunner:
    """Run TFLite files on the CPU, with XNNPACK by default, or on LiteRT's accelerators."""

    name = "tflite"
    formats = ("tflite",)
    needs: tuple[str, ...] = ("ai-edge-litert",)
    options: Mapping[str, str] = {
        "runtime": f"{NEW} or {OLD} (default the first of these that works)",
        "xnnpack": "on, off: let XNNPACK execute the operators that it supports (default on)",
        "accelerator": "cpu, gpu, npu: unit on which LiteRT executes all operators, or gpu|cpu, "
        "npu|cpu: the CPU takes those that the unit does not support (default cpu)",
        "delegate": "path to the shared library of a delegate, applied before XNNPACK",
        "delegate_options": "options of the delegate: KEY=VALUE;KEY=VALUE",
    }

    units: Mapping[str, tuple[str, ...]] = {
        XNNPACK: ("cpu",),
        KERNELS: ("cpu", "kernels"),
        UNITS["cpu"]: ("cpu",),
        UNITS["gpu"]: ("gpu",),
        UNITS["npu"]: ("npu",),
    }

    def probe(self) -> Capability:
        """Available if the installed versions of one of the runtimes can work."""
        reasons = []
        for runtime in MODULES:
            reason = _unfit(runtime)
            if reason is None:
                return Capability(available=True, version=version(runtime), units=("CPU",))
            reasons.append(reason)
        return Capability(
            available=False, reason="; ".join(reasons), hint="pip install 'latbench[tflite]'"
        )

    def prepare(self) -> None:
        """Import every runtime that can work: an option may choose either."""
        for runtime, module in MODULES.items():
            if _unfit(runtime) is None:
                with suppress(ImportError):
                    importlib.import_module(module)

    @contextmanager
    def open(
        self, artifact: Artifact, path: Path, inputs: Sequence[Array], options: RunOptions
    ) -> Iterator[Session]:
        """Load ``path``, allocate its tensors, and copy ``inputs`` into them.

        Raises :class:`StageError` or :class:`UsageError`.
        """
        settings = _settings(options, artifact.precision)
        runtime = settings["runtime"]
        if "accelerator" in settings:
            yield AcceleratedSession(path, inputs, settings)
            return
        module = _imported(runtime)
        kinds = module.OpResolverType
        delegates = _delegates(module, settings)
        plain = kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        try:
            interpreter = module.Interpreter(
                str(path),
                num_threads=options.threads,
                experimental_delegates=delegates,
                experimental_op_resolver_type=kinds.AUTO if settings["xnnpack"] == "on" else plain,
            )
            # The user's delegate is applied by now; XNNPACK is applied on allocation.
            before = len(interpreter._get_ops_details())
            operators = before
            if delegates:
                whole = module.Interpreter(str(path), experimental_op_resolver_type=plain)
                operators = len(whole._get_ops_details())
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError, SystemError) as error:
            first = first_line(error)
            raise StageError(
                "open",
                f"{runtime} cannot load the file: {first}",
                hint="damaged, newer than the runtime, or with an unsupported operator",
            ) from error
        for detail, array in zip(interpreter.get_input_details(), inputs, strict=True):
            interpreter.set_tensor(detail["index"], array)
        halves = artifact.precision == "fp16"
        yield _InterpreterSession(interpreter, operators, before, path, settings, halves=halves)


def runner() -> Runner:
    """Entry point."""
    return TfliteRunner()


class _InterpreterSession:
    """An interpreter with its inputs in place; an inference does not overwrite them."""

    def __init__(
        self,
        interpreter: Any,
        operators: int,
        before: int,
        path: Path,
        settings: Mapping[str, str],
        *,
        halves: bool,
    ) -> None:
        self._interpreter = interpreter
        self._operators = operators
        self._before = before
        self._path = path
        self._settings = settings
        self._halves = halves
        # Strings cannot be compared as numbers are.
        outputs = interpreter.get_output_details()
        self._outputs = [each["index"] for each in outputs if each["dtype"].__name__ != "bytes_"]
        self._strings = len(self._outputs) < len(outputs)

    def run(self) -> None:
        self._interpreter.invoke()

    def outputs(self) -> tuple[Array, ...]:
        return tuple(self._interpreter.get_tensor(index).copy() for index in self._outputs)

    def placement(self) -> Placement:
        """Read from the graph after delegation, in which each delegated part is one more node."""
        nodes = self._interpreter._get_ops_details()
        plain = nodes[: self._operators]
        pieces = {
            self._settings.get("delegate", ""): nodes[self._operators : self._before],
            XNNPACK: nodes[self._before :],
        }
        units: dict[str, int | None] = {}
        places: dict[str, set[int]] = {}
        steps: list[tuple[str, Mapping[str, Any]]] = []
        taken: set[int] = set()
        for unit, added in pieces.items():
            own = [node for node in added if node["op_name"] == "DELEGATE"]
            found = _delegated(plain, own)
            taken |= found
            steps += [(unit, node) for node in own]
            if own:
                units[unit] = len(found)
                places[unit] = found
        left = [node for i, node in enumerate(plain) if i not in taken]
        places[KERNELS] = set(range(len(plain))) - taken
        steps += [(KERNELS, node) for node in left]
        if left:
            units[KERNELS] = len(left)
        return Placement(
            units=units,
            known="proven",
            note="read from the delegated graph",
            partitions=_runs(steps),
            examples=examples_of(
                (unit, f"{node['op_name']} (node {i})")
                for unit, members in places.items()
                for i, node in enumerate(plain)
                if i in members
            ),
        )

    def settings(self) -> Mapping[str, str]:
        # Read after loading was timed, since this reads the file again.
        if self._halves and _widens(self._settings, self._path):
            return {**self._settings, "precision": "fp32"}
        return self._settings

    def profile(self, calls: int) -> Profile | None:
        """Profile with the new runtime and XNNPACK only; its profiler supports nothing else."""
        if self._settings["runtime"] != NEW or "delegate" in self._settings:
            return None
        if self._settings["xnnpack"] == "off" or self._strings:
            return None
        inputs = [
            self._interpreter.get_tensor(detail["index"])
            for detail in self._interpreter.get_input_details()
        ]
        threads = int(self._settings["threads"])
        return profile_file(self._path, inputs, self.outputs(), threads, calls)


def _delegated(plain: Sequence[Mapping[str, Any]], pieces: Sequence[Mapping[str, Any]]) -> set[int]:
    """Indices of the graph's own operators in delegated parts: all those between the outputs and
    the inputs of a part."""
    maker = {int(tensor): i for i, node in enumerate(plain) for tensor in node["outputs"]}
    taken: set[int] = set()
    for piece in pieces:
        stop = {int(tensor) for tensor in piece["inputs"]}
        pending = [int(tensor) for tensor in piece["outputs"]]
        while pending:
            tensor = pending.pop()
            node = maker.get(tensor)
            if node is None or node in taken or tensor in stop:
                continue
            taken.add(node)
            pending += [int(each) for each in plain[node]["inputs"]]
    return taken


def _runs(steps: Sequence[tuple[str, Mapping[str, Any]]]) -> int:
    """Number of changes of unit during execution, plus one.

    The order is not reported. TFLite partitions a graph so that a unit continues as long as it has
    operators whose inputs are available.
    """
    missing = {int(tensor) for _, node in steps for tensor in node["outputs"]}
    waiting, runs, current = list(steps), 0, ""
    while waiting:
        ready = [
            (unit, node)
            for unit, node in waiting
            if missing.isdisjoint(int(tensor) for tensor in node["inputs"])
        ]
        if not ready:
            break
        same = [step for step in ready if step[0] == current]
        if not same:
            runs, current = runs + 1, ready[0][0]
            same = [step for step in ready if step[0] == current]
        for _, node in same:
            missing.difference_update(int(tensor) for tensor in node["outputs"])
        done = {id(node) for _, node in same}
        waiting = [step for step in waiting if id(step[1]) not in done]
    return max(1, runs)


def _widens(settings: Mapping[str, str], path: Path) -> bool:
    """Whether 16-bit weights are expanded and computed with in fp32, as far as known.

    TFLite's own kernels always do so; XNNPACK does on x86, and elsewhere unless the file's metadata
    permit 16-bit computation (:data:`PERMITS`), which no file exported here has.
    """
    if "delegate" in settings:
        return False
    if settings["xnnpack"] == "off" or platform.machine().lower() in ("x86_64", "amd64"):
        return True
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        return whole.find(PERMITS) < 0


def _unfit(runtime: str) -> str | None:
    """Why the runtime cannot work here, judged by the installed versions; ``None`` if it can."""
    try:
        version(runtime)
    except PackageNotFoundError:
        return f"{runtime} is not installed"
    if runtime == OLD and not version("numpy").startswith("1."):
        return f"{OLD} {version(OLD)} requires numpy < 2; installed is {version('numpy')}"
    return None


def _settings(options: RunOptions, precision: str) -> dict[str, str]:
    chosen = next((name for name in MODULES if _unfit(name) is None), NEW)
    settings = {
        "threads": str(options.threads),
        "runtime": chosen,
        "xnnpack": "on",
        "accelerator": "cpu",
        **options.extra,
    }
    choice_option("runtime", settings["runtime"], MODULES)
    choice_option("xnnpack", settings["xnnpack"], ("on", "off"))
    if "delegate_options" in settings and "delegate" not in settings:
        raise UsageError("delegate_options requires a delegate", hint="use --option delegate=FILE")
    if (reason := _unfit(settings["runtime"])) is not None:
        raise _unavailable(reason)
    settings["runtime_version"] = version(settings["runtime"])
    settings = with_accelerator(settings, options.extra, precision)
    if "accelerator" in settings and settings["runtime"] != NEW:
        raise UsageError(f"runtime={OLD} has no accelerators", hint=f"use runtime={NEW}")
    return settings


def _imported(runtime: str) -> Any:
    try:
        return importlib.import_module(MODULES[runtime])
    except ImportError as error:
        first = first_line(error)
        raise _unavailable(f"{runtime} cannot be imported: {first}") from error


def _unavailable(reason: str) -> StageError:
    return StageError(
        "open",
        reason,
        hint="pip install 'latbench[tflite]', or select the other with --option runtime=…",
        kind="unavailable",
    )


def _delegates(module: Any, settings: Mapping[str, str]) -> list[Any] | None:
    if "delegate" not in settings:
        return None
    pairs = [
        part.partition("=") for part in settings.get("delegate_options", "").split(";") if part
    ]
    if any(not equals for _, equals, _ in pairs):
        raise UsageError("delegate_options must be KEY=VALUE;KEY=VALUE")
    try:
        return [module.load_delegate(settings["delegate"], {key: value for key, _, value in pairs})]
    except (ValueError, OSError, RuntimeError) as error:
        first = first_line(error)
        raise StageError(
            "open",
            f"the delegate {settings['delegate']} cannot be loaded: {first}",
            hint="it must be the shared library of a TFLite delegate for this system",
            kind="unavailable",
        ) from error
