"""Run ONNX files with ONNX Runtime.

Each process has one session, with inputs bound in the provider's memory: with two live sessions,
the spinning threads of one slow down the other by 2x.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

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
    is_out_of_memory,
)
from latbench_runners.onnxruntime.binding import binder, inference, main_file, outputs_of
from latbench_runners.onnxruntime.profile import profiled
from latbench_runners.onnxruntime.providers import (
    CPU,
    TENSORRT,
    UNIT_NAMES,
    full_name,
    given,
    other_precision,
    place,
)

if TYPE_CHECKING:
    import onnxruntime as ort

DISTRIBUTIONS = (
    "onnxruntime",
    *(
        f"onnxruntime-{flavour}"
        for flavour in (
            "gpu",
            "directml",
            "openvino",
            "qnn",
            "azure",
            "cann",
            "coreml",
            "migraphx",
            "noopenmp",
            "rocm",
            "silicon",
            "training",
            "training-cpu",
            "trt-rtx",
            "webgpu",
            "windowsml",
        )
    ),
    *(f"ort-nightly{flavour}" for flavour in ("", "-directml", "-gpu", "-qnn", "-rocm")),
)
"""Distributions that install into the same folder. Finding them among all installed packages would
read the metadata of each."""
LEVELS = {
    "disabled": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
SETTINGS = {
    "provider": CPU,
    "provider_options": "",
    "strict_placement": "no",
    "graph_optimization": "all",
    "spinning": "on",
    "inter_op_threads": "1",
}


class OnnxRuntimeRunner:
    """Run ONNX files."""

    name = "onnxruntime"
    formats = ("onnx",)
    needs: tuple[str, ...] = ("onnxruntime",)
    options: Mapping[str, str] = {
        "provider": f"execution provider, full or short name, such as cuda or coreml "
        f"(default {CPU})",
        "provider_options": "options of the provider: key=value;key=value",
        "strict_placement": "yes, no: fail if the provider does not support every node "
        "(default no)",
        "graph_optimization": f"{', '.join(LEVELS)} (default all)",
        "spinning": "on, off: let idle threads spin between operators (default on)",
        "inter_op_threads": "number of threads for independent operators (default 1)",
    }

    units: Mapping[str, tuple[str, ...]] = UNIT_NAMES

    def probe(self) -> Capability:
        """Available if the package is; the providers are checked when a session is opened."""
        found = {}
        for package in DISTRIBUTIONS:
            try:
                found[package] = version(package)
            except PackageNotFoundError:
                continue
        if not found:
            return Capability(
                available=False,
                reason="onnxruntime is not installed",
                hint="pip install onnxruntime",
            )
        if len(found) > 1:
            return Capability(
                available=False,
                reason=f"{' and '.join(found)} are installed over each other; it is unknown which "
                "one would run",
                hint="uninstall all of them, then install one",
            )
        return Capability(available=True, version=next(iter(found.values())), units=(CPU,))

    def prepare(self) -> None:
        """Import the package."""
        import onnxruntime  # noqa: F401

    @contextmanager
    def open(
        self, artifact: Artifact, path: Path, inputs: Sequence[Array], options: RunOptions
    ) -> Iterator[Session]:
        """Load ``path`` and bind ``inputs``. Raises :class:`StageError` or ``UsageError``."""
        settings = _settings(options)
        loading = _Loading(path=path, settings=settings, provider_options=given(settings))
        session = loading.load(loading.options())
        other = other_precision(artifact.precision, settings["provider"], loading.provider_options)
        if other is not None:
            settings["precision"] = other
        if any(array.dtype.kind == "U" for array in inputs):
            settings["binding"] = "none: ONNX Runtime binds no strings"
            yield UnboundSession(session, artifact, inputs, settings, loading)
        else:
            yield BoundSession(session, artifact, inputs, settings, loading)


@dataclass(frozen=True, kw_only=True)
class _Loading:
    """Creates sessions from a file: one for timing, another for a profile."""

    path: Path
    settings: Mapping[str, str]
    provider_options: Mapping[str, str]

    def options(self) -> ort.SessionOptions:
        return _session_options(self.settings)

    def load(self, options: ort.SessionOptions) -> ort.InferenceSession:
        """Create a session. Raises :class:`StageError` if the provider cannot be loaded."""
        import onnxruntime as ort

        provider = self.settings["provider"]
        providers: list[object] = [(provider, dict(self.provider_options))]
        strict = self.settings["strict_placement"] == "yes"
        if provider != CPU and not strict:
            providers.append(CPU)
        try:
            # Otherwise the binding prints the error and continues with the CPU.
            session = ort.InferenceSession(
                str(main_file(self.path)), options, providers=providers, enable_fallback=False
            )
        except Exception as error:
            # Its errors have no closer common base. The harness reports lack of memory.
            if is_out_of_memory(error):
                raise
            first = first_line(error)
            raise StageError(
                "open",
                f"ONNX Runtime cannot load the file on {provider}: {first}",
                hint="strict_placement=no runs nodes that the provider does not support on the CPU"
                if strict
                else "a damaged file, an operator unknown to this version, or an option unknown "
                "to the provider",
            ) from error
        if provider not in session.get_providers():
            raise StageError(
                "open",
                f"{provider} is part of this onnxruntime but could not be loaded",
                hint="its driver or libraries are missing; see the messages on standard error",
                kind="unavailable",
            )
        return session


class BoundSession:
    """A session with its inputs in the provider's memory."""

    def __init__(
        self,
        session: ort.InferenceSession,
        artifact: Artifact,
        inputs: Sequence[Array],
        settings: Mapping[str, str],
        loading: _Loading,
    ) -> None:
        self._session = session
        self._settings = settings
        self._loading = loading
        self._compared = [spec.name for spec in artifact.outputs]
        self.run: Callable[[], None]
        """Execute one inference, and wait for the device at its end."""
        self._put(artifact, inputs)

    def _put(self, artifact: Artifact, inputs: Sequence[Array]) -> None:
        """Copy the inputs to where they are read from in each call."""
        where = place(self._settings["provider"], self._loading.provider_options)
        self._bind = binder(self._session, artifact, inputs, where)
        self._binding = self._bind(self._session)
        self.run = inference(self._session, self._binding, self._settings["provider"])

    def outputs(self) -> tuple[Array, ...]:
        return outputs_of(self._session, self._binding, self._compared)

    def placement(self) -> Placement:
        """Observed in a short profile, unless the CPU is the only provider."""
        providers = self._session.get_providers()
        if self._settings["provider"] == CPU:
            return Placement(
                units={CPU: None}, known="proven", note="the only provider in the session"
            )
        if self._settings["provider"] in TENSORRT:
            return Placement(
                units=dict.fromkeys(providers),
                known="unknown",
                note="observing it would build the model twice; use a profile",
            )
        seen = profiled(self._loading.load, self._loading.options(), self._run_fresh, 1)
        if seen is None:
            return Placement(
                units=dict.fromkeys(providers),
                known="unknown",
                note="an inference has more nodes than ONNX Runtime's profiler holds",
            )
        units: dict[str, int | None] = dict.fromkeys(providers, 0)
        units.update(seen.placed())
        return Placement(
            units=units,
            known="proven",
            note="nodes after optimization, in a profile of one inference",
            partitions=seen.partitions(),
            examples=examples_of(
                (each.unit or "unknown", f"{each.name} ({each.kind})") for each in seen.operators
            ),
        )

    def settings(self) -> Mapping[str, str]:
        return self._settings

    def profile(self, calls: int) -> Profile | None:
        """Profile a second session. ``None`` if a run has more nodes than the profiler holds."""
        seen = profiled(self._loading.load, self._loading.options(), self._run_fresh, calls)
        if seen is None:
            return None
        return Profile(
            source="onnxruntime's profiler",
            calls=seen.calls,
            total_ns=seen.total_ns,
            operators=seen.operators,
        )

    def _run_fresh(self, session: ort.InferenceSession, calls: int) -> None:
        binding = self._bind(session)
        for _ in range(calls):
            session.run_with_iobinding(binding)


class UnboundSession(BoundSession):
    """A session with inputs that cannot be bound: each call gets them and returns its outputs."""

    def _put(self, artifact: Artifact, inputs: Sequence[Array]) -> None:
        self._fed = {spec.name: array for spec, array in zip(artifact.inputs, inputs, strict=True)}
        self._found: Sequence[Array] = ()
        self.run = self._run_fed

    def _run_fed(self) -> None:
        self._found = self._session.run(None, self._fed)

    def outputs(self) -> tuple[Array, ...]:
        names = [each.name for each in self._session.get_outputs()]
        found = dict(zip(names, self._found, strict=True))
        return tuple(found[name] for name in self._compared)

    def _run_fresh(self, session: ort.InferenceSession, calls: int) -> None:
        for _ in range(calls):
            session.run(None, self._fed)


def runner() -> Runner:
    """Entry point."""
    return OnnxRuntimeRunner()


def _settings(options: RunOptions) -> dict[str, str]:
    """All settings as strings, with defaults filled in and the provider's full name."""
    settings = {"threads": str(options.threads), **SETTINGS, **options.extra}
    for name, values in (
        ("graph_optimization", tuple(LEVELS)),
        ("spinning", ("on", "off")),
        ("strict_placement", ("yes", "no")),
    ):
        choice_option(name, settings[name], values)
    if not settings["inter_op_threads"].isdecimal() or int(settings["inter_op_threads"]) < 1:
        raise UsageError("inter_op_threads must be a positive integer")
    settings["provider"] = full_name(settings["provider"])
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
    if settings["strict_placement"] == "yes" and settings["provider"] != CPU:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return options
