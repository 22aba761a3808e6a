"""TFLite files, by ``ai-edge-litert`` or by its predecessor ``tflite-runtime``.

Both offer the same ``Interpreter``. The old one is for boards that the new one has no wheel for: it
was built against numpy 1 and fails on numpy 2 when the first model is loaded, not before.
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
)
from latbench_runners.tflite.profile import profile_file

NEW, OLD = "ai-edge-litert", "tflite-runtime"
MODULES = {NEW: "ai_edge_litert.interpreter", OLD: "tflite_runtime.interpreter"}
XNNPACK, KERNELS = "XNNPACK", "TFLite kernels"
PERMITS = b"reduced_precision_support"
"""Metadata by which a file lets XNNPACK compute in 16 bits (the XNNPACK delegate's README)."""


class TfliteRunner:
    """Executes TFLite files on the CPU, with XNNPACK unless told otherwise."""

    name = "tflite"
    formats = ("tflite",)
    options: Mapping[str, str] = {
        "runtime": f"{NEW} or {OLD} (default: the first of these that works)",
        "xnnpack": "on or off: whether XNNPACK takes the operators that it knows (default on)",
        "delegate": "path of a delegate's shared library, which takes operators before XNNPACK",
        "delegate_options": "the delegate's own options, as KEY=VALUE;KEY=VALUE",
    }

    def probe(self) -> Capability:
        """Available where one of the two runtimes can work, by the versions that are installed."""
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
        """Import every runtime that can work here: an option may choose either."""
        for runtime, module in MODULES.items():
            if _unfit(runtime) is None:
                with suppress(ImportError):
                    importlib.import_module(module)

    @contextmanager
    def open(
        self, artifact: Artifact, path: Path, inputs: Sequence[Array], options: RunOptions
    ) -> Iterator[Session]:
        """Load ``path``, plan its memory, and put ``inputs`` into it.

        Raises :class:`StageError` or ``UsageError``.
        """
        settings = _settings(options)
        runtime = settings["runtime"]
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
            # The user's delegate has its pieces by now, XNNPACK gets its own with the memory.
            before = len(interpreter._get_ops_details())
            operators = before
            if delegates:
                whole = module.Interpreter(str(path), experimental_op_resolver_type=plain)
                operators = len(whole._get_ops_details())
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError, SystemError) as error:
            first = (str(error).strip() or "no reason given").splitlines()[0]
            raise StageError(
                "open",
                f"{runtime} cannot load the file: {first}",
                hint="damaged, of a newer version than the runtime, or an operator that it lacks",
            ) from error
        for detail, array in zip(interpreter.get_input_details(), inputs, strict=True):
            interpreter.set_tensor(detail["index"], array)
        halves = artifact.precision == "fp16"
        yield _InterpreterSession(interpreter, operators, before, path, settings, halves=halves)


def runner() -> Runner:
    """Entry point."""
    return TfliteRunner()


class _InterpreterSession:
    """An interpreter with its inputs in place; they are not overwritten by an inference."""

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
        self._outputs = [detail["index"] for detail in interpreter.get_output_details()]

    def run(self) -> None:
        self._interpreter.invoke()

    def outputs(self) -> tuple[Array, ...]:
        return tuple(self._interpreter.get_tensor(index).copy() for index in self._outputs)

    def placement(self) -> Placement:
        """Read from the graph after delegation: each delegated piece is one node more."""
        nodes = self._interpreter._get_ops_details()
        plain = nodes[: self._operators]
        pieces = {
            self._settings.get("delegate", ""): nodes[self._operators : self._before],
            XNNPACK: nodes[self._before :],
        }
        units: dict[str, int | None] = {}
        steps: list[tuple[str, Mapping[str, Any]]] = []
        taken: set[int] = set()
        for unit, added in pieces.items():
            own = [node for node in added if node["op_name"] == "DELEGATE"]
            found = _delegated(plain, own)
            taken |= found
            steps += [(unit, node) for node in own]
            if own:
                units[unit] = len(found)
        left = [node for i, node in enumerate(plain) if i not in taken]
        steps += [(KERNELS, node) for node in left]
        if left:
            units[KERNELS] = len(left)
        return Placement(
            units=units,
            known="proven",
            note="read from the delegated graph",
            partitions=_runs(steps),
        )

    def settings(self) -> Mapping[str, str]:
        # Asked for after loading, which reading the file once more is no part of.
        if self._halves and _widens(self._settings, self._path):
            return {**self._settings, "precision": "fp32"}
        return self._settings

    def profile(self, calls: int) -> Profile | None:
        """Of the new runtime with XNNPACK alone: its profiler has no other way to execute."""
        if self._settings["runtime"] != NEW or "delegate" in self._settings:
            return None
        if self._settings["xnnpack"] == "off":
            return None
        inputs = [
            self._interpreter.get_tensor(detail["index"])
            for detail in self._interpreter.get_input_details()
        ]
        threads = int(self._settings["threads"])
        return profile_file(self._path, inputs, self.outputs(), threads, calls)


def _delegated(plain: Sequence[Mapping[str, Any]], pieces: Sequence[Mapping[str, Any]]) -> set[int]:
    """Which of the graph's own operators lie within the delegated pieces: all that are met on
    the way back from a piece's outputs to its inputs."""
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
    """How often the unit changes while the graph is executed, plus one.

    The order is not told. TFLite cuts a graph so that a unit goes on for as long as it has
    anything whose inputs are there.
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
    """Whether weights in 16 bits are widened, and computed with in fp32, for all that is known.

    TFLite's own kernels do so everywhere, XNNPACK on x86, and elsewhere unless the file's metadata
    permit it to compute in 16 bits (:data:`PERMITS`); none that is made here has them.
    """
    if "delegate" in settings:
        return False
    if settings["xnnpack"] == "off" or platform.machine().lower() in ("x86_64", "amd64"):
        return True
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        return whole.find(PERMITS) < 0


def _unfit(runtime: str) -> str | None:
    """Why that runtime cannot work here, as far as the installed versions tell."""
    try:
        version(runtime)
    except PackageNotFoundError:
        return f"{runtime} is not installed"
    if runtime == OLD and not version("numpy").startswith("1."):
        return f"{OLD} {version(OLD)} needs numpy < 2, and this is {version('numpy')}"
    return None


def _settings(options: RunOptions) -> dict[str, str]:
    chosen = next((name for name in MODULES if _unfit(name) is None), NEW)
    settings = {
        "threads": str(options.threads),
        "runtime": chosen,
        "xnnpack": "on",
        **options.extra,
    }
    if settings["runtime"] not in MODULES:
        raise UsageError(
            f"runtime cannot be {settings['runtime']!r}", hint=f"one of: {', '.join(MODULES)}"
        )
    if settings["xnnpack"] not in ("on", "off"):
        raise UsageError(f"xnnpack cannot be {settings['xnnpack']!r}", hint="on or off")
    if "delegate_options" in settings and "delegate" not in settings:
        raise UsageError("delegate_options needs a delegate", hint="--option delegate=FILE")
    if (reason := _unfit(settings["runtime"])) is not None:
        raise _unavailable(reason)
    settings["runtime_version"] = version(settings["runtime"])
    return settings


def _imported(runtime: str) -> Any:
    try:
        return importlib.import_module(MODULES[runtime])
    except ImportError as error:
        first = (str(error).strip() or "no reason given").splitlines()[0]
        raise _unavailable(f"{runtime} cannot be imported: {first}") from error


def _unavailable(reason: str) -> StageError:
    return StageError(
        "open",
        reason,
        hint="pip install 'latbench[tflite]', or name the other with --option runtime=…",
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
        first = (str(error).strip() or "no reason given").splitlines()[0]
        raise StageError(
            "open",
            f"the delegate {settings['delegate']} cannot be loaded: {first}",
            hint="it must be a TFLite delegate's shared library for this system",
            kind="unavailable",
        ) from error
