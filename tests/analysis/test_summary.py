"""The summary of records whose truth is known."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latbench.analysis.estimators import run_is_precise, typical_ns
from latbench.analysis.reliability import unverified
from latbench.analysis.segments import samples
from latbench.analysis.summary import summarize
from latbench.audit.pareto import measured_of
from latbench.report import tables
from latbench.report.text.table import latency
from latbench.schema.artifact import TensorSpec
from latbench.schema.protocol import Statistic, TimingProtocol
from latbench.schema.protocol_catalog import SHIPPED, WARM
from latbench.schema.protocol_options import named_protocol
from latbench.schema.record import Record, Sentinel
from latbench.schema.trace import (
    Block,
    OutputCheck,
    Readings,
    Trace,
)
from support.records import make_record, make_trace


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
    summary = summarize(record(*(noisy(1e6, seed) for seed in range(6))))
    assert summary is not None
    assert (summary.reliability, summary.reasons) == ("reliable", ())
    assert summary.processes == 6
    assert 1190 <= summary.samples <= 1200
    assert (summary.confidence, summary.interval_level) == (0.95, "processes")
    low, high = summary.interval_ns or (0, 0)
    assert min(summary.process_median_ns) <= low <= summary.median_ns <= high
    assert high <= max(summary.process_median_ns)
    assert summary.best_case_ns < summary.median_ns
    assert all(0 <= (calls or 0) <= 3 for calls in summary.warmup_calls)
    assert [regime.name for regime in summary.regimes] == ["cold", "steady"]
    assert summary.load_ns == 5_000_000
    assert summary.first_ns == 9_000_000


def test_five_processes_cannot_tell() -> None:
    summary = summarize(record(*(noisy(1e6, seed) for seed in range(5))))
    assert summary is not None
    assert summary.interval_ns is not None  # as if the processes' logs were normal
    assert summary.reliability == "inconclusive"
    assert "at least 6" in summary.reasons[0]


def test_processes_that_disagree_are_not_trusted() -> None:
    levels = (1e6, 1e6, 1e6, 1.5e6, 1.5e6, 1e6)
    summary = summarize(record(*(noisy(level, seed) for seed, level in enumerate(levels))))
    assert summary is not None
    assert summary.reliability == "unreliable"
    assert any("processes disagree" in reason for reason in summary.reasons)


def test_drift_within_processes_is_not_trusted() -> None:
    drifting = [round(1e6 * (1 + i / 1000)) for i in range(200)]
    summary = summarize(record(*[drifting] * 6))
    assert summary is not None
    assert any("not steady" in reason for reason in summary.reasons)


def test_denormal_outputs_are_not_trusted() -> None:
    check = OutputCheck(process=0, finite=True, denormals=3, max_rel_error=0.0, tolerance=1e-4)
    with_check = record(*(noisy(1e6, seed) for seed in range(6)))
    outcome = msgspec.structs.replace(with_check.outcome, checks=(check,))
    summary = summarize(msgspec.structs.replace(with_check, outcome=outcome))
    assert summary is not None
    assert any("denormal" in reason for reason in summary.reasons)


def test_a_file_that_was_not_executed_counts_if_the_timed_session_was_compared() -> None:
    found = make_record()
    assert found.artifact is not None
    artifact = msgspec.structs.replace(
        found.artifact, parity=None, details={"not_executed": "no kernel for 1 gelu"}
    )
    found = msgspec.structs.replace(found, artifact=artifact)
    assert unverified(found) == ()
    outcome = msgspec.structs.replace(found.outcome, checks=())
    (reason,) = unverified(msgspec.structs.replace(found, outcome=outcome))
    assert "1 gelu" in reason


def test_throttling_and_steal_are_named_before_what_they_cause() -> None:
    levels = (1e6, 1e6, 1e6, 1.5e6, 1.5e6, 1e6)
    quiet = record(*(noisy(level, seed) for seed, level in enumerate(levels)))
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
    summary = summarize(disturbed)
    assert summary is not None
    assert "throttled" in summary.reasons[0]
    assert "hypervisor" in summary.reasons[1]
    assert "processes disagree" in summary.reasons[2]


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ({}, {"battery_percent": 4, "on_battery": True}, "at the end of the run: on battery, at 4"),
        ({"low_power_mode": True}, {}, "power saving is on"),
        ({"battery_percent": 90, "charging": True}, {"battery_percent": 91}, None),
    ],
)
def test_a_phone_that_runs_empty(
    before: dict[str, object], after: dict[str, object], reason: str | None
) -> None:
    """Also if that happened while it was measured."""
    quiet = record(*(noisy(1e6, seed) for seed in range(6)))
    usual = msgspec.structs.replace(quiet.environment.before, on_battery=False)
    environment = msgspec.structs.replace(
        quiet.environment,
        before=msgspec.structs.replace(usual, **before),
        after=msgspec.structs.replace(usual, **after),
    )
    summary = summarize(msgspec.structs.replace(quiet, environment=environment))
    assert summary is not None
    found = [text for text in summary.reasons if "power" in text or "battery" in text]
    assert found == [] if reason is None else found[0].startswith(reason)


def test_an_interrupted_run_is_summarised_but_not_trusted() -> None:
    partial = record(*(noisy(1e6, seed) for seed in range(6)), status="interrupted")
    summary = summarize(partial)
    assert summary is not None
    assert summary.reliability == "unreliable"
    assert typical_ns(partial) is None


def test_nothing_timed_has_no_summary() -> None:
    assert summarize(record()) is None
    assert typical_ns(record()) is None


def test_samples_leave_the_warmup_out() -> None:
    assert samples(trace(0, [1, 2, 3])) == [1, 2, 3]


def blocks(*parts: list[int], **fields: object) -> tuple[Block, ...]:
    return tuple(
        Block(start_ns=i * 10**9, sample_ns=tuple(part), **fields)  # type: ignore[arg-type]
        for i, part in enumerate(parts)
    )


def with_traces(traces: list[Trace], **changes: object) -> Record:
    base = record()
    outcome = msgspec.structs.replace(base.outcome, traces=tuple(traces))
    return msgspec.structs.replace(base, outcome=outcome, **changes)


def session(process: int, parts: tuple[Block, ...], warmup: tuple[int, ...] = ()) -> Trace:
    return msgspec.structs.replace(trace(process, []), blocks=parts, warmup_ns=warmup)


def test_warmup_that_goes_on_into_the_samples_is_left_out() -> None:
    slow = [2_000_000] * 30
    summary = summarize(record(*(slow + noisy(1e6, seed) for seed in range(6))))
    assert summary is not None
    # With the one warm-up call of the trace, which was slow as well.
    assert all(31 <= (calls or 0) <= 34 for calls in summary.warmup_calls)
    assert 6 * 197 <= summary.samples <= 6 * 200
    assert summary.median_ns == pytest.approx(1e6, rel=0.005)


def test_settling_calls_are_not_counted() -> None:
    parts = blocks(*([9_000_000, *noisy(1e6, i, 20)] for i in range(5)), settle_calls=1)
    summary = summarize(with_traces([session(process, parts) for process in range(6)]))
    assert summary is not None
    assert summary.samples == 600
    assert summary.p90_ns < 1_100_000


def test_a_change_of_level_is_found_and_shown_as_regimes() -> None:
    """The phone of the first claim: fast for a while, then slow for good."""
    runs = [noisy(5e5, seed, 100) + noisy(1.2e6, seed + 50, 300) for seed in range(6)]
    summary = summarize(record(*runs))
    assert summary is not None
    names = {regime.name: regime.median_ns for regime in summary.regimes}
    assert set(names) == {"cold", "burst", "steady"}
    assert names["burst"] == pytest.approx(5e5, rel=0.02)
    assert names["steady"] == pytest.approx(1.2e6, rel=0.02)
    assert summary.reliability == "unreliable"
    assert "two levels: 6 of 6 sessions began faster than they went on" in summary.reasons
    assert any("--warmup" in advice for advice in summary.advice)
    assert all(len(starts) == 2 for starts in summary.level_starts)


def test_a_burst_in_the_warm_up_is_shown_and_spoils_nothing() -> None:
    """Whether it is a short part of the samples or a long one."""
    for fast in (30, 150):
        traces = []
        for process in range(6):
            beginning = noisy(5e5, process, fast) + noisy(1.2e6, process + 50, fast // 2)
            trace = make_trace(process, noisy(1.2e6, process + 70, 300))
            traces.append(msgspec.structs.replace(trace, warmup_ns=tuple(beginning)))
        summary = summarize(with_traces(traces))
        assert summary is not None
        names = {regime.name: regime for regime in summary.regimes}
        assert names["burst"].processes == 6
        assert names["burst"].median_ns == pytest.approx(5e5, rel=0.02)
        assert names["steady"].median_ns == pytest.approx(1.2e6, rel=0.02)
        assert summary.reliability == "reliable", summary.reasons


def test_a_process_that_never_gets_steady_says_so() -> None:
    falling = [round(3e6 - 7e3 * i) for i in range(300)]
    summary = summarize(record(*[falling] * 6))
    assert summary is not None
    assert summary.warmup_calls == (None,) * 6
    assert any("no steady state" in reason for reason in summary.reasons)
    assert (
        "changing" in {regime.name for regime in summary.regimes}
        or summary.reliability == "unreliable"
    )


def test_a_machine_that_drifts_over_the_run_is_not_trusted() -> None:
    drifting = (noisy(1e6 * (1 + 0.02 * i), i) for i in range(8))
    summary = summarize(record(*drifting))
    assert summary is not None
    assert any("machine drifted" in reason for reason in summary.reasons)


def readings(**changes: int | None) -> Readings:
    quiet = dict.fromkeys(Readings.__struct_fields__) | {
        "wall_ns": 20_000_000,
        "cpu_ns": 20_000_000,
        "wait_ns": 0,
        "involuntary_switches": 0,
        "others_ns": 0,
        "steal_ns": 0,
        "throttled_ns": 0,
    }
    return Readings(**{**quiet, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"wait_ns": 1_000_000}, "waited for a CPU"),
        ({"wait_ns": None, "involuntary_switches": 5}, "was switched out"),
        ({"steal_ns": 20_000_000}, "the hypervisor took CPU time"),
        ({"throttled_ns": 1}, "the CPU quota throttled it"),
        ({"others_ns": 40_000_000}, "others used the CPUs"),
        ({"frequency_khz": 1_000_000}, "the CPUs were clocked down"),
        ({"throttle_events": 1}, "the device throttled itself"),
        ({"throttle_ms": 1}, "the device throttled itself"),
        ({"cooling_state": 1}, "the device throttled itself"),
        ({"throttle_flags": 4}, "the device throttled itself"),
        ({"thermal_status": "light"}, "the device throttled itself"),
        ({"thermal_status": "serious"}, "the device throttled itself"),
        ({"throttle_flags": 1}, "the supply voltage was too low"),
    ],
)
def test_disturbed_blocks_are_marked_and_told_apart(
    change: dict[str, int | str | None], reason: str
) -> None:
    def parts(process: int) -> tuple[Block, ...]:
        quiet = [noisy(1e6, process * 10 + i, 20) for i in range(9)]
        usual = {"frequency_khz": 2_000_000} if "frequency_khz" in change else {}
        return (
            *blocks(*quiet, readings=readings(**usual)),
            Block(
                start_ns=10**10, sample_ns=(2_000_000,) * 20, readings=readings(**(usual | change))
            ),
        )

    summary = summarize(with_traces([session(process, parts(process)) for process in range(6)]))
    assert summary is not None
    assert (summary.blocks, summary.disturbed_blocks) == (60, 6)
    assert summary.disturbances == {reason: 6}
    assert summary.quiet_median_ns is not None
    assert summary.quiet_median_ns < summary.median_ns
    assert summary.samples == 1200  # nothing is dropped


@pytest.mark.parametrize(
    ("change", "reason", "advice"),
    [
        ({"cooling_state": 2}, "throttling", "better cooling"),
        ({"throttle_flags": 1}, "under-voltage", "a stronger power supply"),
    ],
)
def test_what_throttles_itself_is_not_reliable(
    change: dict[str, int | None], reason: str, advice: str
) -> None:
    parts = blocks(*[noisy(1e6, 1, 20)] * 4, readings=readings(**change))
    summary = summarize(with_traces([session(process, parts) for process in range(6)]))
    assert summary is not None
    assert summary.reliability == "unreliable"
    assert f"24 of 24 blocks disturbed ({reason})" in summary.reasons
    assert any(text.startswith(advice) for text in summary.advice)


def test_nothing_told_but_zero_marks_nothing() -> None:
    told = dict.fromkeys(("throttle_events", "throttle_ms", "throttle_flags", "cooling_state"), 0)
    parts = blocks(*[noisy(1e6, 1, 20)] * 4, readings=readings(**told))
    summary = summarize(with_traces([session(process, parts) for process in range(6)]))
    assert summary is not None
    assert summary.disturbed_blocks == 0


@pytest.mark.parametrize(
    ("on_battery", "percent", "reason"),
    [
        (True, None, "on battery"),
        (True, 57, "on battery, at 57 %"),
        (False, 19, "the battery is at 19 %"),
        (False, 20, None),
        (None, None, None),
    ],
)
def test_a_battery_is_a_reason(
    on_battery: bool | None, percent: int | None, reason: str | None
) -> None:
    record = with_traces([session(i, blocks(noisy(1e6, i, 40))) for i in range(6)])
    before = msgspec.structs.replace(
        record.environment.before, on_battery=on_battery, battery_percent=percent
    )
    environment = msgspec.structs.replace(record.environment, before=before)
    summary = summarize(msgspec.structs.replace(record, environment=environment))
    assert summary is not None
    assert [each for each in summary.reasons if "battery" in each] == ([reason] if reason else [])


def test_readings_that_vanish_in_mid_run_mark_nothing() -> None:
    parts = (
        *blocks(noisy(1e6, 1, 20), readings=readings()),
        *blocks(noisy(1e6, 2, 20), readings=None),
        *blocks(noisy(1e6, 3, 20), readings=readings(wait_ns=None, others_ns=None, cpu_ns=None)),
    )
    summary = summarize(with_traces([session(process, parts) for process in range(6)]))
    assert summary is not None
    assert summary.disturbed_blocks == 0
    assert summary.quiet_median_ns == summary.median_ns


def beside_sentinel(factor: float, slow_block: bool = False) -> Record:
    """Six processes of a machine that is ``factor`` faster in the last than in the first."""
    speeds = [factor ** (i / 5) for i in range(6)]
    model = [session(i, blocks(*[noisy(1e7 * v, i, 40)] * 5)) for i, v in enumerate(speeds)]
    sentinel = [
        session(
            i,
            blocks(
                *[noisy(1e6 * v * (2 if slow_block and k == 4 else 1), i, 40) for k in range(5)]
            ),
        )
        for i, v in enumerate(speeds)
    ]
    base = with_traces(model, sentinel=Sentinel(name="s@1", sha256="00"))
    outcome = msgspec.structs.replace(base.outcome, sentinel=tuple(sentinel))
    return msgspec.structs.replace(base, outcome=outcome)


def test_the_ratio_to_the_sentinel_does_not_move_with_the_machine() -> None:
    summary = summarize(beside_sentinel(1.3))
    assert summary is not None
    assert summary.normalized is not None
    assert summary.normalized.ratio == pytest.approx(10, rel=0.01)
    low, high = summary.normalized.interval or (0, 0)
    assert high / low < 1.02
    assert summary.interval_ns is not None
    assert summary.interval_ns[1] / summary.interval_ns[0] > 1.2
    assert summary.normalized.drift == pytest.approx(0.2, abs=0.08)


def test_blocks_beside_a_slow_sentinel_are_disturbed() -> None:
    summary = summarize(beside_sentinel(1.0, slow_block=True))
    assert summary is not None
    assert summary.disturbances == {"the sentinel was slow": 6}


def test_percentiles_only_where_the_samples_support_them() -> None:
    def shown(n: int) -> set[int]:
        summary = summarize(record(*(noisy(1e6, seed, n) for seed in range(6))))
        assert summary is not None
        for percentile in summary.percentiles:
            low, high = percentile.interval_ns
            assert low <= percentile.value_ns <= high
        return {percentile.quantile_milli for percentile in summary.percentiles}

    assert shown(4) <= {900}
    assert 990 not in shown(50)
    assert {900, 950, 990} <= shown(400)
    assert 999 not in shown(400)


@pytest.mark.parametrize(
    ("statistic", "expected", "unit"),
    [
        (Statistic(kind="mean"), 3e6, "ns"),
        (Statistic(kind="mean", trim_low=1, trim_high=1), 2e6, "ns"),
        (Statistic(kind="quantile", quantile_milli=900), 9e6, "ns"),
        (Statistic(kind="quantile", quantile_milli=500), 2e6, "ns"),
        (Statistic(kind="throughput"), 1e9 / 3e6, "images/s"),
        (Statistic(kind="median"), 2e6, "ns"),
        (Statistic(kind="cold"), 14e6, "ns"),
    ],
)
def test_the_protocols_own_statistic(statistic: Statistic, expected: float, unit: str) -> None:
    values = [1_000_000, 2_000_000, 2_000_000, 2_000_000, 2_000_000, 9_000_000]
    base = record(values, values)
    protocol = msgspec.structs.replace(base.protocol, statistic=statistic)
    summary = summarize(msgspec.structs.replace(base, protocol=protocol))
    assert summary is not None
    assert summary.reported.value == pytest.approx(expected)
    assert summary.reported.unit == unit


def test_a_target_is_reached_or_not() -> None:
    quiet = record(*(noisy(1e6, seed) for seed in range(6)))
    wild = record(*(noisy(1e6 * (1 + seed / 50), seed) for seed in range(6)))
    for base, reached in ((quiet, True), (wild, False)):
        summary = summarize(msgspec.structs.replace(base, protocol=WARM))
        assert summary is not None
        assert (summary.target, summary.reached) == (0.01, reached)
        assert run_is_precise(base.outcome.traces, 0.01) is reached
        plain = summarize(base)
        assert plain is not None
        assert plain.reached is None


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(-(2**62), 2**62), max_size=60), max_size=8),
    st.sampled_from(SHIPPED),
    st.sampled_from([0, 1, 3]),
)
def test_no_trace_is_too_bad_to_be_told_of(processes, protocol, settle) -> None:  # type: ignore[no-untyped-def]
    """Empty, of one sample, constant, zero, negative, near overflow: an answer, never a crash."""
    traces = [
        session(i, blocks(values, values[:5], settle_calls=min(settle, len(values[:5]))))
        for i, values in enumerate(processes)
    ]
    bad = with_traces(traces, protocol=protocol)
    summary = summarize(bad)
    if summary is not None:
        assert summary.reliability in ("reliable", "unreliable", "inconclusive")
        if any(ns < 0 for trace in traces for block in trace.blocks for ns in block.sample_ns):
            assert "the clock went backwards" in summary.reasons
    typical_ns(bad)


def test_zero_times_and_a_clock_that_went_backwards_are_told() -> None:
    zero = summarize(record(*[[0] * 50] * 6))
    assert zero is not None
    assert any("too coarse" in reason for reason in zero.reasons)
    back = session(0, (*blocks([5, 5]), *blocks([5, 5])))
    back = msgspec.structs.replace(back, blocks=tuple(reversed(blocks([5, 5], [5, 5]))))
    summary = summarize(with_traces([back]))
    assert summary is not None
    assert "the clock went backwards" in summary.reasons


@pytest.mark.parametrize(
    "change",
    [
        {"steal_ns": 10_000_000},  # one tick says nothing of 50 ms
        {"others_ns": 20_000_000},  # one of two CPUs, and the worker has one thread
    ],
)
def test_what_takes_nothing_away_is_no_disturbance(change: dict[str, int]) -> None:
    parts = blocks(*([noisy(1e6, 1, 20)] * 5), readings=readings(**change))
    summary = summarize(with_traces([session(process, parts) for process in range(6)]))
    assert summary is not None
    assert summary.disturbed_blocks == 0


def test_busy_neighbours_of_a_large_machine_are_none() -> None:
    """Two CPUs of 64 may be used, ten of the others are busy."""
    base = with_traces(
        [
            session(i, blocks(*([noisy(1e6, i, 20)] * 5), readings=readings(others_ns=200_000_000)))
            for i in range(6)
        ]
    )
    machine = msgspec.structs.replace(base.environment.machine, logical_cpus=64)
    environment = msgspec.structs.replace(base.environment, machine=machine)
    summary = summarize(msgspec.structs.replace(base, environment=environment))
    assert summary is not None
    assert summary.disturbed_blocks == 0


@pytest.mark.parametrize("n", [17, 25, 40, 47])
def test_a_change_of_level_is_seen_in_short_sessions_too(n: int) -> None:
    runs = [noisy(1e6, i, n // 2) + noisy(1.3e6, i + 9, n - n // 2) for i in range(6)]
    summary = summarize(record(*runs))
    assert summary is not None
    assert summary.reliability == "unreliable"


def test_samples_too_few_to_look_at_are_not_trusted() -> None:
    summary = summarize(record(*(noisy(1e6, i, 12) for i in range(6))))
    assert summary is not None
    assert summary.reliability == "inconclusive"
    assert "too few samples" in summary.reasons[0]


def test_a_warm_up_that_is_half_of_the_run_is_not_trusted() -> None:
    runs = [noisy(1.1e6, i, 190) + noisy(1e6, i + 9, 210) for i in range(6)]
    summary = summarize(record(*runs))
    assert summary is not None
    assert summary.reliability == "unreliable"
    assert "warm-up is over a third" in summary.reasons[0]


def test_a_sustained_run_reports_its_last_level() -> None:
    base = record([1_000_000_000] * 60 + [2_000_000_000] * 40)
    protocol = next(p for p in SHIPPED if p.name == "sustained")
    summary = summarize(msgspec.structs.replace(base, protocol=protocol))
    assert summary is not None
    assert summary.reported.value == 2e9
    names = {regime.name: regime.median_ns for regime in summary.regimes}
    assert names["sustained"] == 2_000_000_000
    assert names["burst"] == 1_000_000_000


def test_a_throughput_without_a_batch_axis_counts_one() -> None:
    base = record([1_000_000] * 50)
    protocol = next(p for p in SHIPPED if p.name == "levit-throughput")
    for inputs in ((), (TensorSpec(name="x", shape=(), dtype="float32"),)):
        artifact = msgspec.structs.replace(make_record().artifact, inputs=inputs)
        summary = summarize(msgspec.structs.replace(base, protocol=protocol, artifact=artifact))
        assert summary is not None
        assert summary.reported.value == pytest.approx(1000)


def test_unknown_throttling_is_no_throttling() -> None:
    quiet = record(*(noisy(1e6, seed) for seed in range(6)))
    before = msgspec.structs.replace(quiet.environment.before, throttled_ns=None)
    after = msgspec.structs.replace(before, unix_ns=before.unix_ns + 10**9, throttled_ns=5)
    environment = msgspec.structs.replace(quiet.environment, before=before, after=after)
    summary = summarize(msgspec.structs.replace(quiet, environment=environment))
    assert summary is not None
    assert summary.reliability == "reliable"


def test_many_processes_are_summarised() -> None:
    summary = summarize(record(*(noisy(1e6, seed, 20) for seed in range(1100))))
    assert summary is not None
    assert summary.interval_ns is not None


def test_one_process_has_an_interval_within_it_and_no_trust() -> None:
    summary = summarize(record(noisy(1e6, 1, 400)))
    assert summary is not None
    assert summary.interval_level == "within"
    assert summary.interval_ns is not None
    assert summary.reliability == "inconclusive"


def test_a_clock_of_coarse_steps_is_told() -> None:
    stepped = [[round(value / 1e5) * 100_000 for value in noisy(1.04e6, i)] for i in range(6)]
    stepped[0][50] = 1_100_000
    summary = summarize(record(*stepped))
    assert summary is not None
    assert summary.reliability == "unreliable"
    assert any("the clock's steps are 10% of the latency" in why for why in summary.reasons)


def test_trust_is_in_the_number_that_the_protocol_reports() -> None:
    """Medians that agree say nothing of means that do not."""
    steady = [noisy(1e6, i, 200) for i in range(6)]
    protocol = named_protocol("timm@1")
    trusted = summarize(msgspec.structs.replace(record(*steady), protocol=protocol))
    assert trusted is not None
    assert trusted.reliability == "reliable"
    slow = [[*part[:-10], *(8 * ns * i for ns in part[-10:])] for i, part in enumerate(steady, 1)]
    summary = summarize(msgspec.structs.replace(record(*slow), protocol=protocol))
    assert summary is not None
    assert summary.reliability == "unreliable"
    assert any("processes disagree" in why for why in summary.reasons)


@pytest.mark.parametrize(
    ("loads", "first", "why"),
    [((80, 400), 10, "two groups"), ((80, 81), 0, "took no time")],
)
def test_trust_in_cold_starts(loads: tuple[int, int], first: int, why: str) -> None:
    traces = [
        Trace(
            process=i,
            load_ns=loads[i % 2] * 1_000_000 + 1000 * i,
            first_ns=first * 1_000_000 + (1000 * i if first else 0),
            warmup_ns=(),
            blocks=(),
            peak_rss_bytes=None,
        )
        for i in range(10)
    ]
    cold = named_protocol("cold-start@1")
    summary = summarize(msgspec.structs.replace(make_record(traces=traces), protocol=cold))
    assert summary is not None
    assert summary.reliability == "unreliable"
    assert any(why in reason for reason in summary.reasons), summary.reasons


def test_nothing_is_not_precise() -> None:
    assert not run_is_precise((), 0.01)


def test_of_two_processes_that_differ_the_interval_holds_both() -> None:
    summary = summarize(record(noisy(1e6, 1, 400), noisy(2e6, 2, 200)))
    assert summary is not None
    assert summary.interval_level == "within"
    for value, interval in (
        (summary.median_ns, summary.interval_ns),
        (summary.best_case_ns, summary.best_case_interval_ns),
    ):
        assert interval is None or interval[0] <= value <= interval[1]
    assert summary.interval_ns is not None


def test_a_phone_that_is_fast_for_a_moment_is_said_to_burst() -> None:
    """The burst reaches from the warm-up phase into the first blocks."""
    processes = [noisy(0.55e6, i, 40) + noisy(1.2e6, i, 700) for i in range(6)]
    summary = summarize(record(*processes))
    assert summary is not None
    assert {regime.name: regime.processes for regime in summary.regimes}["burst"] == 6
    assert summary.median_ns == pytest.approx(1.2e6, rel=0.01)


def test_the_medians_of_levels_are_told() -> None:
    up = [noisy(1e6, i, 150) + noisy(1.2e6, i, 150) for i in range(6)]
    summary = summarize(record(*up))
    assert summary is not None
    for levels in summary.level_ns:
        assert levels == (pytest.approx(1e6, rel=0.02), pytest.approx(1.2e6, rel=0.02))


def test_first_inferences_alone_are_not_warm() -> None:
    cold = record(*([],) * 6)
    cold = msgspec.structs.replace(
        cold,
        protocol=named_protocol("cold-start@1"),
        outcome=msgspec.structs.replace(
            cold.outcome,
            traces=tuple(msgspec.structs.replace(t, blocks=()) for t in cold.outcome.traces),
        ),
    )
    summary = summarize(cold)
    assert summary is not None
    assert not summary.warm
    row = tables.row(cold, summary)
    assert (row.median_ns, row.best_case_ns, row.protocol) == (None, None, "cold-start@1")
    assert row.reported == 14_000_000
    assert latency(row) == "median of load and first inference 14.0 ms"
    assert measured_of(cold) is None
    warm = summarize(record(noisy(1e6, 1)))
    assert warm is not None
    assert warm.warm


def test_a_process_that_never_got_warm_does_not_count() -> None:
    """Six processes of which the budget left one cold call each were "17 us, 95 % CI 16 to 19"."""
    budget = msgspec.structs.replace(named_protocol("latbench-quick@1"), budget_ns=1_000_000_000)
    warm, cold = [noisy(2e5, seed, 40) for seed in range(4)], [[1_700_000]] * 6
    summary = summarize(under(budget, *warm, *cold))
    assert summary is not None
    assert (summary.median_ns, summary.processes) == (pytest.approx(2e5, rel=0.01), 4)
    assert summary.reliability == "inconclusive"
    assert "4 of 6 processes fit the budget of 1 s" in summary.reasons[0]
    assert summary.advice == ("a larger --budget",)
    assert summarize(under(budget, *cold)) is None
    assert typical_ns(under(budget, *cold)) is None
    # All the calls that the protocol wants, however few, and slow calls, are not cold.
    few = msgspec.structs.replace(budget, min_calls=1, min_ns=0)
    assert summarize(under(few, *cold)) is not None
    assert summarize(under(budget, *[[60_000_000]] * 6)) is not None


def under(protocol: TimingProtocol, *processes: list[int]) -> Record:
    return msgspec.structs.replace(record(*processes), protocol=protocol)
