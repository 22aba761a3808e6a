"""The programs that execute a script on a device: how they start, and every way in which they end.

The Python program and the native one pass the same tests.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from latbench.errors import LatbenchError
from latbench.files import content_sha256
from latbench.worker import messages
from latbench.worker.job_folder import FoundJob, JobStatus, ScriptLine, read_answers
from latbench.worker.native import native_libraries
from latbench.worker.script import look_at
from support.bench import put_job
from support.scripts import (
    CONDITIONS,
    ScriptProgram,
    ended,
    kill,
    line,
    native_scripts,
    python_scripts,
    until_answers,
    until_gone,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.fixture(scope="module", params=["python", pytest.param("native", marks=pytest.mark.slow)])
def program(request: pytest.FixtureRequest) -> ScriptProgram:
    if request.param == "python":
        return python_scripts()
    return native_scripts(request.getfixturevalue("native_program"), native_libraries())


def answers(place: Path) -> dict[int, messages.Response]:
    """The answers by line, read as the harness does."""
    found = read_answers((place / "answers.jsonl").read_bytes())
    return {
        number: messages.decode_response(bytes(each.response)) for number, each in found.items()
    }


def test_every_line_is_answered_once(program: ScriptProgram, tmp_path: Path) -> None:
    lines = program.script(tmp_path, 2)
    place = put_job(tmp_path, lines)
    begun = program.start(place)
    assert (begun.state, begun.ended_unix_ns) == ("running", None)
    with pytest.raises(LatbenchError, match=r"the job 01job (is running|has run) already"):
        program.start(place)
    status = ended(place)
    assert (status.state, status.failure, status.pid) == ("finished", None, begun.pid)
    assert status.ended_unix_ns is not None
    assert status.ended_unix_ns > status.started_unix_ns > 1_600_000_000_000_000_000
    told = answers(place)
    assert list(told) == list(range(len(lines)))
    first, opened, *_, last = told.values()
    assert isinstance(first, messages.ConditionsTold)
    assert isinstance(last, messages.ConditionsTold)
    assert last.conditions.unix_ns >= first.conditions.unix_ns
    assert isinstance(opened, messages.SessionOpened)
    block = told[3]
    assert isinstance(block, messages.BlockTimed)
    assert block.readings is not None
    # Calls at a rate and one inference after another are timed as in a live run.
    assert (len(block.sample_ns), block.readings.wall_ns >= 80_000_000) == (5, True)
    at = [each.at_ns for each in read_answers((place / "answers.jsonl").read_bytes()).values()]
    assert at == sorted(at)
    before = (place / "answers.jsonl").read_bytes()
    for verb in ("start", "run"):
        again = program.verb(verb, place)
        assert (again.returncode, again.stderr) == (1, "the job 01job has run already\n")
    assert (place / "answers.jsonl").read_bytes() == before
    assert sorted(path.name for path in place.iterdir()) == [
        *("answers.jsonl", "job.json", "output.txt", "script.jsonl", "status.json"),
    ]


def test_cancel_ends_the_program_and_its_workers(program: ScriptProgram, tmp_path: Path) -> None:
    place = put_job(tmp_path, program.script(tmp_path, 200))
    pid = program.start(place).pid
    until_answers(place, 4)
    (worker,) = program.workers(pid)
    assert [(job.state, job.about) for job in program.listed(tmp_path / "jobs")] == [
        ("running", look_at(place).about)
    ]
    found = program.cancel(place)
    assert (found.running, found.state) == (False, "canceled")
    assert not Path(f"/proc/{worker}").exists()
    assert program.cancel(place) == found == look_at(place)


def test_a_program_that_is_killed_has_been_cut_short(
    program: ScriptProgram, tmp_path: Path
) -> None:
    """Also when one worker is stopped while the other one has its turn."""
    opened = program.script(tmp_path, 0)[1].request
    both = [("open", opened), ("first", messages.Time(calls=1))]
    blocks = [line("block", messages.Time(calls=5, period_ns=20_000_000))] * 200
    for_sentinel = [line("open", opened, worker="sentinel")]
    lines: list[ScriptLine] = [line(role, asked) for role, asked in both]  # type: ignore[arg-type]
    place = put_job(tmp_path, [*lines, *for_sentinel, *blocks])
    pid = program.start(place).pid
    until_answers(place, 5)
    workers = program.workers(pid)
    states = [
        Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()[0] for each in workers
    ]
    assert states.count("T") == 1
    kill(pid)
    for worker in workers:
        until_gone(worker)
    assert ended(place).state == "running"
    assert [job.state for job in program.listed(tmp_path / "jobs")] == ["cut short"]
    assert program.cancel(place).state == "cut short"


def test_a_time_limit_ends_a_worker_that_hangs(program: ScriptProgram, tmp_path: Path) -> None:
    lines = program.script(tmp_path, 5, "hang")
    place = put_job(tmp_path, lines, limit_s=4)
    pid = program.start(place).pid
    status = ended(place)
    assert status.state == "failed"
    assert status.failure is not None
    assert status.failure.kind == "timeout"
    assert "time limit of 4 s" in status.failure.message
    # Neither the line that hung nor those after it, but the conditions at the end.
    told = list(answers(place))
    assert (told[-1], set(told) <= {0, 1, len(lines) - 1}) == (len(lines) - 1, True)
    until_gone(pid)


def test_a_line_has_a_timeout(program: ScriptProgram, tmp_path: Path) -> None:
    """A sentinel that hangs is left out; the model goes on."""
    hangs = program.script(tmp_path, 0, "hang")[1].request
    good = program.script(tmp_path, 0)[1].request
    one = messages.Time(calls=1)
    lines = [
        line("open", good),
        line("open", hangs, worker="sentinel"),
        line("first", one, worker="sentinel", timeout_s=0.5),
        line("first", one),
        line("block", one, worker="sentinel"),
        line("close", messages.Close()),
    ]
    place = put_job(tmp_path, lines)
    program.start(place)
    status = ended(place)
    assert (status.state, status.failure) == ("finished", None)
    told = answers(place)
    assert list(told) == [0, 1, 2, 3, 5]
    failed = told[2]
    assert isinstance(failed, messages.Failed)
    assert (failed.stage, failed.kind) == ("warmup", "timeout")
    assert failed.message == "no response within 0.5 s; the program was ended"


def test_a_failure_of_the_model_skips_the_rest(program: ScriptProgram, tmp_path: Path) -> None:
    lines = program.script(tmp_path, 5, "error")
    place = put_job(tmp_path, lines)
    program.start(place)
    status = ended(place)
    assert (status.state, status.failure is None) == ("failed", False)
    told = answers(place)
    last_of_model = max(number for number in told if number < len(lines) - 1)
    assert sorted(told) == [*range(last_of_model + 1), len(lines) - 1]
    failed = told[last_of_model]
    assert isinstance(failed, messages.Failed)
    assert failed.failure == status.failure


def test_a_worker_that_is_killed(program: ScriptProgram, tmp_path: Path) -> None:
    place = put_job(tmp_path, program.script(tmp_path, 200))
    pid = program.start(place).pid
    until_answers(place, 4)
    (worker,) = program.workers(pid)
    kill(worker)
    failure = ended(place).failure
    assert failure is not None
    assert (failure.stage, failure.kind) == ("time", "crash")
    assert failure.message == "the program was killed (SIGKILL)"


def test_an_invalid_option_is_refused(program: ScriptProgram, tmp_path: Path) -> None:
    lines = program.script(tmp_path, 1)
    opened = lines[1].request
    assert isinstance(opened, messages.Open)
    wrong = msgspec.structs.replace(opened, extra={"misbehave": "nonsense"})
    place = put_job(tmp_path, [CONDITIONS, line("open", wrong), *lines[2:]])
    program.start(place)
    status = ended(place)
    assert status.failure is not None
    assert "misbehave" in status.failure.message
    told = answers(place)
    assert isinstance(told[1], messages.Refused)
    assert list(told) == [0, 1, len(lines) - 1]


@pytest.mark.slow
def test_a_program_that_a_loader_has_started(native_program: Path, tmp_path: Path) -> None:
    """As with a C library that is not the device's own: its workers need the loader too."""
    (loader,) = {
        row.split()[-1]
        for row in Path("/proc/self/maps").read_text().splitlines()
        if "/ld-linux" in row
    }
    command = (loader, "--library-path", str(native_program.parent), str(native_program), "script")
    plain = native_scripts(native_program, native_libraries())
    program = dataclasses.replace(plain, command=command)
    place = put_job(tmp_path, program.script(tmp_path, 20))
    pid = program.start(place).pid
    until_answers(place, 3)
    (worker,) = program.workers(pid)
    for process in (pid, worker):
        arguments = Path(f"/proc/{process}/cmdline").read_bytes().decode().split("\0")
        assert arguments[:2] == [loader, "--library-path"]
    opened = answers(place)[1]
    assert isinstance(opened, messages.SessionOpened)
    assert opened.settings["worker_sha256"] == content_sha256(native_program)
    assert program.cancel(place).state == "canceled"
    until_gone(worker)


@pytest.mark.slow
def test_a_device_that_is_in_use(native_program: Path, tmp_path: Path) -> None:
    """Of whichever program; both at once, because each waits for a while."""
    programs = [python_scripts(), native_scripts(native_program, native_libraries())]
    script = programs[0].script(tmp_path, 400)
    first = put_job(tmp_path, script)
    programs[0].start(first)
    short = [program.script(tmp_path, 1) for program in programs]
    seconds = [put_job(tmp_path, lines, id=f"02job{n}") for n, lines in enumerate(short)]
    with ThreadPoolExecutor() as pool:
        statuses = list(pool.map(ScriptProgram.start, programs, seconds))
    for status in statuses:
        assert status.state == "failed"
        assert status.failure is not None
        assert "the device is in use by the job 01job of me@here, running" in status.failure.message
        assert status.failure.kind == "unavailable"
    # Each program ends the jobs of the other one too.
    assert programs[1].cancel(first).state == "canceled"
    third = put_job(tmp_path, short[1], id="03job")
    programs[1].start(third)
    assert ended(third).state == "finished"


def test_answers_that_cannot_be_written(program: ScriptProgram, tmp_path: Path) -> None:
    """As on a full disk."""
    place = put_job(tmp_path, program.script(tmp_path, 1))
    (place / "answers.jsonl").symlink_to("/dev/full")
    program.verb("run", place)
    status = msgspec.json.decode((place / "status.json").read_bytes(), type=JobStatus)
    assert status.state == "failed"
    failure = status.failure
    assert failure is not None
    assert failure.message == "the job 01job could not go on: No space left on device"
    assert failure.hint == "free space on the device"


def test_jobs_that_do_not_start(program: ScriptProgram, tmp_path: Path) -> None:
    newer = put_job(tmp_path, program.script(tmp_path, 1), version=2)
    with pytest.raises(LatbenchError, match="the job 01job is of a newer latbench than"):
        program.start(newer)
    assert not (newer / "status.json").exists()
    damaged = put_job(tmp_path, program.script(tmp_path, 1), id="02job")
    (damaged / "script.jsonl").write_text("{")
    program.start(damaged)
    status = ended(damaged)
    assert (status.state, status.failure is None) == ("failed", False)
    assert status.failure is not None
    assert status.failure.message.startswith("the job 02job could not go on: ")
    assert program.verb("stop", newer).returncode in (1, 2)


def test_what_is_not_a_job_is_listed_as_such(program: ScriptProgram, tmp_path: Path) -> None:
    folder = tmp_path / "jobs" / "00junk"
    folder.mkdir(parents=True)
    (folder / "job.json").write_text("{")
    (folder / "status.json").write_text('{"state": "unheard of", "pid": 1}')
    found = FoundJob(id="00junk", about=None, status=None, running=False)
    odd = put_job(tmp_path, ())
    about = json.loads((odd / "job.json").read_bytes())
    (odd / "job.json").write_text(json.dumps({**about, "limit_s": 2.5, "what": 'a "b"\n'}))
    expected = [found, look_at(odd)]
    assert expected[1].about is not None
    assert program.listed(tmp_path / "jobs") == expected
    assert found.state == "not started"
    assert program.listed(tmp_path / "none") == []
    # A device that was switched off: the status still says that it runs.
    running = JobStatus(state="running", pid=os.getpid(), started_unix_ns=time.time_ns())
    (odd / "status.json").write_bytes(msgspec.json.encode(running))
    (odd / "answers.jsonl").write_bytes(b"{}\n")
    (_, cut) = program.listed(tmp_path / "jobs")
    assert (cut.state, cut.answers_bytes) == ("cut short", 3)
    assert program.cancel(odd) == cut
