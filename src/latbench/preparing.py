"""From a request to a job that can be timed, and from its outcome to a record.

What ``run``, ``compare`` and ``plan`` have in common.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from latbench.api import FORM, Exporter, Runner, SentinelExporter
from latbench.bench.executor import failure_of
from latbench.bench.job import Job
from latbench.cache import ArtifactCache, Cached
from latbench.calibration import identify as identify_calibration
from latbench.defaults import FALLBACK
from latbench.devices.catalog import find_here, load_devices, user_devices_path
from latbench.errors import LatbenchError, StageError, UsageError
from latbench.events import Warn
from latbench.host.info import read_conditions, usable_cpus
from latbench.obtaining import obtain, obtain_sentinel
from latbench.paths import cache_folder
from latbench.plugins import check_export, check_options, exporter_for, load_runner
from latbench.schema.artifact import ModelIdentity
from latbench.schema.environment import (
    Conditions,
    Device,
    Environment,
    Machine,
    Software,
)
from latbench.schema.protocol import TimingProtocol, protocol_sha256
from latbench.schema.record import (
    SCHEMA,
    Fallback,
    Interleaved,
    Outcome,
    Record,
    Runtime,
    Sentinel,
    SweepPoint,
)
from latbench.schema.request import Request, make_request
from latbench.zoo.resolver import identify, ready_suffix

PACKAGES = (
    "latbench",
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "coremltools",
    "openvino",
    "torch",
    "timm",
    "torchvision",
)
"""Packages whose versions matter for a number, as far as they are installed; an artifact and a
runtime name their own."""
SENTINEL, SENTINEL_MODEL = "inverted-residuals-224@1", "latbench.zoo.nets.sentinel:sentinel"
"""Of formats whose exporter makes none of its own."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A request that makes sense."""

    request: Request
    identity: ModelIdentity
    device: Device
    runner: Runner
    exporter: Exporter
    strict: bool
    fresh: bool


@dataclass(frozen=True, kw_only=True)
class Ready:
    """What can be timed now."""

    runner: Runner
    """The one that will execute it: another than was asked for after a fallback."""
    cached: Cached
    job: Job


def subject(request: Request, machine: Machine, *, strict: bool, fresh: bool) -> Subject:
    """Understand ``request``. Raises :class:`UsageError`."""
    identity = identify(request)
    device = find_here(request.device, machine)
    runner = load_runner(request.backend)
    exporter = exporter_for(runner, ready_suffix(request.model))
    check_export(exporter, request.precision)
    known = {**runner.options, **exporter.options}
    check_options(f"backend {runner.name!r}", request.options, known)
    if request.precision == "int8":
        identify_calibration(request.calibration)
    return Subject(
        request=request,
        identity=identity,
        device=device,
        runner=runner,
        exporter=exporter,
        strict=strict,
        fresh=fresh,
    )


def fallback(what: Subject, warn: Warn) -> Fallback | None:
    """``None`` where the backend can run here. Else its artifact is made and checked all the same,
    and the portable backend is what can be timed.

    Raises :class:`StageError` where that was not wanted.
    """
    runner = what.runner
    capability = runner.probe()
    if capability.available:
        return None
    why = f"{runner.name} cannot run here: {capability.reason or 'no reason given'}"
    if what.strict or runner.name == FALLBACK:
        hints = [capability.hint, _devices_that_run(runner)]
        hint = "; ".join(each for each in hints if each) or None
        raise StageError("probe", why, hint=hint, kind="unavailable")
    warn(f"{why}. What follows is {FALLBACK} on this machine's CPU")
    artifact, failure = None, None
    try:
        artifact = _obtain(what, what.request, what.exporter, warn).artifact
    except StageError as error:
        failure = failure_of(error)
        warn(f"nor can it be exported for {runner.name} here: {error.message}")
    return Fallback(
        reason=capability.reason or "no reason given",
        hint=capability.hint,
        artifact=artifact,
        failure=failure,
    )


def ready(what: Subject, instead: Fallback | None, protocol: TimingProtocol, warn: Warn) -> Ready:
    """Export it or take it from the cache, for its backend or for the one that runs ``instead``.

    Raises :class:`StageError`.
    """
    request, runner, exporter = what.request, what.runner, what.exporter
    if instead is not None:
        runner = load_runner(FALLBACK)
        try:
            exporter = exporter_for(runner, ready_suffix(request.model))
            check_export(exporter, request.precision)
        except UsageError as error:
            # The request made sense for the backend that was asked for.
            raise StageError("export", error.message, hint=error.hint, kind="unavailable") from None
        shared = _shared_options(request.options, what.exporter, exporter)
        request = msgspec.structs.replace(request, options=shared)
    cached = _obtain(what, request, exporter, warn)
    options = {k: v for k, v in request.options.items() if k in runner.options}
    job = Job(
        backend=runner.name,
        artifact=cached.artifact,
        path=cached.path,
        reference=cached.reference,
        threads=request.threads or protocol.threads or usable_cpus(),
        seed=request.seed,
        extra=options if instead is None else {},
    )
    return Ready(runner=runner, cached=cached, job=job)


def _shared_options(
    options: Mapping[str, str], asked: Exporter, instead: Exporter
) -> dict[str, str]:
    """Those that mean the same to both: options of one name are of each format's own, but for
    :data:`~latbench.api.FORM`."""
    if instead.format == asked.format:
        return dict(options)
    return {name: value for name, value in options.items() if name in FORM}


def _obtain(what: Subject, request: Request, exporter: Exporter, warn: Warn) -> Cached:
    return obtain(
        request,
        what.identity,
        exporter,
        ArtifactCache(cache_folder()),
        fresh=what.fresh,
        warn=warn,
    )


def _devices_that_run(runner: Runner) -> str | None:
    """Which known devices could: what is asked of one who has none of them."""
    able = [
        device.id
        for device in load_devices(user_devices_path())
        if device.backends is not None
        and isinstance(device.backends.value, tuple)
        and runner.name in device.backends.value
    ]
    if not able:
        return None
    shown = ", ".join(able[:6]) + (f" and {len(able) - 6} more" if len(able) > 6 else "")
    return f"devices that could: {shown}"


def sentinel_for(
    what: Ready, protocol: TimingProtocol, warn: Warn
) -> tuple[Job | None, Sentinel | None]:
    """The sentinel to time beside a job, on the same backend with the same settings.

    One that cannot be had costs the sentinel and not the run: the record says why.
    """
    if protocol.sentinel_ns is None:
        return None, None
    try:
        precision = what.cached.artifact.precision
        name, cached = _obtain_sentinel(exporter_for(what.runner), precision, warn)
    except LatbenchError as error:
        return None, without_sentinel(error)
    job = Job(
        backend=what.job.backend,
        artifact=cached.artifact,
        path=cached.path,
        reference=cached.reference,
        threads=what.job.threads,
        seed=0,
        extra=what.job.extra,
    )
    return job, Sentinel(name=name, sha256=cached.artifact.sha256)


def _obtain_sentinel(exporter: Exporter, precision: str, warn: Warn) -> tuple[str, Cached]:
    """The format's own, which needs no PyTorch; else the same network from PyTorch, in fp16 beside
    a model in fp16: some units compute in nothing else, and one in fp32 would run elsewhere."""
    cache = ArtifactCache(cache_folder())
    if isinstance(exporter, SentinelExporter):
        return obtain_sentinel(exporter, cache, warn=warn)
    half = precision == "fp16" and "fp16" in exporter.precisions
    request = make_request(SENTINEL_MODEL, precision="fp16" if half else "fp32")
    name = SENTINEL.replace("@", "-fp16@") if half else SENTINEL
    return name, obtain(request, identify(request), exporter, cache, warn=warn)


def without_sentinel(error: LatbenchError, until: Sentinel | None = None) -> Sentinel:
    """Why there was none, or none any more: what was measured ``until`` then keeps its name."""
    return Sentinel(
        name=until.name if until else None,
        sha256=until.sha256 if until else None,
        absent=error.message,
    )


def make_record(
    what: Subject,
    *,
    created_unix_ns: int,
    machine: Machine,
    software: Software,
    before: Conditions,
    after: Conditions | None = None,
    protocol: TimingProtocol,
    prepared: Ready | None,
    runtime: Runtime | None,
    outcome: Outcome,
    sentinel: Sentinel | None = None,
    interleaved: Interleaved | None = None,
    instead: Fallback | None = None,
    sweep: SweepPoint | None = None,
) -> Record:
    """The record; the conditions ``after`` the timing are read now where they were not then."""
    return Record(
        schema=SCHEMA,
        id=new_id(created_unix_ns),
        created_unix_ns=created_unix_ns,
        request=what.request,
        model=what.identity,
        backend=FALLBACK if instead else what.runner.name,
        device=what.device,
        artifact=prepared.cached.artifact if prepared else None,
        runtime=runtime,
        environment=Environment(
            machine=machine,
            software=software,
            before=before,
            after=after or read_conditions(),
        ),
        protocol=protocol,
        protocol_sha256=protocol_sha256(protocol),
        sentinel=sentinel,
        interleaved=interleaved,
        fallback=instead,
        sweep=sweep,
        outcome=outcome,
    )


def new_comparison_id() -> str:
    """Shared by the records of one comparison."""
    return new_id(time.time_ns())


def new_id(unix_ns: int) -> str:
    """Of a record or of what records share: 26 characters that sort by time, a ULID (48 bits of
    milliseconds, 80 random bits)."""
    number = (unix_ns // 1_000_000) << 80 | secrets.randbits(80)
    alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
    return "".join(alphabet[number >> shift & 31] for shift in range(125, -1, -5))
