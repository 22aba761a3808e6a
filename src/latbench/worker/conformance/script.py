"""Checks of the program that executes a script: jobs that are left on a device alone."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import psutil

from latbench.errors import UsageError
from latbench.worker import job_folder as files
from latbench.worker import messages
from latbench.worker.conformance.suite import Check, Subject, wait_until
from latbench.worker.conformance.talk import AT_ONCE_S, SHOWN, Broken, Skipped, shown_line
from latbench.worker.process_tree import MARK, end_marked, new_mark

LONG_S = 600.0
LIMIT_S = 3.0
NO_DIGEST = "0" * 64
START_S = 60.0
SLOW = messages.Time(calls=1000, period_ns=1_000_000_000)


@dataclass(frozen=True)
class ScriptedJob:
    """A job's folder, made for one check."""

    subject: Subject
    folder: Path
    mark: str

    @property
    def lock(self) -> Path:
        """The device's lock."""
        return self.subject.folder / "script.lock"

    def verb(self, name: str, folder: Path | None = None) -> subprocess.CompletedProcess[bytes]:
        """Execute one verb and wait for its end. Raises :class:`Broken` if it does not end."""
        assert self.subject.script is not None
        command = [*self.subject.script, name, str(folder or self.folder)]
        self.subject.note(" ".join(command))
        # Files, not pipes: what the verb leaves running must not keep it open.
        with (self.subject.folder / "out").open("w+b") as out:
            try:
                status = subprocess.run(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, MARK: self.mark},
                    start_new_session=True,
                    check=False,
                    timeout=self.subject.deadline.left_s(),
                ).returncode
            except subprocess.TimeoutExpired:
                raise Broken(f"{name} does not end") from None
            except OSError as error:
                raise UsageError(
                    f"{command[0]} cannot be started: {error.strerror or error}",
                    hint="--script is a command line without verb and folder",
                ) from error
            out.seek(0)
            return subprocess.CompletedProcess(command, status, out.read(), b"")

    def succeed(self, name: str, folder: Path | None = None) -> bytes:
        """The same of a verb that must end with status 0; its output."""
        done = self.verb(name, folder)
        if done.returncode != 0:
            raise Broken(f"status {done.returncode}: {shown_line(done.stdout[-SHOWN:])}")
        return bytes(done.stdout)

    def status(self) -> files.JobStatus:
        """What ``status.json`` says. Raises :class:`Broken`."""
        try:
            data = (self.folder / files.STATUS).read_bytes()
            return msgspec.json.decode(data, type=files.JobStatus)
        except (OSError, msgspec.DecodeError) as error:
            raise Broken(f"{files.STATUS}: {error}") from error

    def ended(self, state: str) -> files.JobStatus:
        """Wait until nobody has the answers locked; then the state must be ``state``."""
        wait_until(
            lambda: not is_locked(self.folder / files.ANSWERS),
            self.subject,
            self.subject.deadline.seconds,
            f"{files.ANSWERS} is still locked",
        )
        status = self.status()
        if status.state != state or status.ended_unix_ns is None:
            raise Broken(f"{shown_line(msgspec.json.encode(status))} instead of {state}")
        if (status.failure is not None) != (state == "failed"):
            raise Broken(f"state {state} with failure {status.failure}")
        return status

    def answers(self) -> dict[int, messages.Response]:
        """The answers by line. Raises :class:`Broken` for one that is not valid."""
        data = (self.folder / files.ANSWERS).read_bytes()
        found = files.read_answers(data)
        if len(found) != data.count(b"\n") or not data.endswith(b"\n"):
            raise Broken(f"{files.ANSWERS} of {data.count(10)} lines, {len(found)} of them valid")
        at = [answer.at_ns for answer in found.values()]
        if at != sorted(at) or list(found) != sorted(found) or min(at) < 0:
            raise Broken(f"answers to the lines {list(found)} at {at} ns")
        try:
            return {
                line: messages.decode_response(bytes(answer.response))
                for line, answer in found.items()
            }
        except (msgspec.DecodeError, ValueError) as error:
            raise Broken(f"{files.ANSWERS}: {error}") from error

    def answered(self, number: int) -> bool:
        """Whether there are so many answers."""
        path = self.folder / files.ANSWERS
        return path.exists() and path.read_bytes().count(b"\n") >= number


def is_locked(path: Path) -> bool:
    """Whether another program has locked the file."""
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextmanager
def _left(
    subject: Subject, name: str, lines: Sequence[files.ScriptLine], limit_s: float = LONG_S
) -> Iterator[ScriptedJob]:
    """A job in a folder of its own; leaving the block ends whatever runs of it."""
    if subject.script is None:
        raise Skipped("no program that executes scripts: give --script")
    folder = subject.folder / "jobs" / name
    folder.mkdir(parents=True)
    job = ScriptedJob(subject, folder, new_mark())
    about = files.JobAbout(
        id=name,
        what="conformance",
        harness="me@here",
        lock=str(job.lock),
        created_unix_ns=time.time_ns(),
        limit_s=limit_s,
        expected_s=1.0,
        protocol="latbench-quick@1",
        protocol_sha256=NO_DIGEST,
        artifact_sha256=NO_DIGEST,
    )
    (folder / files.JOB).write_bytes(msgspec.json.encode(about))
    (folder / files.SCRIPT).write_bytes(files.write_script(tuple(lines)))
    try:
        yield job
    finally:
        end_marked(job.mark)
        with suppress(Broken, OSError, psutil.Error):
            pid = job.status().pid
            if is_locked(folder / files.ANSWERS):
                tree = psutil.Process(pid)
                for process in (*tree.children(recursive=True), tree):
                    process.send_signal(signal.SIGKILL)


def _line(
    worker: str | None, role: str, request: messages.RequestMessage, timeout_s: float = 60
) -> files.ScriptLine:
    fields = {"worker": worker, "role": role, "timeout_s": timeout_s, "request": request}
    return msgspec.convert(msgspec.to_builtins(fields), files.ScriptLine)


CONDITIONS = ("conditions", messages.ReadConditions())


def _expect(answers: dict[int, messages.Response], *types: type | None) -> None:
    """The answers by line have these types; ``None``: no answer."""
    for number, wanted in enumerate(types):
        found = answers.get(number)
        if wanted is None and found is not None:
            raise Broken(f"line {number} is answered by {type(found).__name__}, not skipped")
        if wanted is not None and not isinstance(found, wanted):
            raise Broken(
                f"line {number} is answered by {type(found).__name__}, not {wanted.__name__}"
            )
    if len(answers) > sum(each is not None for each in types):
        raise Broken(f"answers to the lines {list(answers)}")


def _script(subject: Subject) -> None:
    opening = subject.model.request()
    lines = [
        _line(None, *CONDITIONS),
        _line("model", "open", opening),
        _line("sentinel", "open", opening),
        _line("model", "first", messages.Time(calls=1)),
        _line("sentinel", "first", messages.Time(calls=1)),
        _line("model", "block", messages.Time(calls=5, settle=1)),
        _line("sentinel", "block", messages.Time(calls=3)),
        _line("model", "outputs", messages.Outputs()),
        _line("model", "close", messages.Close()),
        _line("sentinel", "close", messages.Close()),
        # A worker that was closed is started again.
        _line("model", "open", opening),
        _line("model", "close", messages.Close()),
        _line(None, *CONDITIONS),
    ]
    opened, timed, closed = messages.SessionOpened, messages.BlockTimed, messages.Closed
    with _left(subject, "whole", lines) as job:
        job.succeed("run")
        job.ended("finished")
        answers = job.answers()
        _expect(
            answers,
            *(messages.ConditionsTold, opened, opened, timed, timed, timed, timed),
            *(messages.OutputsGiven, closed, closed, opened, closed, messages.ConditionsTold),
        )
        for number, calls in ((3, 1), (4, 1), (5, 5), (6, 3)):
            block = answers[number]
            assert isinstance(block, messages.BlockTimed)
            if len(block.sample_ns) != calls:
                raise Broken(f"line {number}: {len(block.sample_ns)} samples of {calls} calls")
        before = (job.folder / files.ANSWERS).read_bytes()
        if job.verb("run").returncode == 0:
            raise Broken("status 0 for a job that has run already")
        if (job.folder / files.ANSWERS).read_bytes() != before:
            raise Broken("the answers of a job that had run already have changed")


def _start_and_cancel(subject: Subject) -> None:
    lines = [
        _line("model", "open", subject.model.request()),
        _line("model", "first", messages.Time(calls=1)),
        _line("model", "block", SLOW, LONG_S),
        _line("model", "close", messages.Close()),
    ]
    with _left(subject, "canceled", lines) as job:
        begun = msgspec.json.decode(job.succeed("start"), type=files.JobStatus)
        if begun.state != "running" or not psutil.pid_exists(begun.pid):
            raise Broken(f"state {begun.state} of process {begun.pid}")
        wait_until(lambda: job.answered(2), subject, START_S, "no two answers")
        if not is_locked(job.lock) or not is_locked(job.folder / files.ANSWERS):
            raise Broken(f"the lock or {files.ANSWERS} is not locked while the job runs")
        listed = job.succeed("list", job.folder.parent).splitlines()
        found = [msgspec.json.decode(line, type=files.FoundJob) for line in listed]
        mine = [each for each in found if each.id == job.folder.name]
        if len(mine) != 1 or not mine[0].running:
            raise Broken(shown_line(b" ".join(listed)))
        workers = psutil.Process(begun.pid).children(recursive=True)
        job.succeed("cancel")
        job.ended("canceled")
        _expect(job.answers(), messages.SessionOpened, messages.BlockTimed, None, None)
        wait_until(
            lambda: not any(each.is_running() and each.status() != "zombie" for each in workers),
            subject,
            AT_ONCE_S,
            "a worker of the job still runs",
        )


def _failure_of_the_model(subject: Subject) -> None:
    absent = subject.folder / f"absent{subject.model.path.suffix}"
    lines = [
        _line(None, *CONDITIONS),
        _line("sentinel", "open", subject.model.request()),
        _line("model", "open", subject.model.request(path=absent)),
        _line("model", "first", messages.Time(calls=1)),
        _line("sentinel", "first", messages.Time(calls=1)),
        _line(None, *CONDITIONS),
    ]
    with _left(subject, "failed", lines) as job:
        job.verb("run")
        job.ended("failed")
        told, failed = messages.ConditionsTold, (messages.Failed, messages.Refused)
        answers = job.answers()
        if not isinstance(answers.get(2), failed):
            raise Broken(f"line 2 is answered by {type(answers.get(2)).__name__}, not Failed")
        _expect(answers, told, messages.SessionOpened, type(answers[2]), None, None, told)


def _failure_of_the_sentinel(subject: Subject) -> None:
    absent = subject.folder / f"absent{subject.model.path.suffix}"
    lines = [
        _line("sentinel", "open", subject.model.request(path=absent)),
        _line("sentinel", "first", messages.Time(calls=1)),
        _line("model", "open", subject.model.request()),
        _line("model", "close", messages.Close()),
    ]
    with _left(subject, "without-sentinel", lines) as job:
        job.verb("run")
        job.ended("finished")
        answers = job.answers()
        if not isinstance(answers.get(0), messages.Failed | messages.Refused):
            raise Broken(f"line 0 is answered by {type(answers.get(0)).__name__}, not Failed")
        _expect(answers, type(answers[0]), None, messages.SessionOpened, messages.Closed)


def _timeout_of_a_line(subject: Subject) -> None:
    lines = [
        _line("model", "open", subject.model.request()),
        _line("model", "block", SLOW, 1.0),
        _line("model", "close", messages.Close()),
    ]
    with _left(subject, "late", lines) as job:
        job.verb("run")
        job.ended("failed")
        answers = job.answers()
        _expect(answers, messages.SessionOpened, messages.Failed, None)
        late = answers[1]
        if not isinstance(late, messages.Failed) or late.kind != "timeout":
            raise Broken(f"line 1 is answered by {late}")


def _time_limit(subject: Subject) -> None:
    lines = [
        _line("model", "open", subject.model.request()),
        _line("model", "block", SLOW, LONG_S),
        _line("model", "close", messages.Close()),
    ]
    with _left(subject, "limit", lines, LIMIT_S) as job:
        job.verb("run")
        job.ended("failed")
        if len(job.answers() if job.answered(1) else {}) > 1:
            raise Broken("an answer to the line that was being executed")


SCRIPTS = "Scripts"
_AFTER = ("script",)
SCRIPT_CHECKS = (
    Check(
        "script",
        SCRIPTS,
        "The requests of the script are sent in order, each answer is a line.",
        _script,
        ("time",),
    ),
    Check(
        "script-cancel",
        SCRIPTS,
        "start leaves a job running, list shows it, cancel ends it and its workers.",
        _start_and_cancel,
        _AFTER,
    ),
    Check(
        "script-failure",
        SCRIPTS,
        "After a failure of model all lines that are for a worker are skipped.",
        _failure_of_the_model,
        _AFTER,
    ),
    Check(
        "script-sentinel",
        SCRIPTS,
        "After a failure of sentinel its other lines are skipped.",
        _failure_of_the_sentinel,
        _AFTER,
    ),
    Check(
        "script-timeout",
        SCRIPTS,
        "A worker that does not respond in time is answered with failed, kind timeout.",
        _timeout_of_a_line,
        _AFTER,
    ),
    Check(
        "script-limit",
        SCRIPTS,
        "The job ends with the state failed once limit_s seconds have passed.",
        _time_limit,
        _AFTER,
    ),
)
"""Checks with a model, for a program that executes scripts."""
