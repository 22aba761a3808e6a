"""Verdicts on pairs of records whose truth is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import pytest

from latbench.analysis.comparability import incomparable
from latbench.analysis.comparison import Comparison, compare, ratio_is_precise
from latbench.errors import Failure
from latbench.schema.record import (
    Interleaved,
    Record,
    Sentinel,
)
from latbench.schema.trace import Block, Trace
from support.noise import autocorrelated
from support.records import make_record


def record(
    scale: float,
    seed: int,
    *,
    part: int | None = None,
    processes: int = 8,
    between: float = 0.002,
    sentinel: bool = False,
    speed: float = 1.0,
) -> Record:
    """``scale`` ms a call; processes of the same ``seed`` share what the machine does to them."""
    machine = np.random.default_rng(seed)
    own = np.random.default_rng((seed, 1 if part is None else part))

    def trace(process: int, level: float, n: int) -> Trace:
        samples = level * autocorrelated(n, 0.5, int(own.integers(2**31)), 0.01)
        return Trace(
            process=process,
            opened_ns=process * 10**9,
            load_ns=1,
            first_ns=1_000_000,
            warmup_ns=(),
            blocks=(Block(start_ns=0, sample_ns=tuple(int(ns) for ns in samples)),),
            peak_rss_bytes=None,
        )

    levels = speed * np.exp(0.02 * machine.standard_normal(processes))
    base = make_record(
        id=f"r{seed}-{part}-{scale}",
        traces=[
            trace(i, float(level * scale * np.exp(between * own.standard_normal())), 200)
            for i, level in enumerate(levels)
        ],
    )
    if sentinel:
        beside = tuple(trace(i, float(level), 200) for i, level in enumerate(levels))
        base = msgspec.structs.replace(
            base,
            sentinel=Sentinel(name="s@1", sha256="00"),
            outcome=msgspec.structs.replace(base.outcome, sentinel=beside),
        )
    if part is None:
        return base
    together = Interleaved(comparison=f"c{seed}", part=part, parts=2, order_seed=0)
    return msgspec.structs.replace(base, interleaved=together)


def with_samples(one: Record, change: Callable[[Trace], Sequence[int]]) -> Record:
    """The samples of each trace, which is one block, as ``change`` makes them."""
    traces = []
    for trace in one.outcome.traces:
        block = msgspec.structs.replace(trace.blocks[0], sample_ns=tuple(change(trace)))
        traces.append(msgspec.structs.replace(trace, blocks=(block,)))
    outcome = msgspec.structs.replace(one.outcome, traces=tuple(traces))
    return msgspec.structs.replace(one, outcome=outcome)


def in_turn(factor: float, seed: int = 1, margin: float = 0.02, **changes: object) -> Comparison:
    return compare(
        record(1.0, seed, part=0, **changes),  # type: ignore[arg-type]
        record(factor, seed, part=1, **changes),  # type: ignore[arg-type]
        margin=margin,
    )


@pytest.mark.parametrize(
    ("factor", "verdict"), [(1.0, "same"), (1.05, "slower"), (0.95, "faster"), (1.005, "same")]
)
def test_the_verdict_is_on_b(factor: float, verdict: str) -> None:
    found = in_turn(factor)
    assert found.verdict == verdict
    assert found.interleaved
    assert found.ratio == pytest.approx(factor, rel=0.005)
    low, high = found.interval or (0, 0)
    assert low * 0.997 <= factor <= high * 1.003
    assert found.to_tell is None


def test_a_certain_difference_within_the_margin_is_the_same() -> None:
    assert in_turn(1.01, margin=0.02).verdict == "same"
    assert in_turn(1.01, margin=0.004).verdict == "slower"


def test_exchanging_the_two_inverts_the_verdict() -> None:
    a, b = record(1.0, 3, part=0), record(1.04, 3, part=1)
    assert compare(a, b).verdict == "slower"
    assert compare(b, a).verdict == "faster"
    assert compare(b, a).ratio == pytest.approx(1 / (compare(a, b).ratio or 0), rel=1e-3)


def test_what_cannot_be_told_says_what_it_would_take() -> None:
    found = in_turn(1.0, between=0.06, margin=0.005)
    assert found.verdict == "inconclusive"
    assert found.to_tell is not None
    assert found.to_tell.processes > 8
    assert found.to_tell.seconds == pytest.approx(found.to_tell.processes, rel=0.01)


def test_too_few_pairs_cannot_tell() -> None:
    found = in_turn(2.0, processes=5)
    assert found.verdict == "inconclusive"
    assert "at least 6" in found.reasons[0]
    assert found.ratio == pytest.approx(2.0, rel=0.01)


def test_a_against_a_is_rarely_different() -> None:
    verdicts = [in_turn(1.0, seed, margin=0.0011, between=0.01).verdict for seed in range(150)]
    assert sum(verdict in ("faster", "slower") for verdict in verdicts) <= 15


def test_a_part_that_failed_cannot_be_told_of() -> None:
    a, b = record(1.0, 1, part=0), record(2.0, 1, part=1)
    failure = Failure(stage="time", kind="crash", message="the runtime crashed (SIGSEGV)")
    b = msgspec.structs.replace(
        b, outcome=msgspec.structs.replace(b.outcome, status="failed", failure=failure)
    )
    found = compare(a, b)
    assert found.verdict == "inconclusive"
    assert "B failed at time (crash)" in found.reasons[0]
    assert found.ratio == pytest.approx(2.0, rel=0.01)


def test_what_was_not_timed_in_turn_is_never_the_same() -> None:
    """However narrow their intervals: the machine may have changed in between."""
    a, b = record(1.0, 1, between=0.0001), record(1.0, 1, between=0.0001)
    b = msgspec.structs.replace(b, id="other")
    found = compare(a, b)
    assert not found.interleaved
    assert found.verdict == "inconclusive"
    assert "not interleaved" in found.reasons[0]
    assert compare(a, record(1.05, 2)).verdict == "inconclusive"
    assert compare(a, record(1.5, 2)).verdict == "slower"
    assert compare(a, record(0.6, 2)).verdict == "faster"


def test_a_common_sentinel_stands_between_two_runs() -> None:
    a = record(1.0, 1, sentinel=True)
    assert compare(a, record(1.0, 2, sentinel=True, speed=1.3)).verdict == "same"
    assert compare(a, record(1.05, 2, sentinel=True, speed=1.3)).verdict == "slower"
    other = record(1.0, 2, sentinel=True)
    other = msgspec.structs.replace(other, sentinel=Sentinel(name="s@1", sha256="11"))
    assert compare(a, other).verdict == "inconclusive"
    # One that has a sentinel beside one that has none: neither is referred to it.
    found = compare(a, record(1.0, 2))
    assert found.ratio == pytest.approx(1.0, abs=0.05)


def test_another_number_of_threads_is_another_yardstick() -> None:
    """The sentinel runs with the model's threads: both get faster alike."""
    a, b = record(1.0, 1, sentinel=True), record(1.0, 2, sentinel=True, speed=0.6)
    assert b.runtime is not None
    settings = {**b.runtime.settings, "threads": "4"}
    b = msgspec.structs.replace(b, runtime=msgspec.structs.replace(b.runtime, settings=settings))
    found = compare(a, b)
    assert found.verdict == "faster"
    assert found.ratio == pytest.approx(0.6, rel=0.05)


def test_what_ran_on_another_backend_than_asked_for_is_not_compared() -> None:
    a, b = record(1.0, 1, part=0), record(1.0, 1, part=1)
    a = msgspec.structs.replace(a, request=msgspec.structs.replace(a.request, backend="coreml"))
    found = compare(a, b)
    assert found.verdict == "inconclusive"
    assert "not evidence about coreml" in found.reasons[0]


def test_pairs_are_of_one_process_not_of_one_place() -> None:
    a, b = record(1.0, 5, part=0), record(1.0, 5, part=1)
    outcome = b.outcome
    b = msgspec.structs.replace(
        b,
        outcome=msgspec.structs.replace(
            outcome, traces=tuple(t for t in outcome.traces if t.process != 1)
        ),
    )
    for quantity in ("typical", "best-case"):
        found = compare(a, b, quantity=quantity)  # type: ignore[arg-type]
        assert found.processes == 7
        assert all(ratio == pytest.approx(1, abs=0.01) for ratio in found.process_ratios)


def test_conditions_that_differ_are_named() -> None:
    a, b = record(1.0, 1), record(1.0, 2)
    assert incomparable(a, b) == ()
    environment = msgspec.structs.replace(
        b.environment, before=msgspec.structs.replace(b.environment.before, usable_cpus=1)
    )
    protocol = msgspec.structs.replace(b.protocol, name="other")
    b = msgspec.structs.replace(b, environment=environment, protocol=protocol)
    named = " ".join(incomparable(a, b))
    assert "environment.before.usable_cpus: 2 and 1" in named
    assert "protocol: latbench-fixed@1 and other@1" in named


def on_machine(record: Record, **changes: object) -> Record:
    machine = msgspec.structs.replace(record.environment.machine, **changes)
    environment = msgspec.structs.replace(record.environment, machine=machine)
    return msgspec.structs.replace(record, environment=environment)


@pytest.mark.parametrize(
    ("memory_bytes", "comparable"),
    [
        (8_000_004_096, True),
        (7_999_995_904, True),
        (8_100_000_000, True),
        (8_400_000_000, False),
        (16_000_000_000, False),
        (None, False),
    ],
)
def test_memory_may_differ_by_what_a_reboot_changes(
    memory_bytes: int | None, comparable: bool
) -> None:
    a, b = record(1.0, 1), on_machine(record(1.0, 2), memory_bytes=memory_bytes)
    assert (incomparable(a, b) == ()) is comparable
    assert (incomparable(b, a) == ()) is comparable
    if not comparable:
        assert incomparable(a, b) == (
            f"environment.machine.memory_bytes: 8000000000 and {memory_bytes}",
        )


def test_another_kernel_is_a_note() -> None:
    a, b = record(1.0, 1), on_machine(record(1.0, 2), kernel="Linux 6.2.0")
    assert incomparable(a, b) == ()
    assert "the kernel differs: Linux 6.1.0 and Linux 6.2.0" in compare(a, b).reasons
    assert not any("kernel" in reason for reason in compare(a, record(1.0, 2)).reasons)


def test_precision_is_of_the_ratio() -> None:
    a, b = record(1.0, 1, part=0), record(3.0, 1, part=1)
    assert ratio_is_precise(a.outcome.traces, b.outcome.traces, 0.01)
    assert not ratio_is_precise(a.outcome.traces, b.outcome.traces, 0.00001)
    assert not ratio_is_precise(a.outcome.traces[:5], b.outcome.traces[:5], 0.01)


def test_precision_is_of_the_quantity_that_the_verdict_rests_on() -> None:
    """Tenth percentiles that move where medians do not."""

    def lower(trace: Trace) -> list[int]:
        ns = list(trace.blocks[0].sample_ns)
        quarter = len(ns) // 4
        return [round(v * (1 - 0.1 * (trace.process % 4))) for v in ns[:quarter]] + ns[quarter:]

    a, b = record(1.0, 1, part=0), with_samples(record(1.0, 1, part=1), lower)
    found = compare(a, b, quantity="best-case")
    assert found.half_width is not None
    assert found.half_width > 0.02
    assert ratio_is_precise(a.outcome.traces, b.outcome.traces, 0.02)
    assert not ratio_is_precise(a.outcome.traces, b.outcome.traces, 0.02, "best-case")


def test_a_coarse_clock_cannot_tell() -> None:
    def coarse(trace: Trace) -> list[int]:
        steps = [max(1, round(v / 1e5)) * 100_000 for v in trace.blocks[0].sample_ns]
        return [2_000_000, *steps[1:]]

    a, b = record(1.04, 1, part=0), record(0.96, 1, part=1)
    found = compare(with_samples(a, coarse), with_samples(b, coarse))
    assert found.verdict == "inconclusive"
    assert "A: the clock's steps are" in " ".join(found.reasons)


def test_a_clock_so_coarse_that_some_calls_take_no_time_cannot_tell() -> None:
    """Blocks whose median is zero have no ratio, and the rest would be the same."""

    def stepped(trace: Trace) -> list[int]:
        ns = np.cumsum([0, *trace.blocks[0].sample_ns])
        return [int(step) for step in np.diff(ns // 1_000_000) * 1_000_000]

    a, b = record(0.6, 1, part=0), record(0.9, 1, part=1)
    found = compare(with_samples(a, stepped), with_samples(b, stepped))
    assert found.verdict == "inconclusive"
    assert "A: some inferences took no time" in " ".join(found.reasons)


def test_a_sentinel_that_was_lost_early_is_no_yardstick() -> None:
    a, b = record(1.0, 1, sentinel=True), record(2.0, 2, sentinel=True)
    early = msgspec.structs.replace(a.outcome, sentinel=a.outcome.sentinel[:3])
    found = compare(msgspec.structs.replace(a, outcome=early), b)
    assert found.verdict == "slower"
    assert "at least 6 processes" not in " ".join(found.reasons)
