"""Runs that find their own sizes, on a simulated machine whose clock moves by what is asked for."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest

from latbench.analysis.summary import Summary, summarize
from latbench.events import Events
from latbench.schema.protocol import TimingProtocol
from latbench.schema.protocol_catalog import COMPARE_2, QUICK_2, WARM, WARM_2
from latbench.schema.trace import Trace
from support.simulated import Bench, Machine, SimulatedRun

S = 1_000_000_000
STILL = Machine(noise=0.005, process=0.001, load=0.001)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("jobs"))


def loads_of(run: SimulatedRun) -> list[int]:
    """The loads of each process."""
    return list(Counter(trace.process for trace in run.records[0].outcome.traces).values())


def timed_ms(trace: Trace) -> float:
    return sum(sum(block.sample_ns) for block in trace.blocks) / 1e6


def summary_of(run: SimulatedRun) -> Summary:
    summary = summarize(run.records[0])
    assert summary is not None
    return summary


def with_budget(seconds: float, protocol: TimingProtocol = WARM_2) -> TimingProtocol:
    return msgspec.structs.replace(protocol, budget_ns=round(seconds * S))


def test_what_varies_and_what_it_costs_sets_the_sizes(bench: Bench) -> None:
    """Loads that vary and cost little are repeated; where processes vary, more are started."""
    loads = bench.run(Machine(load=0.012, process=0.001, start_ms=600, load_ms=5), WARM_2, 1)
    processes = bench.run(Machine(load=0.001, process=0.015, start_ms=20, load_ms=200), WARM_2, 1)
    assert max(loads_of(loads)[3:]) >= 4
    assert set(loads_of(processes)[3:]) == {2}
    assert len(loads_of(processes)) > len(loads_of(loads))
    for run in (loads, processes):
        assert run.records[0].outcome.stopped == "precise"
        assert run.wall_ms < 60_000


def test_a_still_machine_takes_the_fewest_processes_and_less_time_than_before(
    bench: Bench,
) -> None:
    new, old = (bench.run(STILL, protocol, 3) for protocol in (WARM_2, WARM))
    assert len(loads_of(new)) == len(loads_of(old)) == 6
    assert new.wall_ms < 0.95 * old.wall_ms
    summary = summary_of(new)
    assert (summary.reliability, summary.reached) == ("reliable", True)
    first, *later = new.records[0].outcome.traces
    assert timed_ms(first) > 900  # the first load is long enough to see a burst
    assert max(timed_ms(trace) for trace in later) < 600


def test_what_it_will_take_is_said_after_the_first_process(bench: Bench) -> None:
    said: list[tuple[int, str]] = []
    ended: list[int] = []
    events = Events(
        traces=lambda parts: ended.append(len(parts)),
        expected=lambda text: said.append((len(ended), text)),
    )
    run = bench.run(STILL, WARM_2, 3, events=events)
    ((after, text),) = said
    assert after == 1
    seconds = int(text.split(" s:")[0].split()[-1])
    assert 0.8 * run.wall_ms < 1000 * seconds < 1.25 * run.wall_ms
    assert text.startswith("±1% will take about")


def test_a_target_out_of_reach_is_told_early_with_what_is_within(bench: Bench) -> None:
    warned: list[tuple[int, str]] = []
    ended: list[int] = []
    events = Events(
        traces=lambda parts: ended.append(len(parts)),
        warn=lambda text: warned.append((len(ended), text)),
    )
    protocol = msgspec.structs.replace(with_budget(30), target_ppm=1000)
    run = bench.run(Machine(process=0.02), protocol, 1, events=events)
    ((after, text),) = warned
    assert after < 6
    assert "±0.1% would take about" in text
    assert "--budget" in text
    assert run.records[0].outcome.stopped == "budget"
    assert run.wall_ms < 1.1 * 30_000


@pytest.mark.parametrize("budget_s", [8, 10, 25, 60])
@pytest.mark.parametrize("start_ms", [120, 2000])
def test_a_slow_start_costs_processes_and_no_warm_up(
    bench: Bench, start_ms: int, budget_s: int
) -> None:
    machine = Machine(start_ms=start_ms, warmup=40, noise=0.01)
    run = bench.run(machine, with_budget(budget_s), 5)
    assert run.wall_ms < 1.1 * 1000 * budget_s
    traces = run.records[0].outcome.traces
    assert min(len(trace.warmup_ns) for trace in traces) >= 25
    summary = summary_of(run)
    assert summary.median_ns == pytest.approx(8e6, rel=0.02)
    if start_ms == 2000 and budget_s <= 10:
        fit = summary.processes
        assert 1 <= fit < 6
        assert summary.reliability == "inconclusive"
        (reason,) = summary.reasons
        assert f"{fit} of 6 processes fit the budget of {budget_s} s; use --budget " in reason
        advised = bench.run(machine, with_budget(int(reason.split()[-1])), 5)
        assert summary_of(advised).processes >= 6


def test_one_process_is_timed_whatever_the_budget(bench: Bench) -> None:
    for machine in (Machine(start_ms=3000), Machine(typical_ms=20_000, warmup=0)):
        run = bench.run(machine, with_budget(2), 1)
        assert run.records[0].outcome.stopped == "budget"
        summary = summary_of(run)
        assert summary.processes == 1
        assert "1 of 6 processes fit the budget of 2 s; use --budget " in summary.reasons[0]
    # A first inference, a warm-up call and one that counts.
    assert run.wall_ms < 4 * 1.5 * 20_000


def test_a_slow_model_keeps_its_processes(bench: Bench) -> None:
    run = bench.run(Machine(typical_ms=700, warmup=0), WARM_2, 1)
    assert len(loads_of(run)) >= 6
    assert run.wall_ms < 66_000


@pytest.mark.parametrize(
    ("machine", "loads", "why"),
    [
        ({"fails_at_load": 1}, 1, "load 2 of a process failed: the runtime is a singleton"),
        ({"fails_at_load": 3}, 3, "load 4 of a process failed: the runtime is a singleton"),
        ({"kept_mb": 60}, 3, "each load keeps 60 MB more"),
    ],
)
def test_a_runtime_that_cannot_load_again_is_loaded_less_and_told(
    bench: Bench, machine: dict[str, Any], loads: int, why: str
) -> None:
    warned: list[str] = []
    run = bench.run(Machine(load=0.01, **machine), WARM_2, 2, events=Events(warn=warned.append))
    outcome = run.records[0].outcome
    assert (outcome.status, outcome.failure) == ("measured", None)
    assert max(loads_of(run)) == loads
    times = "once" if loads == 1 else f"{loads} times"
    assert outcome.loads_limited == f"the model is loaded {times} in each process: {why}"
    assert warned[0] == outcome.loads_limited
    assert summary_of(run).processes >= 6


def test_a_burst_over_several_loads_does_not_pass_for_steady(bench: Bench) -> None:
    """Half a second in which a phone is a third faster, at the start of each process."""
    burst = Machine(burst=0.3, burst_ms=1200, noise=0.01, load_ms=5, start_ms=60, awake_ms=10)
    summary = summary_of(bench.run(burst, WARM_2, 1))
    assert summary.reliability == "unreliable" or summary.median_ns > 0.98 * 8e6
    told = " ".join(summary.reasons)
    assert "later loads are slower than the first ones" in told or "burst" in {
        regime.name for regime in summary.regimes
    }


def test_a_burst_in_each_load_makes_the_loads_longer(bench: Bench) -> None:
    machine = Machine(burst=0.3, burst_ms=400, burst_each_load=True, noise=0.01)
    run = bench.run(machine, WARM_2, 1)
    later = [trace for trace in run.records[0].outcome.traces if trace.process]
    assert min(timed_ms(trace) for trace in later) > 2 * 400


@pytest.mark.parametrize("protocol", [QUICK_2, COMPARE_2], ids=lambda protocol: protocol.label)
def test_the_other_two_load_the_model_again_too(bench: Bench, protocol: TimingProtocol) -> None:
    other = 1.05 if protocol is COMPARE_2 else None
    run = bench.run(STILL, protocol, 1, other=other)
    assert {record.outcome.status for record in run.records} == {"measured"}
    assert min(loads_of(run)) >= 2
    if other is not None:
        loads = [
            [(trace.process, trace.session) for trace in record.outcome.traces]
            for record in run.records
        ]
        assert loads[0] == loads[1]


def test_the_sentinel_takes_the_share_that_its_noise_asks_for(bench: Bench) -> None:
    """One call beside a model whose rounds vary for other reasons."""
    noisy = bench.run(Machine(common=0.3, noise=0.002), WARM_2, 1)
    calls = [
        len(block.sample_ns) - block.settle_calls
        for trace in noisy.records[0].outcome.sentinel
        if trace.process > 1
        for block in trace.blocks
    ]
    assert max(calls) <= 2
