"""The program that executes a script on a device: how it starts, and every way in which it ends."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import msgspec
import pytest

from latbench.errors import StageError
from latbench.worker import messages
from latbench.worker.job_folder import FoundJob, JobStatus, ScriptLine, read_answers
from latbench.worker.script import cancel, execute_script, list_jobs, look_at, start
from support.bench import fake_job, put_job, until_ended
from support.command_line import workers_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
MS = 1_000_000


def script(folder: Path, blocks: int, **options: str) -> tuple[ScriptLine, ...]:
    """One process with so many blocks of 0.1 s."""
    request = fake_job(folder, 20 * MS, real_time="yes", **options).request(process=0)

    def line(role: str, asked: object, timeout_s: float = 20) -> ScriptLine:
        fields = {"worker": "model", "role": role, "timeout_s": timeout_s, "request": asked}
        return msgspec.convert(msgspec.to_builtins(fields), ScriptLine)

    conditions = ScriptLine(role="conditions", timeout_s=9, request=messages.ReadConditions())
    return (
        conditions,
        line("open", request),
        line("first", messages.Time(calls=1)),
        *[line("block", messages.Time(calls=5))] * blocks,
        line("outputs", messages.Outputs()),
        line("close", messages.Close()),
        conditions,
    )


def until_answers(place: Path, number: int) -> None:
    end = time.monotonic() + 60
    while len(read_answers((place / "answers.jsonl").read_bytes())) < number:
        assert time.monotonic() < end
        time.sleep(0.02)


def ended(place: Path) -> JobStatus:
    until_ended(place)
    status = look_at(place).status
    assert status is not None
    return status


def test_every_line_is_answered_once(tmp_path: Path) -> None:
    lines = script(tmp_path, 2)
    place = put_job(tmp_path, lines)
    begun = msgspec.json.decode(start(place), type=JobStatus)
    assert (begun.state, begun.ended_unix_ns) == ("running", None)
    status = ended(place)
    assert (status.state, status.failure, status.pid) == ("finished", None, begun.pid)
    answers = read_answers((place / "answers.jsonl").read_bytes())
    assert list(answers) == list(range(len(lines)))
    at = [answer.at_ns for answer in answers.values()]
    assert at == sorted(at)
    before = (place / "answers.jsonl").read_bytes()
    with pytest.raises(StageError, match="has run already"):
        execute_script(place)
    assert (place / "answers.jsonl").read_bytes() == before


def test_cancel_ends_the_program_and_its_workers(tmp_path: Path) -> None:
    place = put_job(tmp_path, script(tmp_path, 200))
    pid = msgspec.json.decode(start(place), type=JobStatus).pid
    until_answers(place, 4)
    (worker,) = workers_of(pid)
    assert [job.state for job in list_jobs(tmp_path / "jobs")] == ["running"]
    found = cancel(place)
    assert (found.running, found.state) == (False, "canceled")
    assert not Path(f"/proc/{worker}").exists()
    assert cancel(place) == found


def test_a_program_that_is_killed_has_been_cut_short(tmp_path: Path) -> None:
    place = put_job(tmp_path, script(tmp_path, 200))
    pid = msgspec.json.decode(start(place), type=JobStatus).pid
    until_answers(place, 4)
    (worker,) = workers_of(pid)
    os.kill(pid, signal.SIGKILL)
    until_ended(place)
    assert look_at(place).state == "cut short"
    end = time.monotonic() + 10
    while Path(f"/proc/{worker}").exists():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_time_limit_ends_a_worker_that_hangs(tmp_path: Path) -> None:
    lines = script(tmp_path, 5, misbehave="hang", at="time")
    place = put_job(tmp_path, lines, limit_s=4)
    start(place)
    status = ended(place)
    assert status.state == "failed"
    assert status.failure is not None
    assert "time limit of 4 s" in status.failure.message
    # Neither the line that hung nor those after it, but the conditions at the end.
    assert len(lines) - 1 in read_answers((place / "answers.jsonl").read_bytes())


def test_a_failure_of_the_model_skips_the_rest(tmp_path: Path) -> None:
    lines = script(tmp_path, 5, misbehave="error", at="time")
    place = put_job(tmp_path, lines)
    start(place)
    status = ended(place)
    assert status.failure is not None
    assert status.failure.message == "the fake runtime failed"
    answers = read_answers((place / "answers.jsonl").read_bytes())
    assert sorted(answers) == [0, 1, 2, 3, 4, len(lines) - 1]


@pytest.mark.slow
def test_a_device_that_is_in_use(tmp_path: Path) -> None:
    first = put_job(tmp_path, script(tmp_path, 400))
    start(first)
    second = put_job(tmp_path, script(tmp_path, 1), id="02job")
    status = msgspec.json.decode(start(second), type=JobStatus)
    assert status.state == "failed"
    assert status.failure is not None
    assert "the device is in use by the job 01job of me@here" in status.failure.message
    cancel(first)
    third = put_job(tmp_path, script(tmp_path, 1), id="03job")
    start(third)
    assert ended(third).state == "finished"


def test_what_is_not_a_job_is_listed_as_such(tmp_path: Path) -> None:
    folder = tmp_path / "jobs" / "00junk"
    folder.mkdir(parents=True)
    (folder / "job.json").write_text("{")
    found = FoundJob(id="00junk", about=None, status=None, running=False)
    assert list(list_jobs(tmp_path / "jobs")) == [found]
    assert found.state == "not started"
    assert list(list_jobs(tmp_path / "none")) == []
