"""Many points, one after the other in random order: a sweep that goes on where it was cut off."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from latbench.analysis.summary import Summary, summarize
from latbench.artifacts.calibration import identify_calibration
from latbench.bench.prepare import ResolvedRequest, resolve_request
from latbench.bench.record_factory import new_id
from latbench.bench.run import TIMEOUT_S, measure
from latbench.errors import UnfitError, UsageError
from latbench.events import Warn
from latbench.host.info import read_machine
from latbench.paths import cache_folder
from latbench.schema.codec import digest
from latbench.schema.protocol import TimingProtocol, protocol_sha256
from latbench.schema.protocol_catalog import WARM
from latbench.schema.protocol_options import check_protocol, named_protocol
from latbench.schema.record import Record, SweepPoint
from latbench.schema.request import Request
from latbench.schema.request_syntax import side_request
from latbench.store.rescue import keep
from latbench.version import latbench_version

if TYPE_CHECKING:
    from latbench.store.registry import Registry


@dataclass(frozen=True, kw_only=True)
class SweepPointResult:
    """One of the points, measured or not."""

    request: Request
    record: Record | None
    summary: Summary | None
    unfit: UnfitError | None = None
    """Why this combination makes no sense: nothing was tried."""


@dataclass(frozen=True, kw_only=True)
class SweepStep:
    """What is told after each point."""

    done: int
    """Points that are behind us, those of an earlier run included."""
    points: int
    point: SweepPointResult
    seconds: float
    left_s: float
    """About how long the rest will take."""


@dataclass(frozen=True, kw_only=True)
class SweepResult:
    """All points in the order in which they were given."""

    sweep: str
    points: tuple[SweepPointResult, ...]
    registry: str


def sweep(
    requests: Sequence[Request | str],
    *,
    protocol: str | TimingProtocol = WARM.label,
    order_seed: int | None = None,
    resume: bool = False,
    profile: bool = False,
    strict: bool = False,
    fresh: bool = False,
    deadline_s: float = TIMEOUT_S,
    registry: str | None = None,
    progress: Callable[[SweepStep], None] = lambda step: None,
    interrupted: Callable[[], bool] = lambda: False,
    warn: Warn = lambda message: None,
) -> SweepResult:
    """Measure all ``requests`` in random order and store a record of each.

    Each is a request, or a text such as ``mobilevig_ti,backend=tflite,threads=1``.

    A point that fails is a record like any other and ends nothing. ``order_seed`` draws the order;
    without one it is drawn itself and stored. With ``resume``, the newest sweep of just these
    points and this protocol goes on: what it has recorded is not measured again, except where the
    user interrupted it. ``interrupted`` is asked after each point whether to end there: an
    interruption may meet a point that is measured, and only told or profiled. Raises
    :class:`UsageError` where a point names what does not exist, before anything is measured.
    """
    resolved = named_protocol(protocol) if isinstance(protocol, str) else protocol
    check_protocol(resolved, deadline_s)
    machine = read_machine()
    asked = [
        msgspec.structs.replace(
            side_request(each) if isinstance(each, str) else each, protocol=resolved.label
        )
        for each in requests
    ]
    subjects = [
        _fit(request, lambda r: resolve_request(r, machine, strict=strict, fresh=fresh))
        for request in asked
    ]
    fits = [each for each in subjects if isinstance(each, ResolvedRequest)]
    if not fits:
        unfit = [each for each in subjects if isinstance(each, UnfitError)]
        raise unfit[0] if unfit else UsageError("the sweep has no points")
    points_sha256 = _points_digest(asked, subjects, resolved, strict=strict, profile=profile)
    from latbench.store.registry import Registry

    with Registry.open(registry) as store, ExitStack() as exits:
        begun = _begin(store, points_sha256, len(fits), resume, order_seed, warn)
        exits.enter_context(_alone(begun.sweep))
        done = dict(begun.done)
        order = list(range(len(asked)))
        random.Random(begun.order_seed).shuffle(order)  # noqa: S311 - an order is no secret
        started, measured = time.monotonic(), 0
        for i in order:
            what, at = subjects[i], time.monotonic()
            if i in done or not isinstance(what, ResolvedRequest):
                continue
            place = SweepPoint(
                sweep=begun.sweep,
                points_sha256=points_sha256,
                point=i,
                points=len(asked),
                order_seed=begun.order_seed,
            )
            record = measure(
                what,
                machine,
                resolved,
                deadline_s,
                profile=profile,
                progress=lambda done, total: None,
                warn=warn,
                sweep=place,
            )
            keep((record,), store)
            if record.outcome.status == "interrupted":
                break
            done[i] = record
            measured += 1
            now = time.monotonic()
            progress(
                SweepStep(
                    done=len(done),
                    points=len(fits),
                    point=_point(asked[i], what, record),
                    seconds=now - at,
                    left_s=(now - started) / measured * (len(fits) - len(done)),
                )
            )
            if interrupted():
                break
        points = tuple(
            _point(request, what, done.get(i))
            for i, (request, what) in enumerate(zip(asked, subjects, strict=True))
        )
        return SweepResult(sweep=begun.sweep, points=points, registry=store.url)


@dataclass(frozen=True, kw_only=True)
class _Begun:
    """A sweep that is new, or that goes on: what is done of it already."""

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
            warn("--order-seed is of a new sweep; this one goes on in the order that it has")
        drawn = next(record.sweep.order_seed for record in earlier if record.sweep is not None)
        return _Begun(sweep=before, order_seed=drawn, done=done)
    if resume:
        warn("there is no earlier sweep of just these points; this is a new one")
    elif before is not None and len(done) < points:
        warn(
            f"an earlier sweep of these points was cut off after {len(done)} of {points}; --resume "
            "goes on with it. This one begins anew"
        )
    drawn = secrets.randbits(31) if order_seed is None else order_seed
    return _Begun(sweep=new_id(time.time_ns()), order_seed=drawn, done={})


@contextmanager
def _alone(sweep: str) -> Iterator[None]:
    """Raises :class:`UsageError` while another program on this machine measures the sweep: the two
    would disturb each other."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with ExitStack() as exits:
        # Where there is no writing, exporting fails, point by point and in words.
        with suppress(OSError):
            place = cache_folder() / "sweeps"
            place.mkdir(parents=True, exist_ok=True)
            lock = exits.enter_context((place / f"{sweep}.lock").open("w"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(
                    "another program is measuring this sweep",
                    hint="wait until it ends; without --resume this is a sweep of its own",
                ) from None
            exits.callback(Path(lock.name).unlink, missing_ok=True)
        yield


def _point(
    request: Request, what: ResolvedRequest | UnfitError, record: Record | None
) -> SweepPointResult:
    return SweepPointResult(
        request=request,
        record=record,
        summary=summarize(record) if record is not None else None,
        unfit=what if isinstance(what, UnfitError) else None,
    )


def _fit(
    request: Request, understand: Callable[[Request], ResolvedRequest]
) -> ResolvedRequest | UnfitError:
    try:
        return understand(request)
    except UnfitError as error:
        return error


def _points_digest(
    requests: Sequence[Request],
    subjects: Sequence[ResolvedRequest | UnfitError],
    protocol: TimingProtocol,
    *,
    strict: bool,
    profile: bool,
) -> str:
    """Equal where the same would be measured: another network behind the same name, other weights
    or other images are another sweep."""
    fits = [each for each in subjects if isinstance(each, ResolvedRequest)]
    return digest(
        {
            "requests": requests,
            "models": [each.identity for each in fits],
            "calibration": [
                identify_calibration(request.calibration) if request.precision == "int8" else None
                for request in requests
            ],
            "protocol": protocol_sha256(protocol),
            "device": fits[0].device.id,
            "latbench": latbench_version(),
            "strict": strict,
            "profile": profile,
        }
    )
