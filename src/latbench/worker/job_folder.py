"""Files of a run that is left on a device alone: one folder for each job.

``docs/PROTOCOL.md`` ("Scripts") describes them. Whoever holds the lock on ``answers.jsonl`` runs
the job; a job whose lock nobody holds has ended, whatever its status says.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from latbench.errors import Failure, Stage
from latbench.schema.value import Value
from latbench.worker.messages import InferenceRequest

JOB, SCRIPT, ANSWERS, STATUS, OUTPUT, RESERVE = (
    "job.json",
    "script.jsonl",
    "answers.jsonl",
    "status.json",
    "output.txt",
    "reserve",
)
JOB_VERSION = 1
"""Version of these files. A program that knows only older ones refuses the job."""

WorkerName = Literal["model", "second", "sentinel"]
"""``second`` is the other model of a comparison. Only a script goes on without ``sentinel``."""
Role = Literal["conditions", "open", "first", "warmup", "block", "operators", "outputs", "close"]
STAGES: dict[Role, Stage] = {
    "conditions": "probe",
    "open": "open",
    "first": "warmup",
    "warmup": "warmup",
    "block": "time",
    "operators": "time",
    "outputs": "outputs",
    "close": "outputs",
}
"""Stage of a failure to answer a line."""


class ScriptLine(Value, frozen=True, kw_only=True):
    """One request of a script, in the order in which they are sent."""

    worker: WorkerName | None = None
    """Which worker it is for; ``None`` for the program that runs the script."""
    role: Role
    timeout_s: float
    request: InferenceRequest


class ScriptAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a line of the script was answered with; a line that was skipped has no answer."""

    line: int
    """Index in the script, from 0."""
    at_ns: int
    """When it was there, since the start of the script."""
    response: msgspec.Raw


class JobAbout(Value, frozen=True, kw_only=True):
    """What a job is, for whoever looks at the device."""

    version: int = JOB_VERSION
    id: str
    """Also the id of the record that it becomes."""
    what: str
    harness: str
    """``USER@HOST`` that left it."""
    lock: str
    """Path of the device's lock, which is held while the job runs."""
    created_unix_ns: int
    limit_s: float
    """The job ends after so many seconds."""
    expected_s: float
    protocol: str
    protocol_sha256: str
    artifact_sha256: str


class JobStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How far a job is. ``status.json`` is replaced as a whole."""

    state: Literal["running", "finished", "failed", "canceled"]
    pid: int
    started_unix_ns: int
    ended_unix_ns: int | None = None
    failure: Failure | None = None
    """Why the script ended early, or the failure of the model's worker."""


class FoundJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job as it is found on a device."""

    id: str
    about: JobAbout | None
    """``None`` if it cannot be read: of a newer version, or damaged."""
    status: JobStatus | None
    """``None`` if it never started."""
    running: bool
    answers_bytes: int = 0

    @property
    def state(self) -> str:
        """In one word."""
        if self.running:
            return "running"
        if self.status is None:
            return "not started"
        # Its program could not say why it ended.
        return "cut short" if self.status.state == "running" else self.status.state


def read_script(data: bytes) -> tuple[ScriptLine, ...]:
    """The lines of a script. Raises :class:`msgspec.DecodeError`."""
    decode = msgspec.json.Decoder(ScriptLine).decode
    return tuple(decode(line) for line in data.splitlines())


def write_script(lines: tuple[ScriptLine, ...]) -> bytes:
    """The content of ``script.jsonl``."""
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)


def read_answers(data: bytes) -> dict[int, ScriptAnswer]:
    """The answers by line of the script, up to the first one that was not written to its end.

    A device that is switched off may leave any bytes at the end of the file.
    """
    decode = msgspec.json.Decoder(ScriptAnswer).decode
    answers = {}
    for line in data[: data.rfind(b"\n") + 1].splitlines():
        try:
            answer = decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            break
        answers[answer.line] = answer
    return answers
