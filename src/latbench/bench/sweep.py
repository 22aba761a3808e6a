"""Sweeps: many points measured in random order, resumed where an earlier run was interrupted."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from latbench.analysis.summary import Summary, summarize
from latbench.artifacts.calibration import identify_calibration
from latbench.bench.context import RunContext
from latbench.bench.measure import measure_request
from latbench.bench.prepare import (
    ResolvedRequest,
    read_request,
    resolve_protocol,
    resolve_request,
)
from latbench.bench.record_factory import new_id
from latbench.bench.rest import Cooldown, cooldown
from latbench.bench.sweep_lock import sweep_lock
from latbench.defaults import RUN_PROTOCOL, TIMEOUT_S
from latbench.devices.opening import Devices
from latbench.errors import UnfitError, UsageError
from latbench.events import SILENT, Events, Warn, never
from latbench.schema.codec import digest
from latbench.schema.protocol import TimingProtocol, protocol_sha256
from latbench.schema.record import Record, SweepPoint
from latbench.schema.request import Request
from latbench.version import latbench_version
from latbench.zoo.given_inputs import identify_inputs

if TYPE_CHECKING:
    from latbench.store.registry import Registry


@dataclass(frozen=True, kw_only=True)
class SweepPointResult:
    """One point of a sweep, measured or not."""

    request: Request
    record: Record | None
    summary: Summary | None
    unfit: UnfitError | None = None
    """Why this combination is not supported; nothing was measured."""


@dataclass(frozen=True, kw_only=True)
class SweepStep:
    """Progress after each point."""

    done: int
    """Points that have been measured, those of an earlier run included."""
    points: int
    point: SweepPointResult
    seconds: float
    left_s: float
    """Estimated time for the remaining points."""


@dataclass(frozen=True, kw_only=True)
class SweepResult:
    """All points, in the given order."""

    sweep: str
    points: tuple[SweepPointResult, ...]
    registry: str


def sweep(
    requests: Sequence[Request | str],
    *,
    protocol: str | TimingProtocol = RUN_PROTOCOL,
    order_seed: int | None = None,
    resume: bool = False,
    profile: bool = False,
    cooldown_s: float = 0.0,
    max_temperature_c: float | None = None,
    max_thermal_status: str | None = None,
    strict: bool = False,
    no_cache: bool = False,
    timeout_s: float = TIMEOUT_S,
    registry: str | None = None,
    events: Events = SILENT,
    interrupted: Callable[[], bool] = never,
) -> SweepResult:
    """Measure all ``requests`` in random order and store a record of each.

    Each is a request, or a text such as ``mobilevig_ti,backend=tflite,threads=1``.

    A point that fails is a record like any other and does not stop the sweep. ``order_seed``
    determines the order; by default it is random, and stored. With ``resume``, the newest sweep of
    exactly these points and this protocol is continued: only points without a record, or with an
    interrupted one, are measured. ``events.step`` receives a :class:`SweepStep` after each point.
    ``interrupted`` is asked after each point whether to stop: an interruption may arrive after a
    point has been measured, while it is reported or profiled. Raises :class:`UsageError`, before
    anything is measured, if a point names something that does not exist.
    """
    timing = resolve_protocol(protocol, timeout_s)
    wait = cooldown(cooldown_s, max_temperature_c, max_thermal_status)
    from latbench.store.registry import Registry

    with ExitStack() as exits:
        devices = exits.enter_context(Devices())
        points = _resolve_points(requests, timing, devices)
        fits = [point for point in points if isinstance(point.resolved, ResolvedRequest)]
        if not fits:
            unfit = [each.resolved for each in points if isinstance(each.resolved, UnfitError)]
            raise unfit[0] if unfit else UsageError("the sweep has no points")
        points_sha256 = _points_digest(points, timing, wait, strict=strict, profile=profile)
        store = exits.enter_context(Registry.open(registry))
        begun = _begin(store, points_sha256, len(fits), resume, order_seed, events.warn)
        context = RunContext(
            device=devices.open(fits[0].request.device),
            registry=store,
            events=Events(warn=events.warn, waiting=events.waiting),
            timeout_s=timeout_s,
            strict=strict,
            no_cache=no_cache,
            profile=profile,
            cooldown=wait,
        )
        first = SweepPoint(
            sweep=begun.sweep,
            points_sha256=points_sha256,
            point=0,
            points=len(points),
            order_seed=begun.order_seed,
        )
        sweeping = _Sweeping(points, first, dict(begun.done), devices, events)
        with sweep_lock(begun.sweep):
            sweeping.run(timing, context, interrupted)
        results = tuple(_result(point, sweeping.done.get(i)) for i, point in enumerate(points))
        return SweepResult(sweep=begun.sweep, points=results, registry=store.url)


@dataclass(frozen=True, kw_only=True)
class _Point:
    """A request of the sweep, and what it refers to or why the combination is not supported."""

    request: Request
    resolved: ResolvedRequest | UnfitError


class _Sweeping:
    """The points of a sweep under way."""

    def __init__(
        self,
        points: Sequence[_Point],
        first: SweepPoint,
        done: dict[int, Record],
        devices: Devices,
        events: Events,
    ) -> None:
        self._points = points
        self._first = first
        self._devices = devices
        self._events = events
        self._fits = sum(isinstance(point.resolved, ResolvedRequest) for point in points)
        self._started = time.monotonic()
        self._measured = 0
        self.done = done

    def run(
        self, timing: TimingProtocol, context: RunContext, interrupted: Callable[[], bool]
    ) -> None:
        """Measure what is not done yet in random order, until the user interrupts."""
        order = list(range(len(self._points)))
        random.Random(self._first.order_seed).shuffle(order)  # noqa: S311 - not a secret
        for i in order:
            resolved, began = self._points[i].resolved, time.monotonic()
            if i in self.done or not isinstance(resolved, ResolvedRequest):
                continue
            place = msgspec.structs.replace(self._first, point=i)
            # A connection that was lost meanwhile is opened again.
            device = self._devices.open(resolved.request.device)
            record = measure_request(resolved, timing, replace(context, device=device, sweep=place))
            if record.outcome.status == "interrupted":
                return
            self._report(i, record, time.monotonic() - began)
            if interrupted():
                return

    def _report(self, i: int, record: Record, seconds: float) -> None:
        self.done[i] = record
        self._measured += 1
        each_s = (time.monotonic() - self._started) / self._measured
        self._events.step(
            SweepStep(
                done=len(self.done),
                points=self._fits,
                point=_result(self._points[i], record),
                seconds=seconds,
                left_s=each_s * (self._fits - len(self.done)),
            )
        )


@dataclass(frozen=True, kw_only=True)
class _Begun:
    """A sweep, new or resumed, and the records that it has already."""

    sweep: str
    order_seed: int
    done: Mapping[int, Record]


def _begin(
    store: Registry,
    points_sha256: str,
    points: int,
    resume: bool,
    order_seed: int | None,
    warn: Warn,
) -> _Begun:
    before = store.latest_sweep(points_sha256)
    earlier = store.of_sweep(before) if before is not None else ()
    done = {
        record.sweep.point: record
        for record in earlier
        if record.sweep is not None and record.outcome.status != "interrupted"
    }
    if resume and before is not None:
        if order_seed is not None:
            warn("--order-seed has no effect on a resumed sweep: it keeps its order")
        drawn = next(record.sweep.order_seed for record in earlier if record.sweep is not None)
        return _Begun(sweep=before, order_seed=drawn, done=done)
    if resume:
        warn("there is no earlier sweep of exactly these points; a new one starts")
    elif before is not None and len(done) < points:
        warn(
            f"an earlier sweep of these points was interrupted after {len(done)} of {points}; this "
            "one starts over. --resume continues the earlier one"
        )
    drawn = secrets.randbits(31) if order_seed is None else order_seed
    return _Begun(sweep=new_id(time.time_ns()), order_seed=drawn, done={})


def _result(point: _Point, record: Record | None) -> SweepPointResult:
    return SweepPointResult(
        request=point.request,
        record=record,
        summary=summarize(record) if record is not None else None,
        unfit=point.resolved if isinstance(point.resolved, UnfitError) else None,
    )


def _resolve_points(
    requests: Sequence[Request | str], protocol: TimingProtocol, devices: Devices
) -> list[_Point]:
    """Resolve every request. Raises :class:`UsageError`, but keeps an unsupported combination."""
    points = []
    for each in requests:
        request = msgspec.structs.replace(read_request(each, protocol), protocol=protocol.label)
        try:
            resolved = resolve_request(request, devices.open(request.device))
            points.append(_Point(request=resolved.request, resolved=resolved))
        except UnfitError as error:
            points.append(_Point(request=request, resolved=error))
    return points


def _points_digest(
    points: Sequence[_Point],
    protocol: TimingProtocol,
    wait: Cooldown | None,
    *,
    strict: bool,
    profile: bool,
) -> str:
    """Digest that is equal if the same would be measured.

    Another network behind the same name, other weights, other images or other bytes in a file of
    inputs make another sweep.
    """
    fits = [each.resolved for each in points if isinstance(each.resolved, ResolvedRequest)]
    requests = [each.request for each in points]
    return digest(
        {
            "requests": requests,
            "models": [each.identity for each in fits],
            "calibration": [
                identify_calibration(request.calibration) if request.precision == "int8" else None
                for request in requests
            ],
            "inputs": [identify_inputs(request) for request in requests],
            "protocol": protocol_sha256(protocol),
            "device": fits[0].device.id,
            "latbench": latbench_version(),
            "strict": strict,
            "profile": profile,
            # Without one, the digest is that of older sweeps.
            **({"cooldown": wait.values} if wait else {}),
        }
    )
