"""The summary of records whose truth is known."""

from __future__ import annotations

import random
from statistics import median

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import make_record
from latbench.core.records import Block, OutputCheck, Record, Trace
from latbench.core.summary import _interval, _quantile, samples, summarise, typical_ns


def trace(process: int, values: list[int]) -> Trace:
    return Trace(
        process=process,
        load_ns=5_000_000,
        first_ns=9_000_000,
        warmup_ns=(8_000_000,),
        blocks=(Block(start_ns=0, sample_ns=tuple(values)),),
        peak_rss_bytes=None,
    )


def record(*processes: list[int], status: str = "measured", **outcome: object) -> Record:
    base = make_record()
    return msgspec.structs.replace(
        base,
        outcome=msgspec.structs.replace(
            base.outcome,
            status=status,
            failure=None,
            checks=(),
            traces=tuple(trace(i, values) for i, values in enumerate(processes)),
            **outcome,
        ),
    )


def noisy(centre: float, seed: int, n: int = 200) -> list[int]:
    draw = random.Random(seed)
    return [round(draw.gauss(centre, centre * 0.01)) for _ in range(n)]


def test_six_alike_processes_are_trusted() -> None:
    summary = summarise(record(*(noisy(1e6, seed) for seed in range(6))))
    assert summary is not None
    assert (summary.trust, summary.reasons) == ("yes", ())
    assert summary.processes == 6
    assert summary.samples == 1200
    assert summary.confidence == pytest.approx(1 - 2 / 2**6)
    low, high = summary.interval_ns or (0, 0)
    assert low <= summary.median_ns <= high
    assert (low, high) == (min(summary.process_median_ns), max(summary.process_median_ns))
    assert summary.load_ns == 5_000_000
    assert summary.first_ns == 9_000_000


def test_five_processes_cannot_tell() -> None:
    summary = summarise(record(*(noisy(1e6, seed) for seed in range(5))))
    assert summary is not None
    assert summary.interval_ns is None
    assert summary.trust == "cannot tell"
    assert "at least 6" in summary.reasons[0]


def test_processes_that_disagree_are_not_trusted() -> None:
    levels = (1e6, 1e6, 1e6, 1.5e6, 1.5e6, 1e6)
    summary = summarise(record(*(noisy(level, seed) for seed, level in enumerate(levels))))
    assert summary is not None
    assert summary.trust == "no"
    assert any("processes disagree" in reason for reason in summary.reasons)


def test_drift_within_processes_is_not_trusted() -> None:
    drifting = [round(1e6 * (1 + i / 1000)) for i in range(200)]
    summary = summarise(record(*[drifting] * 6))
    assert summary is not None
    assert any("not steady" in reason for reason in summary.reasons)


def test_denormal_outputs_are_not_trusted() -> None:
    check = OutputCheck(process=0, finite=True, denormals=3, max_rel_error=0.0, tolerance=1e-4)
    with_check = record(*(noisy(1e6, seed) for seed in range(6)))
    outcome = msgspec.structs.replace(with_check.outcome, checks=(check,))
    summary = summarise(msgspec.structs.replace(with_check, outcome=outcome))
    assert summary is not None
    assert any("denormal" in reason for reason in summary.reasons)


def test_throttling_and_steal_are_not_trusted() -> None:
    quiet = record(*(noisy(1e6, seed) for seed in range(6)))
    before = msgspec.structs.replace(
        quiet.environment.before, unix_ns=0, throttled_ns=5, steal_ns=0, on_battery=False
    )
    after = msgspec.structs.replace(
        before, unix_ns=10**9, throttled_ns=6, steal_ns=10**9, usable_cpus=1
    )
    disturbed = msgspec.structs.replace(
        quiet,
        environment=msgspec.structs.replace(quiet.environment, before=before, after=after),
    )
    summary = summarise(disturbed)
    assert summary is not None
    assert any("throttled" in reason for reason in summary.reasons)
    assert any("hypervisor" in reason for reason in summary.reasons)


def test_an_interrupted_run_is_summarised_but_not_trusted() -> None:
    partial = record(*(noisy(1e6, seed) for seed in range(6)), status="interrupted")
    summary = summarise(partial)
    assert summary is not None
    assert summary.trust == "no"
    assert typical_ns(partial) is None


def test_nothing_timed_has_no_summary() -> None:
    assert summarise(record()) is None
    assert typical_ns(record()) is None


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=40))
def test_interval_covers_at_least_what_it_says(medians: list[int]) -> None:
    interval, confidence = _interval(medians)
    if len(medians) < 6:
        assert interval is None
        return
    assert interval is not None
    assert confidence is not None
    assert confidence >= 0.95
    assert interval[0] <= median(medians) <= interval[1]


def test_interval_coverage_by_simulation() -> None:
    draw = random.Random(1)
    hits = 0
    for _ in range(4000):
        interval, _ = _interval([round(draw.expovariate(1) * 1e6) for _ in range(6)])
        assert interval is not None
        hits += interval[0] <= 0.6931 * 1e6 <= interval[1]
    assert 0.955 < hits / 4000 < 0.98


@given(st.lists(st.integers(1, 100), min_size=1), st.sampled_from([0.1, 0.5, 0.9]))
def test_quantile_has_that_share_at_or_below(values: list[int], q: float) -> None:
    ordered = sorted(values)
    found = _quantile(ordered, q)
    assert sum(v <= found for v in values) >= q * len(values)
    assert sum(v < found for v in values) < q * len(values) or found == ordered[0]


def test_samples_leave_the_warmup_out() -> None:
    assert samples(trace(0, [1, 2, 3])) == [1, 2, 3]
