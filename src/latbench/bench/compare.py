"""``latbench compare``: two subjects timed in turn, block by block, and what that says of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from latbench.analysis.comparability import incomparable
from latbench.analysis.comparison import (
    MARGIN,
    Comparison,
    Quantity,
    ratio_is_precise,
)
from latbench.analysis.comparison import compare as verdict_on
from latbench.analysis.stats import FEWEST
from latbench.bench.executor import (
    Progress,
    ProtocolExecutor,
    Schedule,
    failure_of,
)
from latbench.bench.prepare import (
    PreparedJob,
    ResolvedRequest,
    fallback,
    prepare_job,
    resolve_request,
)
from latbench.bench.record_factory import PACKAGES, make_record, new_comparison_id
from latbench.bench.run import TIMEOUT_S
from latbench.errors import LatbenchError, UsageError
from latbench.events import Warn
from latbench.host.info import read_conditions, read_machine, read_software
from latbench.schema.protocol import TimingProtocol
from latbench.schema.protocol_catalog import COMPARE
from latbench.schema.protocol_options import check_protocol, named_protocol
from latbench.schema.record import (
    Interleaved,
    Outcome,
    Record,
    Sentinel,
)
from latbench.schema.request import Request
from latbench.schema.request_syntax import side_request
from latbench.store.rescue import keep

NO_SENTINEL = Sentinel(
    name=None, sha256=None, absent="models that are compared are timed beside each other"
)


@dataclass(frozen=True, kw_only=True)
class CompareResult:
    """The two records, stored, and the verdict on them."""

    a: Record
    b: Record
    comparison: Comparison
    registry: str


def compare(
    a: Request | str,
    b: Request | str,
    *,
    protocol: str | TimingProtocol = COMPARE.label,
    margin: float = MARGIN,
    quantity: Quantity = "typical",
    order_seed: int = 0,
    fresh: bool = False,
    deadline_s: float = TIMEOUT_S,
    registry: str | None = None,
    progress: Progress = lambda done, total: None,
    warn: Warn = lambda message: None,
) -> CompareResult:
    """Time ``a`` and ``b`` in turn, store a record of each, and compare them.

    Each is a request, or a text such as ``mobilevig_ti,threads=1``: a model, and keys with values.
    ``margin`` is the relative difference up to which two latencies count as the same;
    ``order_seed`` draws the order of the two in each round. Raises
    :class:`~latbench.UsageError` and :class:`~latbench.RegistryError` as :func:`latbench.run` does.
    """
    resolved = named_protocol(protocol) if isinstance(protocol, str) else protocol
    check_protocol(resolved, deadline_s)
    _check_comparable(resolved, warn)
    check_margin(margin)
    machine = read_machine()
    requests = [
        side_request(side, protocol=resolved.label) if isinstance(side, str) else side
        for side in (a, b)
    ]
    subjects = [resolve_request(request, machine, strict=True, fresh=fresh) for request in requests]
    from latbench.store.registry import Registry

    with Registry.open(registry) as store:
        created = time.time_ns()
        software = read_software(PACKAGES)
        before = read_conditions()
        prepared: list[PreparedJob | None] = [None, None]
        execution: ProtocolExecutor | None = None
        try:
            both = [_ready(subjects, prepared, i, resolved, warn) for i in range(2)]
            before = read_conditions()
            target = (resolved.target_ppm or 0) / 1e6
            schedule = Schedule(
                protocol=resolved,
                deadline_s=deadline_s,
                order_seed=order_seed,
                precise=lambda parts: ratio_is_precise(parts[0], parts[1], target, quantity),
            )
            execution = ProtocolExecutor([each.job for each in both], schedule, progress)
            outcomes = execution.run()
        except UsageError:
            raise
        except LatbenchError as error:
            # The one that could not be made ready is the first without; the other one never began.
            failed = prepared.index(None)
            outcomes = tuple(
                Outcome(status="failed", failure=failure_of(error, "export"))
                if i == failed
                else Outcome(status="interrupted")
                for i in range(2)
            )
        except KeyboardInterrupt:
            outcomes = (Outcome(status="interrupted"), Outcome(status="interrupted"))
        comparison_id = new_comparison_id()
        records = [
            make_record(
                subjects[i],
                created_unix_ns=created + i,
                machine=machine,
                software=software,
                before=before,
                protocol=resolved,
                prepared=prepared[i],
                runtime=execution.parts[i].runtime if execution else None,
                outcome=outcomes[i],
                sentinel=None if resolved.sentinel_ns is None else NO_SENTINEL,
                interleaved=Interleaved(
                    comparison=comparison_id, part=i, parts=2, order_seed=order_seed
                ),
            )
            for i in range(2)
        ]
        keep(records, store)
        one, two = records
        return CompareResult(
            a=one,
            b=two,
            comparison=verdict_on(one, two, margin=margin, quantity=quantity),
            registry=store.url,
        )


def _check_comparable(protocol: TimingProtocol, warn: Warn) -> None:
    """Refuse a protocol of which nothing alternates; warn of one that cannot tell."""
    if protocol.statistic.kind == "cold":
        raise UsageError(
            f"{protocol.label} times first inferences only: there are no blocks to compare in turn",
            hint="`latbench run` times the two apart",
        )
    if protocol.max_processes < FEWEST:
        warn(
            f"{protocol.label} has {protocol.max_processes} process"
            f"{'' if protocol.max_processes == 1 else 'es'}; a verdict needs at least {FEWEST}: "
            f"--processes {FEWEST}"
        )


def compare_records(
    a: Record, b: Record, *, margin: float = MARGIN, quantity: Quantity = "typical"
) -> Comparison:
    """Compare stored records. Raises :class:`UsageError` where that would mean nothing."""
    check_margin(margin)
    if a.id == b.id:
        raise UsageError(f"{a.id} would be compared with itself", hint="name two records")
    if fields := incomparable(a, b):
        raise UsageError(
            f"these records cannot be compared: {'; '.join(fields)}",
            hint="measure both in turn: latbench compare A B",
        )
    return verdict_on(a, b, margin=margin, quantity=quantity)


def check_margin(margin: float) -> None:
    """Refuse a margin at which everything or nothing is the same."""
    if not 0 < margin < 1:
        raise UsageError(f"the margin must be above 0 and below 100 %, not {100 * margin:g} %")


def _ready(
    subjects: Sequence[ResolvedRequest],
    prepared: list[PreparedJob | None],
    i: int,
    protocol: TimingProtocol,
    warn: Warn,
) -> PreparedJob:
    # Never another backend instead: the verdict would be of something that nobody asked about.
    fallback(subjects[i], warn)
    made = prepared[i] = prepare_job(subjects[i], None, protocol, warn)
    return made
