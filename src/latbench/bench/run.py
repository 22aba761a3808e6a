"""``latbench run``, step by step: from a request to a stored record.

Store first, then compute: nothing below looks at a number before the record is safe.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from latbench.analysis.estimators import run_is_precise
from latbench.analysis.summary import Summary, summarize
from latbench.bench.executor import (
    Progress,
    ProtocolExecutor,
    Schedule,
    failure_of,
)
from latbench.bench.operator_profile import time_operators
from latbench.bench.prepare import (
    PreparedJob,
    ResolvedRequest,
    fallback,
    prepare_job,
    resolve_request,
)
from latbench.bench.record_factory import PACKAGES, make_record
from latbench.bench.sentinel import sentinel_for, without_sentinel
from latbench.defaults import FALLBACK, LOCAL
from latbench.errors import LatbenchError, Stage, UsageError
from latbench.events import Warn
from latbench.host.info import read_conditions, read_machine, read_software
from latbench.schema.environment import Conditions, Machine
from latbench.schema.protocol import TimingProtocol
from latbench.schema.protocol_catalog import WARM
from latbench.schema.protocol_options import check_protocol, named_protocol
from latbench.schema.record import (
    Fallback,
    Outcome,
    Record,
    Sentinel,
    SweepPoint,
)
from latbench.schema.request import make_request
from latbench.store.rescue import keep

TIMEOUT_S = 300.0


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """A stored record, what it says, and where it is."""

    record: Record
    summary: Summary | None
    """``None`` where not one sample was taken: see ``record.outcome.failure``."""
    registry: str


def run(
    model: str,
    *,
    backend: str = FALLBACK,
    device: str = LOCAL,
    weights: str | Path | None = None,
    batch: int | None = None,
    resolution: int | tuple[int, int] | None = None,
    precision: str = "fp32",
    threads: int | None = None,
    seed: int = 0,
    options: Mapping[str, str] | None = None,
    dims: Mapping[str, int] | None = None,
    protocol: str | TimingProtocol = WARM.label,
    calibration: str | Path | None = None,
    profile: bool = False,
    strict: bool = False,
    fresh: bool = False,
    deadline_s: float = TIMEOUT_S,
    registry: str | None = None,
    progress: Progress = lambda done, total: None,
    warn: Warn = lambda message: None,
) -> RunResult:
    """Measure ``model`` on ``backend`` and store the record.

    ``model`` is a name of the zoo, ``timm:NAME``, ``package.module:factory``,
    ``path/to/file.py:factory`` or a ready file that the backend takes. ``resolution`` is in pixels,
    height before width. ``threads`` defaults to the CPUs that this process may really use.
    ``options`` are the backend's own (``latbench backends NAME`` lists them), ``dims`` the sizes
    of a ready file's named dynamic axes. Without ``strict``, a backend that cannot run here is
    replaced by ONNX Runtime on the CPU; the record then says so. ``fresh`` exports again even where
    the cache has the artifact. ``precision`` is one of
    :data:`latbench.schema.precision.PRECISIONS`, and
    ``calibration`` a folder of images for int8. ``profile`` asks for times by operator as well.
    ``protocol`` is a name (``latbench protocols`` lists them) or a value, which
    :func:`msgspec.structs.replace` makes from a shipped one. ``deadline_s`` bounds every single
    answer of a runtime, in seconds.

    A run that fails or is interrupted is a record too: look at ``result.record.outcome``. Raises
    :class:`~latbench.UsageError` for a request that makes no sense and
    :class:`~latbench.RegistryError` where the registry cannot be used.
    """
    request = make_request(
        model,
        backend=backend,
        device=device,
        weights=weights,
        batch=batch,
        resolution=resolution,
        precision=precision,
        threads=threads,
        seed=seed,
        options=options,
        dims=dims,
        protocol=protocol if isinstance(protocol, str) else protocol.label,
        calibration=calibration,
    )
    resolved = named_protocol(protocol) if isinstance(protocol, str) else protocol
    check_protocol(resolved, deadline_s)
    machine = read_machine()
    what = resolve_request(request, machine, strict=strict, fresh=fresh)
    from latbench.store.registry import Registry

    with Registry.open(registry) as store:
        record = measure(
            what, machine, resolved, deadline_s, profile=profile, progress=progress, warn=warn
        )
        keep((record,), store)
        return RunResult(record=record, summary=summarize(record), registry=store.url)


def measure(
    what: ResolvedRequest,
    machine: Machine,
    protocol: TimingProtocol,
    deadline_s: float,
    *,
    profile: bool,
    progress: Progress,
    warn: Warn,
    sweep: SweepPoint | None = None,
) -> Record:
    """Everything between understanding the request and storing the record.

    What goes wrong is the record's outcome. Alone, a request that turns out to make no sense raises
    :class:`UsageError`; in a ``sweep`` it is one point of many.
    """
    created = time.time_ns()
    software = read_software(PACKAGES)
    before = read_conditions()
    prepared: PreparedJob | None = None
    sentinel: Sentinel | None = None
    instead: Fallback | None = None
    after: Conditions | None = None
    execution: ProtocolExecutor | None = None
    outcome: Outcome | None = None
    try:
        instead = fallback(what, warn)
        prepared = prepare_job(what, instead, protocol, warn)
        beside, sentinel = sentinel_for(prepared, protocol, warn)
        before = read_conditions()
        target = (protocol.target_ppm or 0) / 1e6
        schedule = Schedule(
            protocol=protocol,
            deadline_s=deadline_s,
            order_seed=what.request.seed,
            precise=lambda parts: run_is_precise(parts[0], target),
        )
        execution = ProtocolExecutor((prepared.job,), schedule, progress, sentinel=beside)
        (outcome,) = execution.run()
        after = read_conditions()
        if execution.sentinel_failure is not None:
            sentinel = without_sentinel(execution.sentinel_failure, sentinel)
            warn(f"the sentinel failed and was left out: {execution.sentinel_failure.message}")
        if profile and outcome.status == "measured":
            outcome = _profiled(outcome, prepared, deadline_s, warn, pinned=protocol.pinned)
    except LatbenchError as error:
        # Only the exporting program or the runtime knows of such a request.
        if sweep is None and isinstance(error, UsageError):
            raise
        stage: Stage = "export" if prepared is None else "open"
        outcome = Outcome(status="failed", failure=failure_of(error, stage))
    except KeyboardInterrupt:
        # After the timing it costs what was yet to come, and not what was measured.
        outcome = outcome or Outcome(status="interrupted")
    return make_record(
        what,
        created_unix_ns=created,
        machine=machine,
        software=software,
        before=before,
        after=after,
        protocol=protocol,
        prepared=prepared,
        runtime=execution.parts[0].runtime if execution else None,
        outcome=outcome,
        sentinel=sentinel,
        instead=instead,
        sweep=sweep,
    )


def _profiled(
    outcome: Outcome, prepared: PreparedJob, deadline_s: float, warn: Warn, *, pinned: bool
) -> Outcome:
    """With times by operator, where they can be had; what was measured stays without them too."""
    try:
        found = time_operators(prepared.job, deadline_s, pinned=pinned)
    except LatbenchError as error:
        warn(f"no times by operator: {error.message}")
        return outcome
    except KeyboardInterrupt:
        warn("no times by operator: interrupted")
        return outcome
    if found is None:
        warn(f"no times by operator: {prepared.runner.name} cannot tell them here")
    return msgspec.structs.replace(outcome, profile=found)
