"""From a protocol to a script, and from the answers to the values of a live run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from latbench.bench.executor import ProtocolExecutor, Schedule
from latbench.bench.job import Job
from latbench.bench.rehearsal import PilotTimes, Rehearsed, rehearse
from latbench.bench.replay import Ending, Expected, Replayed, replay
from latbench.bench.required_units import RequiredUnits
from latbench.devices.local import LocalDevice
from latbench.errors import Failure, StageError
from latbench.events import SILENT
from latbench.schema.protocol import TimingProtocol
from latbench.schema.protocol_catalog import COMPARE, FIXED, QUICK, SHIPPED, WARM
from latbench.worker import messages
from latbench.worker.client import WorkerClient
from latbench.worker.job_folder import ScriptAnswer, read_answers
from latbench.worker.script import start
from support.bench import fake_job, put_job, until_ended

MS = 1_000_000
SMALL = msgspec.structs.replace(
    FIXED, processes=2, max_processes=2, warmup_calls=4, min_calls=15, block_calls=5
)
SEEN = msgspec.structs.replace(SMALL, sentinel_ns=4 * MS)
POWER = Failure(stage="time", kind="disconnected", message="switched off")


def times(job: Job, call_ns: int, warmup_calls: int = 4) -> PilotTimes:
    return PilotTimes(
        job=job, first_ns=call_ns, load_ns=MS, typical_ns=call_ns, warmup_calls=warmup_calls
    )


def rehearsed(
    folder: Path, protocol: TimingProtocol, call_ns: int = 3 * MS, *, sentinel: bool = False
) -> Rehearsed:
    return rehearse(
        protocol,
        times(fake_job(folder, call_ns), call_ns),
        times(fake_job(folder, 2 * MS), 2 * MS) if sentinel else None,
        start_ns=300 * MS,
        timeout_s=60,
        order_seed=7,
    )


class Recorder:
    """This machine; it writes down what each worker is asked."""

    def __init__(self) -> None:
        self.asked: list[object] = []

    @contextmanager
    def start_worker(self, timeout_hint: str) -> Iterator[Any]:
        with LocalDevice().start_worker(timeout_hint) as worker:
            yield Listener(worker, self.asked)


class Listener:
    def __init__(self, worker: WorkerClient, asked: list[object]) -> None:
        self.worker, self.asked, self.pause = worker, asked, worker.pause

    def ask(self, request: messages.RequestMessage, expect: Any, **how: Any) -> Any:
        self.asked.append(request)
        return self.worker.ask(request, expect, **how)


def test_a_script_asks_what_the_executor_asks(tmp_path: Path) -> None:
    """In the same random order, with the sentinel between the blocks."""
    script = rehearsed(tmp_path, SEEN, sentinel=True).script
    recorder = Recorder()
    executor = ProtocolExecutor(
        [fake_job(tmp_path, 3 * MS)],
        Schedule(protocol=SEEN, timeout_s=60, order_seed=7),
        recorder,
        SILENT,
        sentinel=fake_job(tmp_path, 2 * MS),
    )
    (outcome,) = executor.run()
    assert outcome.status == "measured"
    assert [line.request for line in script if line.worker] == recorder.asked
    assert [script[0].role, script[-1].role] == ["conditions"] * 2


def test_two_models_alternate_with_a_time_for_each_block(tmp_path: Path) -> None:
    quick, slow = (times(fake_job(tmp_path, ns), ns, calls) for ns, calls in ((MS, 9), (4 * MS, 5)))
    budget = msgspec.structs.replace(COMPARE, processes=2, max_processes=2, budget_ns=4000 * MS)
    how: dict[str, Any] = {"start_ns": 0, "timeout_s": 60, "order_seed": 7}
    found = rehearse(budget, quick, None, second=slow, **how)
    protocol = found.protocol
    assert (protocol.block_ns, protocol.warmup, protocol.warmup_calls) == (20 * MS, "fixed", 9)
    blocks = {
        name: [
            line.request.calls - line.request.settle
            for line in found.script
            if line.worker == name and line.role == "block"
            if isinstance(line.request, messages.Time)
        ]
        for name in ("model", "second")
    }
    assert set(blocks["model"]) == {20}
    assert max(blocks["second"]) == 5
    assert len(blocks["model"]) == len(blocks["second"]) > 20
    # In random order, each in turn.
    order = [line.worker for line in found.script if line.role == "block"]
    pairs = list(zip(order[::2], order[1::2], strict=True))
    assert set(pairs) == {("model", "second"), ("second", "model")}
    again = rehearse(protocol, quick, None, second=slow, **how)
    assert again.script == found.script


def test_a_fixed_protocol_stays_as_it_is(tmp_path: Path) -> None:
    assert rehearsed(tmp_path, SMALL).protocol == SMALL


def test_numbers_fit_the_budget(tmp_path: Path) -> None:
    """Each process takes 0.3 s to start, and its blocks a second."""
    short, long = (
        rehearsed(tmp_path, msgspec.structs.replace(WARM, budget_ns=budget * 1000 * MS))
        for budget in (15, 60)
    )
    assert 6 <= short.protocol.processes < long.protocol.processes < 60
    for found, budget in ((short, 15), (long, 60)):
        assert found.expected_ns < budget * 1000 * MS
        protocol = found.protocol
        assert (protocol.target_ppm, protocol.budget_ns, protocol.warmup) == (None, None, "fixed")
        assert protocol.name == WARM.name
        assert protocol.processes == protocol.max_processes
        # 30 ms at 3 ms a call, a second of them.
        assert protocol.block_calls == 10
        assert 300 <= protocol.min_calls <= 350


def test_a_model_too_slow_for_the_budget_gets_few_calls(tmp_path: Path) -> None:
    found = rehearsed(tmp_path, QUICK, 900 * MS)
    assert 4 <= found.protocol.processes <= QUICK.processes
    assert 1 <= found.protocol.min_calls <= 2
    assert found.expected_ns < 20_000 * MS


@pytest.mark.parametrize("protocol", SHIPPED, ids=lambda protocol: protocol.label)
def test_every_protocol_can_be_rehearsed(tmp_path: Path, protocol: TimingProtocol) -> None:
    found = rehearsed(tmp_path, protocol, sentinel=protocol.sentinel_ns is not None)
    again = rehearsed(tmp_path, found.protocol, sentinel=protocol.sentinel_ns is not None)
    assert again.protocol == found.protocol
    blocks = [line.request for line in found.script if line.role == "block"]
    assert bool(blocks) == (found.protocol.min_calls > 0)
    opened = [line for line in found.script if line.role == "open" and line.worker == "model"]
    assert len(opened) == found.protocol.processes * protocol.sessions


def executed(folder: Path, found: Rehearsed, **changes: Any) -> dict[int, ScriptAnswer]:
    """The answers to the script, from the program that executes it on a device."""
    place = put_job(folder, found.script, **changes)
    start(place)
    until_ended(place)
    return read_answers((place / "answers.jsonl").read_bytes())


def replayed(
    found: Rehearsed,
    answers: dict[int, ScriptAnswer],
    folder: Path,
    required: RequiredUnits = RequiredUnits(),  # noqa: B008 - it is frozen
) -> Replayed:
    return replay(
        found.script,
        answers,
        Ending(canceled=False, failure=POWER),
        found.protocol,
        dict.fromkeys(
            ("model", "second", "sentinel"),
            Expected(reference=folder / "reference.npz", required=required),
        ),
    )


def test_a_script_gives_what_a_live_run_gives(tmp_path: Path) -> None:
    found = rehearsed(tmp_path, SEEN, sentinel=True)
    told = replayed(found, executed(tmp_path, found), tmp_path)
    executor = ProtocolExecutor(
        [fake_job(tmp_path, 3 * MS)],
        Schedule(protocol=SEEN, timeout_s=60, order_seed=7),
        LocalDevice(),
        SILENT,
        sentinel=fake_job(tmp_path, 2 * MS),
    )
    (live,) = executor.run()
    assert told.outcome.status == "measured"
    assert told.outcome.checks == live.checks
    assert told.runtime == executor.parts[0].runtime
    for one, two in (
        (told.outcome.traces, live.traces),
        (told.outcome.sentinel, live.sentinel),
    ):
        assert [
            (trace.process, trace.session, trace.first_ns, trace.warmup_ns) for trace in one
        ] == [(trace.process, trace.session, trace.first_ns, trace.warmup_ns) for trace in two]
        assert [[block.sample_ns for block in trace.blocks] for trace in one] == [
            [block.sample_ns for block in trace.blocks] for trace in two
        ]
    opened = [trace.opened_ns for trace in told.outcome.traces]
    assert 0 < opened[0] < opened[1]
    assert told.before is not None
    assert told.after is not None


def test_whatever_was_answered_is_kept(tmp_path: Path) -> None:
    """An answers file that ends after any line."""
    found = rehearsed(tmp_path, SEEN, sentinel=True)
    answers = executed(tmp_path, found)
    assert sorted(answers) == list(range(len(found.script)))
    before = 0
    stages = set()
    for length in range(len(answers)):
        part = {number: answers[number] for number in range(length)}
        told = replayed(found, part, tmp_path)
        blocks = sum(len(trace.blocks) for trace in told.outcome.traces)
        assert before <= blocks <= before + 1
        before = blocks
        if length < len(answers) - 1:
            assert told.outcome.status == "failed"
            assert told.outcome.failure is not None
            assert told.outcome.failure.message == "switched off"
            stages.add(told.outcome.failure.stage)
        else:
            assert told.outcome.status == "measured"
        assert told.sentinel_failure is None
        assert told.after is None
    assert before == 6
    assert stages == {"open", "warmup", "time", "outputs"}


def test_a_sentinel_that_fails_is_left_out(tmp_path: Path) -> None:
    """A worker's own failure, not an end of the script."""
    found = rehearsed(tmp_path, SEEN, sentinel=True)
    bad = {"misbehave": "crash", "at": "time"}
    lines = [
        msgspec.structs.replace(
            line,
            request=msgspec.structs.replace(line.request, extra={**line.request.extra, **bad}),
        )
        if line.worker == "sentinel" and isinstance(line.request, messages.Open)
        else line
        for line in found.script
    ]
    changed = Rehearsed(protocol=found.protocol, script=tuple(lines), expected_ns=0)
    told = replayed(changed, executed(tmp_path, changed), tmp_path)
    assert told.outcome.status == "measured"
    assert len(told.outcome.traces) == 2
    assert isinstance(told.sentinel_failure, StageError)
    assert "SIGSEGV" in told.sentinel_failure.message
    assert len(told.outcome.sentinel) == 1


def test_wrong_outputs_are_found_when_the_answers_arrive(tmp_path: Path) -> None:
    found = rehearsed(tmp_path, SMALL)
    answers = executed(tmp_path, found)
    import numpy as np

    np.savez(tmp_path / "reference.npz", np.zeros((1, 1000), np.float32))
    told = replayed(found, answers, tmp_path)
    assert told.outcome.failure is not None
    assert (told.outcome.failure.stage, told.outcome.failure.kind) == ("outputs", "mismatch")
    assert len(told.outcome.traces[0].blocks) == 3


def test_a_required_unit_is_checked_when_the_answers_arrive(tmp_path: Path) -> None:
    found = rehearsed(tmp_path, SMALL)
    answers = executed(tmp_path, found)
    told = replayed(found, answers, tmp_path, RequiredUnits(names=("npu",)))
    assert told.outcome.failure is not None
    assert (told.outcome.failure.stage, told.outcome.failure.kind) == ("open", "mismatch")


def test_answers_that_cannot_be_right_are_failures(tmp_path: Path) -> None:
    found = rehearsed(tmp_path, SMALL)
    answers = executed(tmp_path, found)
    block = next(n for n, line in enumerate(found.script) if line.role == "block")
    for response, words in (
        (b'{"type":"timed","start_ns":0,"sample_ns":[1,2]}', "2 times instead of 5"),
        (b'{"type":"closed"}', "unexpected Closed"),
        (b'{"type":"nonsense"}', "is not a message"),
        (b'{"type":"timed","start_ns":0,"sample_ns":[1,2,3,4,-5]}', "backwards"),
    ):
        changed = msgspec.structs.replace(answers[block], response=msgspec.Raw(response))
        told = replayed(found, {**answers, block: changed}, tmp_path)
        assert told.outcome.status == "failed"
        assert told.outcome.failure is not None
        assert words in told.outcome.failure.message


@pytest.mark.parametrize("tail", [b"", b'{"line": 2, "at_n', b"\0" * 30 + b"\n", b"\xff\n"])
def test_the_end_of_the_answers_may_be_anything(tail: bytes) -> None:
    line = msgspec.json.encode(ScriptAnswer(line=0, at_ns=5, response=msgspec.Raw(b"{}"))) + b"\n"
    assert list(read_answers(line + tail)) == [0]


def test_a_job_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    found = rehearsed(tmp_path, SMALL)
    with pytest.raises(StageError, match="newer latbench"):
        executed(tmp_path, found, version=2)
