"""Execution of a script on the device itself: a harness that reads requests from a file."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO

import msgspec

from latbench.clock import now_ns
from latbench.errors import Failure, StageError, UsageError
from latbench.worker import job_folder as files
from latbench.worker import messages
from latbench.worker.agent import answer_about_machine, take_lock
from latbench.worker.client import WorkerClient
from latbench.worker.process import WORKER, python_module

_Response = messages.Message | messages.Failed
LOCK_WAIT_S = 15.0
"""The harness that leaves a job held the lock until a moment ago."""
RESERVED_BYTES = 2**16
"""Kept free for the last status, which a full disk would not take."""
EXPECTED: dict[files.Role, type[messages.Message]] = {
    "open": messages.SessionOpened,
    "first": messages.BlockTimed,
    "warmup": messages.BlockTimed,
    "block": messages.BlockTimed,
    "operators": messages.OperatorsTimed,
    "outputs": messages.OutputsGiven,
    "close": messages.Closed,
}


class ScriptRun:
    """The execution of one script."""

    def __init__(self, folder: Path, about: files.JobAbout, answers: IO[bytes]) -> None:
        self._folder = folder
        self._about = about
        self._answers = answers
        self._begun_ns = now_ns()
        self._begun_unix_ns = time.time_ns()
        self._workers: dict[str, WorkerClient] = {}
        self._ended: set[str] = set()
        """Workers that have failed: their other lines are skipped."""
        self._failure: Failure | None = None

    def run(self) -> None:
        """Execute the script to its end, or up to a failure, and say how it ended."""
        folder, about = self._folder, self._about
        canceled = False
        try:
            self._reserve()
            (folder / files.RESERVE).write_bytes(bytes(RESERVED_BYTES))
            self._say("running")
            lines = files.read_script((folder / files.SCRIPT).read_bytes())
            with ExitStack() as exits:
                exits.callback(self._end_workers)
                for number, line in enumerate(lines):
                    if not self._failure or line.worker is None:
                        self._execute(number, line)
        except StageError as error:
            self._failure = error.failure
        except (OSError, msgspec.DecodeError) as error:
            what = error.strerror or str(error) if isinstance(error, OSError) else str(error)
            self._failure = Failure(
                stage="time",
                kind="error",
                message=f"the job {about.id} could not go on: {what}",
                hint="free space on the device" if isinstance(error, OSError) else None,
            )
        except KeyboardInterrupt:
            canceled = True
        (folder / files.RESERVE).unlink(missing_ok=True)
        self._say("canceled" if canceled else "failed" if self._failure else "finished")

    def _reserve(self) -> None:
        """Take the device's lock. Raises :class:`StageError`."""
        since = time.strftime("%Y-%m-%d %H:%M:%S %z")
        owner = f"the job {self._about.id} of {self._about.harness}, running since {since}"
        until = time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                take_lock(Path(self._about.lock), owner)
                return
            except StageError as error:
                if error.kind != "unavailable" or time.monotonic() >= until:
                    raise
            time.sleep(0.2)

    def _execute(self, number: int, line: files.ScriptLine) -> None:
        name = line.worker
        left_s = self._about.limit_s - (now_ns() - self._begun_ns) / 1e9
        if name is None:
            self._write(number, _answered(lambda: _about_machine(line.request)))
        elif left_s <= 0:
            self._out_of_time()
        elif name not in self._ended:
            response = _answered(lambda: self._asked(name, line, min(line.timeout_s, left_s)))
            if isinstance(response, messages.Failed | messages.Refused):
                self._ended.add(name)
                self._end(name)
                timeout = isinstance(response, messages.Failed) and response.kind == "timeout"
                if timeout and left_s < line.timeout_s:
                    self._out_of_time()
                    return
                if name != "sentinel":
                    self._failure = _failure_of(response)
            self._write(number, response)
            if line.role == "close":
                self._end(name)
                # Between processes, a slow disk disturbs nothing.
                os.fsync(self._answers.fileno())

    def _asked(self, name: str, line: files.ScriptLine, timeout_s: float) -> messages.Message:
        for other, worker in self._workers.items():
            if other != name:
                worker.pause()
        if name not in self._workers:
            self._workers[name] = WorkerClient(python_module(WORKER))
        expected, stage = EXPECTED[line.role], files.STAGES[line.role]
        return self._workers[name].ask(line.request, expected, stage=stage, timeout_s=timeout_s)

    def _out_of_time(self) -> None:
        self._failure = Failure(
            stage="time",
            kind="timeout",
            message=f"the job was not done within its time limit of {self._about.limit_s:g} s",
            hint="what was measured until then is in the record",
        )

    def _write(self, number: int, response: _Response) -> None:
        raw = msgspec.Raw(msgspec.json.encode(response))
        answer = files.ScriptAnswer(line=number, at_ns=now_ns() - self._begun_ns, response=raw)
        self._answers.write(msgspec.json.encode(answer) + b"\n")
        self._answers.flush()

    def _end(self, name: str) -> None:
        worker = self._workers.pop(name, None)
        if worker is not None:
            worker.__exit__(None, None, None)

    def _end_workers(self) -> None:
        for name in list(self._workers):
            self._end(name)

    def _say(self, state: str) -> None:
        """Replace the status; if even that does not fit, the lock on the answers says enough."""
        ended = None if state == "running" else time.time_ns()
        status = {
            "state": state,
            "pid": os.getpid(),
            "started_unix_ns": self._begun_unix_ns,
            "ended_unix_ns": ended,
            "failure": self._failure,
        }
        beside = self._folder / f"{files.STATUS}.part"
        with suppress(OSError):
            with beside.open("wb") as file:
                file.write(msgspec.json.encode(status))
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._folder / files.STATUS)


def _about_machine(request: messages.InferenceRequest) -> _Response:
    """Answer a line that is for no worker."""
    if not isinstance(request, messages.ReadConditions | messages.DescribeMachine):
        raise UsageError(f"a script cannot ask {type(request).__name__} of the program itself")
    return answer_about_machine(request)


def _answered(action: Callable[[], _Response]) -> _Response:
    """The response, or the failure as one."""
    try:
        return action()
    except StageError as error:
        return messages.Failed.of(error.failure)
    except UsageError as error:
        return messages.Refused(message=error.message, hint=error.hint)


def _failure_of(response: messages.Failed | messages.Refused) -> Failure:
    if isinstance(response, messages.Failed):
        return response.failure
    return Failure(stage="open", kind="error", message=response.message, hint=response.hint)
