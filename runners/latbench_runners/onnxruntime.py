"""ONNX Runtime: the portable one.

One session per process and IOBinding with the inputs in the provider's memory: with two live
sessions the spinning threads of one slow the other by 2x.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from latbench.api import (
    Array,
    Artifact,
    Capability,
    Placement,
    Runner,
    RunOptions,
    Session,
    StageError,
    UsageError,
)

if TYPE_CHECKING:
    import onnxruntime as ort

CPU = "CPUExecutionProvider"
LEVELS = {
    "disabled": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}


class OnnxRuntimeRunner:
    """Executes ONNX files."""

    name = "onnxruntime"
    formats = ("onnx",)
    options: Mapping[str, str] = {
        "provider": f"execution provider to run on (default {CPU})",
        "graph_optimization": f"{', '.join(LEVELS)} (default all)",
        "spinning": "on or off: whether idle threads spin between operators (default on)",
        "inter_op_threads": "threads that run independent operators side by side (default 1)",
    }

    def probe(self) -> Capability:
        """Available wherever the package is; its providers are listed by a session, not here."""
        for package in ("onnxruntime", "onnxruntime-gpu", "onnxruntime-qnn"):
            try:
                return Capability(available=True, version=version(package), units=(CPU,))
            except PackageNotFoundError:
                continue
        return Capability(
            available=False,
            reason="onnxruntime is not installed",
            hint="pip install onnxruntime",
        )

    def prepare(self) -> None:
        """Import the package."""
        import onnxruntime  # noqa: F401

    @contextmanager
    def open(
        self, artifact: Artifact, path: Path, inputs: Sequence[Array], options: RunOptions
    ) -> Iterator[Session]:
        """Load ``path`` and bind ``inputs``. Raises :class:`StageError` or ``UsageError``."""
        import onnxruntime as ort

        settings = _settings(options)
        provider = settings["provider"]
        if provider not in ort.get_available_providers():
            raise StageError(
                "open",
                f"this onnxruntime has no {provider}",
                hint=f"it has: {', '.join(ort.get_available_providers())}",
                kind="unavailable",
            )
        session = ort.InferenceSession(str(path), _session_options(settings), providers=[provider])
        yield _BoundSession(session, artifact, inputs, settings)


def runner() -> Runner:
    """Entry point."""
    return OnnxRuntimeRunner()


class _BoundSession:
    """An ``InferenceSession`` with its inputs bound."""

    def __init__(
        self,
        session: ort.InferenceSession,
        artifact: Artifact,
        inputs: Sequence[Array],
        settings: Mapping[str, str],
    ) -> None:
        import onnxruntime as ort

        self._session = session
        self._settings = settings
        self._binding = session.io_binding()
        self._inputs = [ort.OrtValue.ortvalue_from_numpy(array) for array in inputs]
        for spec, value in zip(artifact.inputs, self._inputs, strict=True):
            self._binding.bind_ortvalue_input(spec.name, value)
        for output in session.get_outputs():
            self._binding.bind_output(output.name)

    def run(self) -> None:
        self._session.run_with_iobinding(self._binding)

    def outputs(self) -> tuple[Array, ...]:
        return tuple(self._binding.copy_outputs_to_cpu())

    def placement(self) -> Placement:
        providers = self._session.get_providers()
        if providers == [CPU]:
            return Placement(
                units={CPU: None}, known="proven", note="the only provider in the session"
            )
        return Placement(units=dict.fromkeys(providers), known="unknown")

    def settings(self) -> Mapping[str, str]:
        return self._settings


def _settings(options: RunOptions) -> dict[str, str]:
    """Every setting as a string, defaults filled in."""
    settings = {
        "threads": str(options.threads),
        "provider": CPU,
        "graph_optimization": "all",
        "spinning": "on",
        "inter_op_threads": "1",
        **options.extra,
    }
    if settings["graph_optimization"] not in LEVELS:
        raise UsageError(
            f"graph_optimization cannot be {settings['graph_optimization']!r}",
            hint=f"one of: {', '.join(LEVELS)}",
        )
    if settings["spinning"] not in ("on", "off"):
        raise UsageError(f"spinning cannot be {settings['spinning']!r}", hint="on or off")
    if not settings["inter_op_threads"].isdecimal() or int(settings["inter_op_threads"]) < 1:
        raise UsageError("inter_op_threads must be a whole number from 1")
    return settings


def _session_options(settings: Mapping[str, str]) -> ort.SessionOptions:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = int(settings["threads"])
    options.inter_op_num_threads = int(settings["inter_op_threads"])
    if options.inter_op_num_threads > 1:
        options.execution_mode = ort.ExecutionMode.ORT_PARALLEL
    options.graph_optimization_level = getattr(
        ort.GraphOptimizationLevel, LEVELS[settings["graph_optimization"]]
    )
    options.add_session_config_entry(
        "session.intra_op.allow_spinning", "1" if settings["spinning"] == "on" else "0"
    )
    return options
