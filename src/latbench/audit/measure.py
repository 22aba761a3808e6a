"""Measurements for claims: records that are missing and that this machine can measure.

Models of a comparison are timed alternately on each backend; a value is measured only on the device
that its claim names.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from latbench.analysis.stats import FEWEST
from latbench.audit.check import available_backends
from latbench.bench.context import RunContext
from latbench.bench.measure import measure_parts, measure_request
from latbench.bench.prepare import device_cpus, read_request, resolve_request
from latbench.claims.model import Claim, ClaimedModel
from latbench.claims.statements import (
    TIMED,
    StatedBound,
    StatedDifference,
    StatedOrdering,
    StatedParity,
    StatedRatio,
    StatedValue,
)
from latbench.claims.verdict import CONCLUSIVE, Answer, Place, Verdict
from latbench.defaults import LOCAL, TIMEOUT_S
from latbench.errors import LatbenchError, RegistryError
from latbench.events import SILENT, Events, never
from latbench.plugins import load_runner
from latbench.schema.codec import digest
from latbench.schema.cpu_choice import read_cpus
from latbench.schema.protocol import TimingProtocol
from latbench.schema.protocol_catalog import COMPARE, WARM, shipped
from latbench.schema.protocol_options import changed_protocol, check_protocol
from latbench.schema.record import Record
from latbench.schema.request import Request, make_request

if TYPE_CHECKING:
    from latbench.audit.library import ClaimLibrary
    from latbench.devices.measured import MeasuredDevice

THREADS = 1
"""For comparisons whose source names no number: the most repeatable, and usual for phones."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One measurement, of one model or of two alternately, the claim's model second."""

    requests: tuple[Request, ...]
    protocol: TimingProtocol
    claims: tuple[str, ...]
    """Ids of the claims that it is for."""

    @property
    def name(self) -> str:
        """Models, backend and protocol, for messages."""
        models = " and ".join(request.model for request in self.requests)
        return f"{models} on {self.requests[-1].backend}, {self.protocol.label}"


@dataclass(frozen=True, kw_only=True)
class TrialProgress:
    """Progress after each trial."""

    done: int
    trials: int
    trial: Trial
    records: tuple[Record, ...]
    left_s: float


def trials(
    claims: Sequence[Claim],
    registered: ClaimLibrary,
    verdicts: Mapping[str, Verdict],
    *,
    device: MeasuredDevice,
    backends: Sequence[str],
    cpus: str | None = None,
) -> tuple[Trial, ...]:
    """Return the measurements on ``device`` that ``verdicts`` still need, on the CPUs ``cpus``.

    Trials that were inconclusive before come last.
    """
    ready = available_backends(claims, also=backends, probe=device.probe)
    here = device.row.hardware
    chosen = device_cpus(None if cpus is None else read_cpus(cpus), device)
    most = None if chosen is None else len(chosen)
    found: dict[str, Trial] = {}
    tried: set[str] = set()
    for claim in claims:
        if claim.says.metric not in TIMED or claim.unverifiable or claim.out_of_scope:
            continue
        of_claim = _of_claim(claim, registered, verdicts[claim.id], device, backends, most)
        for trial, answers in of_claim:
            place = Place(device=here, backend=trial.requests[-1].backend)
            given = [answer for answer in answers if answer.place == place]
            needed = not given or any(answer.answer not in CONCLUSIVE for answer in given)
            if trial.requests[-1].backend in ready and needed:
                key = _add(found, _on_cpus(trial, cpus))
                tried |= {key} if given else set()
    return tuple(found[key] for key in sorted(found, key=lambda key: key in tried))


def _on_cpus(trial: Trial, cpus: str | None) -> Trial:
    if cpus is None:
        return trial
    chosen = read_cpus(cpus)
    requests = tuple(msgspec.structs.replace(each, cpus=chosen) for each in trial.requests)
    return replace(trial, requests=requests)


def carry_out(
    wanted: Sequence[Trial],
    device: MeasuredDevice,
    *,
    registry: str | None,
    events: Events = SILENT,
    interrupted: Callable[[], bool] = never,
    timeout_s: float = TIMEOUT_S,
) -> bool:
    """Measure the trials on ``device`` and store every record; return whether all were tried.

    A trial that fails is reported and does not stop the others. ``events.step`` receives a
    :class:`TrialProgress` after each one. An interruption by the user, which ``interrupted``
    reports, stops; records stored by then stay. Raises :class:`RegistryError` if records cannot be
    stored.
    """
    if not wanted:
        return True
    from latbench.store.registry import Registry

    started = time.monotonic()
    with Registry.open(registry) as store:
        context = RunContext(
            device=device,
            registry=store,
            events=Events(warn=events.warn),
            timeout_s=timeout_s,
            strict=True,
        )
        for done, trial in enumerate(wanted, 1):
            try:
                records = measure_trial(trial, context)
            except RegistryError:
                # No later record could be stored either.
                raise
            except LatbenchError as error:
                events.warn(f"{trial.name}: {error.message}")
                continue
            statuses = {record.outcome.status for record in records}
            # Next to a part that failed, the other part of a comparison is interrupted as well.
            if interrupted() or ("interrupted" in statuses and "failed" not in statuses):
                return False
            left = (time.monotonic() - started) / done * (len(wanted) - done)
            events.step(
                TrialProgress(
                    done=done, trials=len(wanted), trial=trial, records=records, left_s=left
                )
            )
    return True


def measure_trial(trial: Trial, context: RunContext) -> tuple[Record, ...]:
    """Measure one trial and store its records: one, or two of a comparison.

    Raises :class:`LatbenchError`.
    """
    check_protocol(trial.protocol, context.timeout_s)
    resolved = [
        resolve_request(read_request(each, trial.protocol), context.device)
        for each in trial.requests
    ]
    if len(resolved) == 1:
        return (measure_request(resolved[0], trial.protocol, context),)
    other, mine = resolved
    return measure_parts((other, mine), trial.protocol, context, quantity="typical", order_seed=0)


def _of_claim(
    claim: Claim,
    registered: ClaimLibrary,
    verdict: Verdict,
    device: MeasuredDevice,
    backends: Sequence[str],
    most: int | None,
) -> Iterator[tuple[Trial, tuple[Answer, ...]]]:
    """Each measurement that would decide the claim, and the answers that it is for."""
    here, named = claim.conditions.device == device.row.hardware, claim.conditions.backend
    name = LOCAL if device.link is None else device.row.id
    value = (verdict.value,) if verdict.value is not None else ()
    if isinstance(claim.says, StatedRatio | StatedDifference | StatedOrdering | StatedParity):
        for backend in dict.fromkeys((*backends, *((named,) if here and named else ()))):
            own = here and backend == named
            trial = _comparison(claim, registered, backend, name, own=own)
            if trial is not None:
                yield trial, (*verdict.ordering, *(value if own else ()))
    elif here and named is not None and isinstance(claim.says, StatedValue | StatedBound):
        # Both are tried if the source leaves the number of threads open.
        several = (most or device.usable_cpus()) if "threads" in claim.open else THREADS
        for threads in sorted({THREADS, several}):
            mine = registered.models[claim.model]
            size = claim.conditions.resolution
            request = _request(mine, claim, named, size, name, own=True, threads=threads)
            for protocol in _protocols(claim) if request is not None else ():
                assert request is not None
                yield Trial(requests=(request,), protocol=protocol, claims=(claim.id,)), value


def _add(found: dict[str, Trial], trial: Trial) -> str:
    """Add a trial; claims about the same two models share one."""
    key = digest({"requests": trial.requests, "protocol": trial.protocol})
    before = found.get(key)
    claims = (*(before.claims if before else ()), *trial.claims)
    found[key] = replace(trial, claims=claims)
    return key


def _comparison(
    claim: Claim, registered: ClaimLibrary, backend: str, device: str, *, own: bool
) -> Trial | None:
    had = claim.conditions
    other = registered.models.get(claim.against or "")
    mine = registered.models[claim.model]
    two = _request(other, claim, backend, had.against_resolution or had.resolution, device, own=own)
    one = _request(mine, claim, backend, had.resolution, device, own=own)
    if one is None or two is None:
        return None
    return Trial(requests=(two, one), protocol=COMPARE, claims=(claim.id,))


def _request(
    model: ClaimedModel | None,
    claim: Claim,
    backend: str,
    resolution: int | None,
    device: str,
    *,
    own: bool,
    threads: int = THREADS,
) -> Request | None:
    """The request for a model of the claim, ``None`` if nothing here builds it.

    ``own``: on the device and backend that the claim names. Elsewhere its precision and provider
    refer to another runtime.
    """
    if model is None or model.build is None:
        return None
    had = claim.conditions
    return make_request(
        model.build,
        backend=backend,
        device=device,
        batch=had.batch,
        resolution=resolution,
        precision=(had.precision or "fp32") if own else "fp32",
        threads=had.threads or threads,
        options=_provider(had.provider, backend) if own else {},
    )


def _provider(provider: str | None, backend: str) -> dict[str, str]:
    """The provider as an option, if the backend has that option."""
    known = provider is not None and "provider" in load_runner(backend).options
    return {"provider": provider} if known and provider is not None else {}


def _protocols(claim: Claim) -> tuple[TimingProtocol, ...]:
    """The authors' own protocol, if it is known here, and ours.

    Theirs often uses one process, which gives no interval: it is repeated in enough processes.
    """
    theirs = shipped(claim.conditions.protocol)
    if theirs is None:
        return (WARM,)
    return (changed_protocol(theirs, processes=max(theirs.processes, FEWEST)), WARM)
