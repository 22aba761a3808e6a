"""Resolution of a request, once, and preparation of the job that is timed for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from latbench.api import FORM, Exporter, Runner
from latbench.artifacts.builder import obtain
from latbench.artifacts.cache import ArtifactCache, CachedArtifact
from latbench.artifacts.calibration import identify_calibration
from latbench.bench.job import Job
from latbench.bench.required_units import required_units
from latbench.defaults import FALLBACK, LOCAL
from latbench.devices.catalog import load_devices, user_devices_path
from latbench.errors import StageError, UsageError, failure_of
from latbench.paths import cache_folder
from latbench.plugins import backend_for, check_export, check_options, exporter_for, load_runner
from latbench.schema.artifact import ModelIdentity
from latbench.schema.cpu_choice import chosen_cpus, cpu_list
from latbench.schema.environment import Device
from latbench.schema.protocol import TimingProtocol
from latbench.schema.protocol_options import changed_protocol, check_protocol, named_protocol
from latbench.schema.record import Fallback
from latbench.schema.request import Request, check_request
from latbench.schema.request_syntax import side_request
from latbench.zoo.given_inputs import identify_inputs
from latbench.zoo.resolver import resolve_model

if TYPE_CHECKING:
    from latbench.bench.context import RunContext
    from latbench.devices.measured import MeasuredDevice
    from latbench.zoo.model import ResolvedModel


@dataclass(frozen=True, kw_only=True)
class ResolvedRequest:
    """A valid request and all that its names refer to, looked up once."""

    request: Request
    model: ResolvedModel
    device: Device
    runner: Runner
    exporter: Exporter
    cpus: tuple[int, ...] | None = None
    """CPUs of the device that the request chooses; ``None``: all."""

    @property
    def identity(self) -> ModelIdentity:
        """Which network is measured."""
        return self.model.identity

    @property
    def extension(self) -> str | None:
        """File extension of a pre-exported file; ``None`` for a model that is exported."""
        return self.model.file_extension


@dataclass(frozen=True, kw_only=True)
class PreparedJob:
    """A job that can be timed now, and where it comes from."""

    runner: Runner
    """The runner that executes it: not the requested one after a fallback."""
    cached: CachedArtifact
    job: Job


def resolve_protocol(
    protocol: str | TimingProtocol,
    timeout_s: float,
    *,
    budget_s: float | None = None,
    target: float | None = None,
) -> TimingProtocol:
    """Return the protocol of that name, or the given one, with the changes that are not ``None``.

    ``budget_s`` is a time budget in seconds and ``target`` a relative half-width of the interval.
    Raises :class:`UsageError` for an unknown name and for values with which nothing can be timed.
    """
    found = named_protocol(protocol) if isinstance(protocol, str) else protocol
    found = changed_protocol(found, budget_s=budget_s, target=target)
    check_protocol(found, timeout_s)
    return found


def read_request(request: Request | str, protocol: TimingProtocol) -> Request:
    """Return the request that a text stands for, with defaults for what it does not name.

    These are this machine and ``protocol``; the backend follows from the model.
    """
    if isinstance(request, str):
        return side_request(request, protocol=protocol.label)
    return msgspec.structs.replace(
        request,
        device=request.device or LOCAL,
        protocol=request.protocol or protocol.label,
    )


def resolve_request(request: Request, device: MeasuredDevice) -> ResolvedRequest:
    """Look up everything that ``request`` names, whose device has been opened.

    Light: nothing is built or exported. Raises :class:`UsageError`, and its
    :class:`~latbench.errors.UnfitError` for a combination that no backend or format supports.
    """
    check_request(request)
    model = resolve_model(request)
    if not request.backend:
        request = msgspec.structs.replace(request, backend=backend_for(model.file_extension))
    runner = load_runner(request.backend)
    exporter = exporter_for(runner, model.file_extension)
    check_export(exporter, request.precision)
    known = {**runner.options, **exporter.options}
    check_options(f"backend {runner.name!r}", request.options, known)
    required_units(request, runner)
    identify_inputs(request)
    if request.precision == "int8":
        identify_calibration(request.calibration)
    return ResolvedRequest(
        request=request,
        model=model,
        device=device.row,
        runner=runner,
        exporter=exporter,
        cpus=_cpus_if_reached(request, device),
    )


def device_cpus(choice: str | None, device: MeasuredDevice) -> tuple[int, ...] | None:
    """The CPUs of a device that a request chooses; ``None`` if it does not choose.

    Raises :class:`UsageError` for what the device does not have and :class:`StageError` if it does
    not answer.
    """
    if choice is None:
        return None
    usable = device.conditions().affinity
    return chosen_cpus(
        choice, clusters=device.machine.clusters, usable=usable, device=device.row.id
    )


def _cpus_if_reached(request: Request, device: MeasuredDevice) -> tuple[int, ...] | None:
    """Those CPUs; ``None`` of a device that does not answer, whose record will say why."""
    try:
        return device_cpus(request.cpus, device)
    except StageError:
        return None


def find_fallback(resolved: ResolvedRequest, context: RunContext) -> Fallback | None:
    """Return ``None`` if the backend can run here, else why another one is timed instead.

    The artifact of the requested backend is exported and checked in either case. Raises
    :class:`StageError` if ``context`` is strict or the backend is the fallback itself.
    """
    runner, warn = resolved.runner, context.events.warn
    capability = context.device.probe(runner)
    if capability.available:
        return None
    place = "here" if context.device.link is None else f"on {context.device.row.id}"
    why = f"{runner.name} cannot run {place}: {capability.reason or 'no reason given'}"
    if context.strict or resolved.request.require or runner.name == FALLBACK:
        hints = [capability.hint, _devices_that_run(runner)]
        hint = "; ".join(each for each in hints if each) or None
        raise StageError("probe", why, hint=hint, kind="unavailable")
    whose = "this machine" if context.device.link is None else context.device.row.id
    warn(f"{why}. What follows is {FALLBACK} on the CPU of {whose}")
    artifact, failure = None, None
    try:
        artifact = _obtain(resolved, resolved.request, resolved.exporter, context).artifact
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
    resolved: ResolvedRequest,
    fallback: Fallback | None,
    protocol: TimingProtocol,
    context: RunContext,
) -> PreparedJob:
    """Export the model or take it from the cache, for its backend or for the fallback one.

    Raises :class:`StageError`.
    """
    request, runner, exporter = resolved.request, resolved.runner, resolved.exporter
    if fallback is not None:
        runner = load_runner(FALLBACK)
        exporter = _fallback_exporter(resolved, runner)
        shared = _shared_options(request.options, resolved.exporter, exporter)
        request = msgspec.structs.replace(request, options=shared)
    cached = _obtain(resolved, request, exporter, context)
    options = {k: v for k, v in request.options.items() if k in runner.options}
    cpus, usable = resolved.cpus, context.device.usable_cpus()
    if cpus is None:
        cpus = device_cpus(request.cpus, context.device)
    if cpus is not None:
        usable = min(usable, len(cpus))
    threads = request.threads or protocol.threads or usable
    if cpus is not None and threads > len(cpus):
        count = f"{len(cpus)} CPU{'' if len(cpus) == 1 else 's'}"
        context.events.warn(
            f"{threads} threads on {count} ({cpu_list(cpus)}) wait for each other: "
            f"--threads {len(cpus)}"
        )
    job = Job(
        backend=runner.name,
        artifact=cached.artifact,
        path=context.device.place(cached.path),
        reference=cached.reference,
        threads=threads,
        cpus=cpus,
        inputs=cached.inputs and context.device.place(cached.inputs),
        tolerance=request.tolerance,
        seed=request.seed,
        extra=options if fallback is None else {},
        required=required_units(request, runner),
    )
    return PreparedJob(runner=runner, cached=cached, job=job)


def _fallback_exporter(resolved: ResolvedRequest, runner: Runner) -> Exporter:
    try:
        exporter = exporter_for(runner, resolved.extension)
        check_export(exporter, resolved.request.precision)
    except UsageError as error:
        # The request was valid for the backend that was asked for.
        raise StageError("export", error.message, hint=error.hint, kind="unavailable") from None
    return exporter


def _shared_options(
    options: Mapping[str, str], requested: Exporter, fallback: Exporter
) -> dict[str, str]:
    """The options that mean the same to both exporters.

    Each format has its own options, also under equal names, except :data:`~latbench.api.FORM`.
    """
    if fallback.format == requested.format:
        return dict(options)
    return {name: value for name, value in options.items() if name in FORM}


def _obtain(
    resolved: ResolvedRequest, request: Request, exporter: Exporter, context: RunContext
) -> CachedArtifact:
    return obtain(
        request,
        resolved.identity,
        exporter,
        ArtifactCache(cache_folder()),
        no_cache=context.no_cache,
        warn=context.events.warn,
    )


def _devices_that_run(runner: Runner) -> str | None:
    """Name known devices that the backend runs on, for a user who has none of them here."""
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
