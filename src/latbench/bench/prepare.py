"""From a request to a job that can be timed, and from its outcome to a record.

What ``run``, ``compare`` and ``plan`` have in common.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from latbench.api import FORM, Exporter, Runner
from latbench.artifacts.builder import obtain
from latbench.artifacts.cache import ArtifactCache, CachedArtifact
from latbench.artifacts.calibration import identify_calibration as identify_calibration
from latbench.bench.executor import failure_of
from latbench.bench.job import Job
from latbench.defaults import FALLBACK
from latbench.devices.catalog import find_here, load_devices, user_devices_path
from latbench.errors import StageError, UsageError
from latbench.events import Warn
from latbench.host.info import usable_cpus
from latbench.paths import cache_folder
from latbench.plugins import check_export, check_options, exporter_for, load_runner
from latbench.schema.artifact import ModelIdentity
from latbench.schema.environment import (
    Device,
    Machine,
)
from latbench.schema.protocol import TimingProtocol
from latbench.schema.record import (
    Fallback,
)
from latbench.schema.request import Request
from latbench.zoo.resolver import identify, ready_suffix


@dataclass(frozen=True, kw_only=True)
class ResolvedRequest:
    """A request that makes sense."""

    request: Request
    identity: ModelIdentity
    device: Device
    runner: Runner
    exporter: Exporter
    strict: bool
    fresh: bool


@dataclass(frozen=True, kw_only=True)
class PreparedJob:
    """What can be timed now."""

    runner: Runner
    """The one that will execute it: another than was asked for after a fallback."""
    cached: CachedArtifact
    job: Job


def resolve_request(
    request: Request, machine: Machine, *, strict: bool, fresh: bool
) -> ResolvedRequest:
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
    return ResolvedRequest(
        request=request,
        identity=identity,
        device=device,
        runner=runner,
        exporter=exporter,
        strict=strict,
        fresh=fresh,
    )


def fallback(what: ResolvedRequest, warn: Warn) -> Fallback | None:
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


def prepare_job(
    what: ResolvedRequest, instead: Fallback | None, protocol: TimingProtocol, warn: Warn
) -> PreparedJob:
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
    return PreparedJob(runner=runner, cached=cached, job=job)


def _shared_options(
    options: Mapping[str, str], asked: Exporter, instead: Exporter
) -> dict[str, str]:
    """Those that mean the same to both: options of one name are of each format's own, but for
    :data:`~latbench.api.FORM`."""
    if instead.format == asked.format:
        return dict(options)
    return {name: value for name, value in options.items() if name in FORM}


def _obtain(
    what: ResolvedRequest, request: Request, exporter: Exporter, warn: Warn
) -> CachedArtifact:
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
