"""Executing a protocol with real workers on the fake backend: what is asked for, how often."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import monotonic, sleep
from typing import Any

import msgspec
import numpy as np
import pytest

from latbench.analysis.segments import is_cold, samples
from latbench.bench.executor import ProtocolExecutor, Schedule
from latbench.bench.job import Job, JobRun
from latbench.devices.local import LocalDevice
from latbench.errors import StageError
from latbench.events import SILENT, Events
from latbench.schema.protocol import TimingProtocol, calls_that_fit
from latbench.schema.protocol_catalog import FIXED
from latbench.schema.protocol_options import named_protocol
from latbench.schema.record import Outcome
from latbench.schema.trace import Trace
from latbench.worker import messages
from latbench.worker.client import WorkerClient
from support.bench import fake_job

MS = 1_000_000
SMALL = msgspec.structs.replace(
    FIXED, processes=2, max_processes=2, warmup_calls=4, min_calls=15, block_calls=5
)


def execute(
    folder: Path, latency_ns: int, protocol: TimingProtocol = SMALL, **changes: object
) -> tuple[Outcome, list[tuple[int, int]]]:
    progress: list[tuple[int, int]] = []
    schedule = Schedule(protocol=msgspec.structs.replace(protocol, **changes), timeout_s=60)
    execution = ProtocolExecutor(
        [fake_job(folder, latency_ns)],
        schedule,
        LocalDevice(),
        Events(progress=lambda done, total: progress.append((done, total))),
    )
    (outcome,) = execution.run()
    return outcome, progress


def test_all_that_is_asked_for_and_nothing_more(tmp_path: Path) -> None:
    outcome, progress = execute(tmp_path, 3 * MS)
    assert outcome.status == "measured"
    assert [trace.process for trace in outcome.traces] == [0, 1]
    for trace in outcome.traces:
        assert trace.first_ns == 3 * MS
        assert trace.warmup_ns == (3 * MS,) * 4
        assert [block.sample_ns for block in trace.blocks] == [(3 * MS,) * 5] * 3
        assert trace.peak_rss_bytes is None or trace.peak_rss_bytes > 10**6
    assert progress == [(i, 6) for i in range(1, 7)]
    assert [check.max_rel_error for check in outcome.checks] == [0, 0]


def test_a_slow_model_gets_fewer_calls_not_an_hour(tmp_path: Path) -> None:
    outcome, _ = execute(tmp_path, 100 * MS, warmup_limit_ns=250 * MS, max_ns=800 * MS)
    for trace in outcome.traces:
        assert len(trace.warmup_ns) == 2  # with the first inference 300 ms
        assert [len(block.sample_ns) for block in trace.blocks] == [5, 3]


def test_a_very_slow_model_still_gets_one_sample(tmp_path: Path) -> None:
    outcome, _ = execute(tmp_path, 5000 * MS, warmup_limit_ns=250 * MS, max_ns=800 * MS)
    for trace in outcome.traces:
        assert len(trace.warmup_ns) == 0  # the first inference alone took longer
        assert [len(block.sample_ns) for block in trace.blocks] == [1]


def test_another_reference_is_a_failure(tmp_path: Path) -> None:
    job = fake_job(tmp_path, MS)
    np.savez(job.reference, np.zeros((1, 999), np.float32))
    schedule = Schedule(protocol=SMALL, timeout_s=60)
    (outcome,) = ProtocolExecutor([job], schedule, LocalDevice(), SILENT).run()
    assert outcome.status == "failed"
    assert outcome.failure is not None
    assert (outcome.failure.stage, outcome.failure.kind) == ("outputs", "mismatch")
    assert len(outcome.traces[0].blocks) == 3
    assert outcome.checks[0].max_rel_error is None


@pytest.mark.parametrize(
    ("calls", "call_ns", "left_ns", "fit"),
    [
        (20, 10, 1000, 20),
        (20, 100, 1000, 10),
        (20, 5000, 1000, 1),
        (20, 0, 1000, 20),
        (5, 1, -3, 1),
    ],
)
def test_calls_that_fit(calls: int, call_ns: int, left_ns: int, fit: int) -> None:
    assert calls_that_fit(calls, call_ns, left_ns) == fit


def test_each_session_loads_the_model_anew(tmp_path: Path) -> None:
    outcome, _ = execute(tmp_path, MS, sessions=3)
    assert [(trace.process, trace.session) for trace in outcome.traces] == [
        (process, session) for process in range(2) for session in range(3)
    ]
    assert all(trace.load_ns > 0 and trace.first_ns == MS for trace in outcome.traces)
    opened = [trace.opened_ns or 0 for trace in outcome.traces]
    assert opened == sorted(opened)
    assert len(outcome.checks) == 6


def test_settling_calls_are_kept_and_not_counted(tmp_path: Path) -> None:
    outcome, _ = execute(tmp_path, MS, settle_calls=2)
    for trace in outcome.traces:
        assert [len(block.sample_ns) for block in trace.blocks] == [7, 7, 7]
        assert len(samples(trace)) == 15


def test_several_threads_settle_for_longer_than_a_time_slice(tmp_path: Path) -> None:
    protocol = msgspec.structs.replace(SMALL, settle_calls=1, processes=1, max_processes=1)
    schedule = Schedule(protocol=protocol, timeout_s=60)
    job = with_changes(fake_job(tmp_path, 3 * MS), threads=2)
    (outcome,) = ProtocolExecutor([job], schedule, LocalDevice(), SILENT).run()
    assert {(b.settle_calls, len(b.sample_ns)) for b in outcome.traces[0].blocks} == {(3, 8)}


def test_readings_are_of_the_calls_that_count(tmp_path: Path) -> None:
    """Not of those that settle, which may have waited for a CPU."""
    protocol = msgspec.structs.replace(SMALL, settle_calls=10, processes=1, max_processes=1)
    schedule = Schedule(protocol=protocol, timeout_s=60)
    job = fake_job(tmp_path, 10 * MS, real_time="yes")
    (outcome,) = ProtocolExecutor([job], schedule, LocalDevice(), SILENT).run()
    for block in outcome.traces[0].blocks:
        assert block.readings is not None
        counted, settled = sum(block.sample_ns[10:]), sum(block.sample_ns[:10])
        assert counted <= block.readings.wall_ns < counted + settled / 2


def test_a_minimal_time_is_kept_to_the_call(tmp_path: Path) -> None:
    # Slow enough that the conversation beside a block takes no longer, however busy the machine is.
    outcome, _ = execute(tmp_path, 100 * MS, min_calls=3, min_ns=4700 * MS, block_calls=20)
    for trace in outcome.traces:
        assert [len(block.sample_ns) for block in trace.blocks] == [20, 20, 7]


def test_warm_up_goes_on_until_the_samples_no_longer_change(tmp_path: Path) -> None:
    protocol = msgspec.structs.replace(SMALL, warmup="found", warmup_calls=1)
    schedule = Schedule(protocol=protocol, timeout_s=60)
    found = []
    for slow in ("0", "300"):
        job = fake_job(tmp_path, MS, warmup=slow, noise="0.01")
        (outcome,) = ProtocolExecutor([job], schedule, LocalDevice(), SILENT).run()
        found.append(len(outcome.traces[0].warmup_ns))
    # One that is too slow to be looked at is taken as it is.
    (slow,) = ProtocolExecutor(
        [fake_job(tmp_path, 400 * MS)], schedule, LocalDevice(), SILENT
    ).run()
    assert len(slow.traces[0].warmup_ns) == 1
    assert found[0] < 100
    assert found[1] >= 300


def test_more_processes_until_it_is_precise_enough(tmp_path: Path) -> None:
    asked: list[int] = []

    def precise(parts: Sequence[Sequence[Trace]]) -> bool:
        asked.append(len(parts[0]))
        return len(parts[0]) == 4

    for limit, stopped, processes in ((9, "precise", 4), (3, "processes", 3)):
        protocol = msgspec.structs.replace(SMALL, target_ppm=10_000, max_processes=limit)
        schedule = Schedule(protocol=protocol, timeout_s=60, precise=precise)
        (outcome,) = ProtocolExecutor(
            [fake_job(tmp_path, MS)], schedule, LocalDevice(), SILENT
        ).run()
        assert (outcome.stopped, len(outcome.traces)) == (stopped, processes)
    assert asked == [2, 3, 4, 2, 3]


def test_a_budget_too_small_for_one_process_gives_one_that_is_warm(tmp_path: Path) -> None:
    outcome, _ = execute(tmp_path, MS, budget_ns=1)
    assert (outcome.status, outcome.stopped) == ("measured", "budget")
    assert [len(samples(trace)) for trace in outcome.traces] == [15]


@pytest.mark.parametrize("name", ["latbench-quick@1", "latbench-warm@1", "timm@1"])
def test_starting_that_takes_the_budget_leaves_fewer_processes_and_warm_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A worker that takes 0.4 s to open the model, and calls that become 20 times faster."""
    opened = JobRun.open

    def slowly(self: JobRun, process: int, session: int, begun_ns: int) -> None:
        sleep(0.4)
        opened(self, process, session, begun_ns)

    monkeypatch.setattr(JobRun, "open", slowly)
    protocol = msgspec.structs.replace(named_protocol(name), budget_ns=1_000 * MS)
    protocol = msgspec.structs.replace(protocol, processes=6, max_processes=6)
    job = with_changes(fake_job(tmp_path, 2_000), extra={"warmup": "8", "noise": "0"})
    (outcome,) = ProtocolExecutor(
        [job], Schedule(protocol=protocol, timeout_s=60), LocalDevice(), SILENT
    ).run()
    assert outcome.stopped == "budget"
    assert 1 <= len(outcome.traces) <= 4
    for trace in outcome.traces:
        assert not is_cold(trace, protocol)
        assert median(samples(trace)) < 4_000


def test_a_budget_that_cuts_blocks_short_is_told(tmp_path: Path) -> None:
    outcome, _ = execute(tmp_path, MS, budget_ns=1, processes=1, max_processes=1, min_calls=100)
    assert (outcome.status, outcome.stopped) == ("measured", "budget")


def test_cold_starts_time_the_first_inference_only(tmp_path: Path) -> None:
    protocol = msgspec.structs.replace(named_protocol("cold-start"), processes=3, max_processes=3)
    outcome, _ = execute(tmp_path, MS, protocol)
    assert [(trace.first_ns, trace.blocks) for trace in outcome.traces] == [(MS, ())] * 3


def test_a_fixed_rate_leaves_gaps(tmp_path: Path) -> None:
    outcome, _ = execute(tmp_path, MS, period_ns=20 * MS)
    for trace in outcome.traces:
        starts = [block.start_ns for block in trace.blocks]
        assert all(b - a >= 5 * 20 * MS * 0.75 for a, b in pairwise(starts))


def test_a_part_that_has_enough_goes_on_with_whole_blocks(tmp_path: Path) -> None:
    slow = msgspec.structs.replace(SMALL, min_calls=10, min_ns=100 * MS)
    jobs = [fake_job(tmp_path, 2 * MS), fake_job(tmp_path, 10 * MS)]
    _, two = ProtocolExecutor(
        jobs, Schedule(protocol=slow, timeout_s=60), LocalDevice(), SILENT
    ).run()
    for trace in two.traces:
        assert {len(block.sample_ns) for block in trace.blocks} == {5}


def after_each_block(
    monkeypatch: pytest.MonkeyPatch, action: Callable[[messages.BlockTimed], None]
) -> None:
    """Call ``action`` with each block of inferences that a worker has timed."""
    ask = WorkerClient.ask

    def asked(worker: WorkerClient, *arguments: Any, **named: Any) -> Any:
        response = ask(worker, *arguments, **named)
        if isinstance(response, messages.BlockTimed):
            action(response)
        return response

    monkeypatch.setattr(WorkerClient, "ask", asked)


@pytest.mark.slow
@pytest.mark.parametrize("latency_s", [0.5, 1])
@pytest.mark.parametrize("parts", [1, 2])
def test_slow_models_get_fewer_samples_and_not_too_few_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, latency_s: float, parts: int
) -> None:
    """By a clock that the fake runtime's inferences move."""
    clock = [0]

    def advance(timed: messages.BlockTimed) -> None:
        clock[0] += sum(timed.sample_ns)

    after_each_block(monkeypatch, advance)
    for module in ("executor", "job"):
        monkeypatch.setattr(f"latbench.bench.{module}.now_ns", lambda: clock[0])
    protocol = named_protocol("latbench-compare@1" if parts == 2 else "latbench-quick@1")
    jobs = [fake_job(tmp_path, round(latency_s * 1e9) + i) for i in range(parts)]
    outcomes = ProtocolExecutor(
        jobs, Schedule(protocol=protocol, timeout_s=60), LocalDevice(), SILENT
    ).run()
    for outcome in outcomes:
        assert len(outcome.traces) >= 6
        assert all(trace.blocks for trace in outcome.traces)


def test_a_reference_that_vanishes_is_a_failure_and_loses_nothing(tmp_path: Path) -> None:
    def vanish(done: int, total: int) -> None:
        if done == 4:
            (tmp_path / "reference.npz").unlink()

    schedule = Schedule(protocol=SMALL, timeout_s=60)
    (outcome,) = ProtocolExecutor(
        [fake_job(tmp_path, MS)], schedule, LocalDevice(), Events(progress=vanish)
    ).run()
    assert outcome.status == "failed"
    assert outcome.failure is not None
    assert outcome.failure.stage == "outputs"
    assert "reference.npz" in outcome.failure.message
    assert len(outcome.traces) == 2


def test_times_of_zero_settle_no_longer_than_a_block(tmp_path: Path) -> None:
    protocol = msgspec.structs.replace(SMALL, settle_calls=1, processes=1, max_processes=1)
    schedule = Schedule(protocol=protocol, timeout_s=60)
    job = with_changes(fake_job(tmp_path, 0), threads=2)
    (outcome,) = ProtocolExecutor([job], schedule, LocalDevice(), SILENT).run()
    assert {b.settle_calls for b in outcome.traces[0].blocks} == {5}


def test_times_of_zero_come_to_an_end(tmp_path: Path) -> None:
    """A broken runner's clock: minimal times are counted by the wall as well."""
    outcome, _ = execute(
        tmp_path, 0, warmup="found", warmup_ns=50 * MS, min_ns=50 * MS, block_calls=100
    )
    assert outcome.status == "measured"


def test_blocks_are_sized_by_the_last_one_where_there_is_no_warm_up(tmp_path: Path) -> None:
    protocol = msgspec.structs.replace(
        SMALL, warmup_calls=0, block_calls=1000, block_ns=20 * MS, min_calls=60
    )
    schedule = Schedule(protocol=protocol, timeout_s=60)
    job = fake_job(tmp_path, MS, warmup="1")  # the first inference takes twice as long
    (outcome,) = ProtocolExecutor([job], schedule, LocalDevice(), SILENT).run()
    sizes = [len(block.sample_ns) for block in outcome.traces[0].blocks]
    assert sizes == [10, 20, 20, 10]


@pytest.mark.parametrize("misbehave", ["crash", "refuse"])
def test_a_sentinel_that_cannot_be_opened_or_closed_costs_itself_only(
    tmp_path: Path, misbehave: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sentinel = fake_job(tmp_path, MS)
    if misbehave == "crash":
        closed = JobRun.close

        def close(self: JobRun) -> None:
            if self._job is sentinel:
                self.failure = StageError("outputs", "gone")
                raise self.failure
            closed(self)

        monkeypatch.setattr(JobRun, "close", close)
    schedule = Schedule(protocol=msgspec.structs.replace(SMALL, sentinel_ns=4 * MS), timeout_s=60)
    job = fake_job(tmp_path, 2 * MS)
    if misbehave == "refuse":
        sentinel = with_changes(sentinel, extra={**sentinel.extra, "noise": "loud"})
    execution = ProtocolExecutor([job], schedule, LocalDevice(), SILENT, sentinel=sentinel)
    (outcome,) = execution.run()
    assert outcome.status == "measured"
    assert len(outcome.traces) == 2
    assert execution.sentinel_failure is not None


def with_changes(job: Job, **changes: object) -> Job:
    values = {name: getattr(job, name) for name in Job.__dataclass_fields__}
    return Job(**{**values, **changes})  # type: ignore[arg-type]


def test_parts_are_timed_in_turn_in_a_seeded_order(tmp_path: Path) -> None:
    def orders(seed: int) -> list[list[bool]]:
        schedule = Schedule(protocol=SMALL, timeout_s=60, order_seed=seed)
        jobs = [fake_job(tmp_path, MS), fake_job(tmp_path, 2 * MS)]
        one, two = ProtocolExecutor(jobs, schedule, LocalDevice(), SILENT).run()
        assert [len(trace.blocks) for trace in one.traces] == [3, 3]
        return [
            [
                (a.opened_ns or 0) + x.start_ns < (b.opened_ns or 0) + y.start_ns
                for x, y in zip(a.blocks, b.blocks, strict=True)
            ]
            for a, b in zip(one.traces, two.traces, strict=True)
        ]

    assert any(orders(seed) != orders(seed + 1) for seed in range(3))


def wait_for_stopped(pids: Sequence[int], count: int) -> int:
    """How many of them stand still, once it is ``count``, or in the end; a sleeping one takes a
    moment to be stopped."""
    end = monotonic() + 5
    while True:
        stats = [Path(f"/proc/{pid}/stat").read_text() for pid in pids]
        found = sum(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)
        if found == count or monotonic() > end:
            return found


@pytest.mark.skipif(sys.platform != "linux", reason="programs are paused on Linux only")
def test_what_has_no_turn_stands_still(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the threads of a runtime spin into the block of the other."""
    workers: list[int] = []
    standing: list[int] = []
    start = JobRun.start

    def started(part: JobRun, worker: WorkerClient) -> None:
        workers.append(worker.hello.pid)
        start(part, worker)

    def look(timed: messages.BlockTimed) -> None:
        standing.append(wait_for_stopped(workers[-3:], 2))

    monkeypatch.setattr(JobRun, "start", started)
    after_each_block(monkeypatch, look)
    schedule = Schedule(protocol=msgspec.structs.replace(SMALL, sentinel_ns=4 * MS), timeout_s=60)
    parts = [fake_job(tmp_path, 2 * MS), fake_job(tmp_path, 3 * MS)]
    execution = ProtocolExecutor(
        parts, schedule, LocalDevice(), SILENT, sentinel=fake_job(tmp_path, MS)
    )
    assert {outcome.status for outcome in execution.run()} == {"measured"}
    # In each of two processes three parts have their first inference, a warm-up and three blocks.
    assert standing == [2] * (2 * 3 * (1 + 1 + 3))


def test_the_sentinel_has_a_block_beside_each_block(tmp_path: Path) -> None:
    schedule = Schedule(protocol=msgspec.structs.replace(SMALL, sentinel_ns=4 * MS), timeout_s=60)
    (outcome,) = ProtocolExecutor(
        [fake_job(tmp_path, 2 * MS)],
        schedule,
        LocalDevice(),
        SILENT,
        sentinel=fake_job(tmp_path, MS),
    ).run()
    assert [len(trace.blocks) for trace in outcome.traces] == [3, 3]
    assert [[b.sample_ns for b in t.blocks] for t in outcome.sentinel] == [[(MS,) * 4] * 3] * 2


@pytest.mark.parametrize("at", ["open", "warmup", "time", "outputs"])
def test_a_sentinel_that_fails_costs_the_sentinel_only(tmp_path: Path, at: str) -> None:
    schedule = Schedule(protocol=msgspec.structs.replace(SMALL, sentinel_ns=4 * MS), timeout_s=60)
    execution = ProtocolExecutor(
        [fake_job(tmp_path, 2 * MS)],
        schedule,
        LocalDevice(),
        SILENT,
        sentinel=fake_job(tmp_path, MS, misbehave="crash", at=at),
    )
    (outcome,) = execution.run()
    assert outcome.status == "measured"
    assert [len(trace.blocks) for trace in outcome.traces] == [3, 3]
    assert execution.sentinel_failure is not None
    assert execution.sentinel_failure.kind == "crash"


def test_a_part_that_dies_keeps_what_was_measured_of_both(tmp_path: Path) -> None:
    schedule = Schedule(protocol=SMALL, timeout_s=60)
    jobs = [fake_job(tmp_path, MS), fake_job(tmp_path, 2 * MS, misbehave="crash")]
    one, two = ProtocolExecutor(jobs, schedule, LocalDevice(), SILENT).run()
    assert (one.status, one.failure) == ("interrupted", None)
    assert two.status == "failed"
    assert two.failure is not None
    assert (two.failure.stage, two.failure.kind) == ("time", "crash")
    assert one.traces[0].warmup_ns == (MS,) * 4
    assert two.traces[0].warmup_ns == (2 * MS,) * 4


def test_readings_are_taken_around_each_block(tmp_path: Path) -> None:
    outcome, _ = execute(tmp_path, MS)
    for trace in outcome.traces:
        for block in trace.blocks:
            assert block.readings is not None
            assert block.readings.wall_ns > 0
            if sys.platform == "linux":
                assert block.readings.wait_ns is not None
                assert block.readings.others_ns is not None
