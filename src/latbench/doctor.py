"""What works on this machine, what does not, and what to do about it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version

from latbench.analysis.noise import judge_noise
from latbench.analysis.reliability import power_problem
from latbench.artifacts.cache import ArtifactCache
from latbench.defaults import FALLBACK, LOCAL
from latbench.devices.local_shell import LocalShell
from latbench.devices.preparation import RESTORE_COMMAND, Target, find_preparation
from latbench.errors import LatbenchError
from latbench.host.info import read_conditions, read_machine
from latbench.host.noise import probe_machine, read_noise_settings
from latbench.paths import cache_folder
from latbench.plugins import load_runner, runner_names
from latbench.report.text.device import cpu_line
from latbench.schema.noise import NoiseReport
from latbench.schema.value import Value


class Finding(Value, frozen=True, kw_only=True):
    """One thing that was looked at. ``works`` is ``None`` for what is neither good nor bad."""

    subject: str
    works: bool | None
    message: str
    hint: str | None = None
    needed: bool = False
    """Whether the portable path (a ready ``.onnx`` on the CPU, stored) needs it."""


EXTRAS = (
    ("torch", "export", "exporting PyTorch models"),
    ("onnxscript", "export", "exporting PyTorch models"),
    ("safetensors", "export", "weights in .safetensors"),
    ("timm", "timm", "timm:NAME models"),
    ("litert-torch", "tflite-export", "converting to TFLite"),
    ("coremltools", "coreml", "Core ML packages, executed anywhere"),
    ("pillow", "export", "calibrating int8 on images"),
    ("matplotlib", "plot", "pictures of records"),
    ("pyarrow", "parquet", "tables as Parquet"),
    ("psycopg", "postgresql", "a registry in PostgreSQL"),
)


def examine(registry: str | None) -> tuple[Finding, ...]:
    """All findings, the necessary ones first. A missing cache folder or registry is made."""
    return (
        *_storage(registry),
        *_backends(),
        *_extras(),
        *_conditions(),
    )


def examine_noise(seconds: float, progress: Callable[[float], None]) -> NoiseReport:
    """Probe this machine for ``seconds`` and name what makes latencies vary on it.

    ``progress`` is called with the seconds left, about ten times per second.
    """
    begun = time.monotonic()
    slices = probe_machine(seconds, progress)
    cpus = read_machine().logical_cpus or 1
    taken = time.monotonic() - begun
    return judge_noise(slices, read_noise_settings(), seconds=taken, cpus=cpus)


def _storage(registry: str | None) -> Iterator[Finding]:
    yield Finding(subject="python", works=True, message=sys.version.split()[0], needed=True)
    try:
        with ArtifactCache(cache_folder()).workspace():
            pass
        yield Finding(subject="cache", works=True, message=str(cache_folder()), needed=True)
    except LatbenchError as error:
        yield _broken("cache", error)
    from latbench.store.registry import Registry

    try:
        with Registry.open(registry) as store:
            yield Finding(
                subject="registry",
                works=True,
                message=f"{store.url}, {store.count()} records",
                needed=True,
            )
    except LatbenchError as error:
        yield _broken("registry", error)


def _backends() -> Iterator[Finding]:
    for name in runner_names():
        try:
            capability = load_runner(name).probe()
        except LatbenchError as error:
            yield Finding(
                subject=f"backend {name}", works=False, message=error.message, hint=error.hint
            )
            continue
        yield Finding(
            subject=f"backend {name}",
            works=capability.available,
            message=f"version {capability.version}, {', '.join(capability.units)}"
            if capability.available
            else capability.reason or "no reason given",
            hint=capability.hint,
            needed=name == FALLBACK,
        )


def _extras() -> Iterator[Finding]:
    for package, extra, use in EXTRAS:
        try:
            yield Finding(subject=package, works=True, message=f"{version(package)}, for {use}")
        except PackageNotFoundError:
            yield Finding(
                subject=package,
                works=False,
                message=f"not installed; needed for {use}",
                hint=f"pip install 'latbench[{extra}]'",
            )


def _conditions() -> Iterator[Finding]:
    """What makes numbers on this machine better or worse."""
    machine, now = read_machine(), read_conditions()
    yield Finding(subject="cpu", works=None, message=cpu_line(machine, now))
    if now.governor and set(now.governor) != {"performance"}:
        yield Finding(
            subject="governor",
            works=None,
            message="/".join(sorted(set(now.governor))),
            hint="numbers vary less under `performance`",
        )
    if machine.hypervisor:
        yield Finding(
            subject="hypervisor",
            works=None,
            message=f"{machine.hypervisor}: other guests of the host can slow this one unnoticed",
        )
    if (left := find_preparation(Target(id=LOCAL, shell=LocalShell()))) is not None:
        yield Finding(
            subject="clocks",
            works=None,
            message=f"set by an earlier prepare; {len(left.differing)} files differ from before",
            hint=RESTORE_COMMAND.format(LOCAL),
        )
    if (power := power_problem(now)) is not None:
        yield Finding(subject="power", works=None, message=power, hint="plug the machine in")


def _broken(subject: str, error: LatbenchError) -> Finding:
    return Finding(
        subject=subject, works=False, message=error.message, hint=error.hint, needed=True
    )
