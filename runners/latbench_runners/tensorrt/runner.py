"""Run TensorRT and TensorRT for RTX engines on an NVIDIA GPU, timed by the GPU.

Samples are device times between two events on the stream around an inference, with inputs already
in GPU memory. The host's times of the same inferences are recorded as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from latbench.api import (
    Array,
    Artifact,
    Capability,
    Runner,
    RunOptions,
    Session,
    StageError,
    choice_option,
)
from latbench_runners.tensorrt.cuda import (
    LIBRARY,
    ask_gpu,
    load_driver,
    open_gpu,
    wake,
)
from latbench_runners.tensorrt.session import open_session

CHOICES = {"clock": ("device", "host"), "transfers": ("off", "on"), "cuda_graph": ("off", "on")}
"""Option -> its values, the default first."""


class TensorRtRunner:
    """Run TensorRT engines."""

    name = "tensorrt"
    formats: tuple[str, ...] = ("tensorrt",)
    module = "tensorrt"
    packages: tuple[str, ...] = ("tensorrt", "tensorrt_cu13", "tensorrt_cu12")
    """Distributions that may provide the module."""
    options: Mapping[str, str] = {
        "clock": "device, host: clock of the samples; the other clock is recorded as well "
        "(default device)",
        "transfers": "on, off: copy inputs in and outputs out with each inference (default off)",
        "cuda_graph": "on, off: launch the inference as one captured graph (default off)",
    }

    units: Mapping[str, tuple[str, ...]] = {"": ("gpu",)}

    def probe(self) -> Capability:
        """Query the driver in a subprocess, without loading TensorRT."""
        gpu, why = ask_gpu()
        lacking = [] if gpu is not None else [why]
        if find_spec(self.module) is None:
            lacking.append(f"{self.module} is not installed")
        if gpu is None or lacking:
            where = "" if gpu is not None else "run on a machine with an NVIDIA GPU and driver; "
            return Capability(
                available=False,
                version=self._version(),
                reason=" and ".join(lacking),
                hint=f"{where}pip install 'latbench[{self.name}]'",
            )
        return Capability(available=True, version=self._version() or "unknown", units=(gpu.name,))

    def prepare(self) -> None:
        """Import the package and wake the GPU. Raises :class:`StageError` without a driver."""
        # Load the driver first: TensorRT has crashed without one.
        wake(_driver())
        import_module(self.module)

    @contextmanager
    def open(
        self, artifact: Artifact, path: Path, inputs: Sequence[Array], options: RunOptions
    ) -> Iterator[Session]:
        """Load the engine and put ``inputs`` on the GPU. Raises :class:`StageError`."""
        settings = _settings(options)
        with open_gpu(_driver()) as gpu:
            trt = import_module(self.module)
            with open_session(trt, gpu, artifact, path, inputs, settings) as session:
                yield session

    def _version(self) -> str | None:
        for package in self.packages:
            try:
                return version(package)
            except PackageNotFoundError:
                continue
        return None


class RtxRunner(TensorRtRunner):
    """Run engines of TensorRT for RTX."""

    name = "tensorrt-rtx"
    formats = ("tensorrt-rtx",)
    module = "tensorrt_rtx"
    packages = ("tensorrt_rtx",)


def runner() -> Runner:
    """Entry point of ``tensorrt``."""
    return TensorRtRunner()


def rtx_runner() -> Runner:
    """Entry point of ``tensorrt-rtx``."""
    return RtxRunner()


def _settings(options: RunOptions) -> dict[str, str]:
    """All options, with defaults filled in. Raises :class:`UsageError`."""
    settings = {name: values[0] for name, values in CHOICES.items()} | dict(options.extra)
    for name, values in CHOICES.items():
        choice_option(name, settings[name], values)
    return settings


def _driver() -> object:
    try:
        return load_driver()
    except OSError as error:
        raise StageError(
            "open",
            f"no NVIDIA driver ({LIBRARY}) found on this machine",
            hint="run latbench on a machine with an NVIDIA GPU and its driver",
            kind="unavailable",
        ) from error
