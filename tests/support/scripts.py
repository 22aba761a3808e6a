"""The two programs that execute scripts on a device, each with scripts that it can execute."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from latbench.errors import LatbenchError
from latbench.schema.artifact import Artifact
from latbench.worker import messages
from latbench.worker.job_folder import FoundJob, JobStatus, Role, ScriptLine, read_answers
from latbench.worker.script import MODULE, look_at
from support import onnx_files
from support.bench import fake_job, until_ended
from support.native_talk import open_fields, spec

Fault = Literal["hang", "error"]
"""What goes wrong in each inference of a model."""
MS = 1_000_000
CALLS = 5


@dataclass(frozen=True)
class ScriptProgram:
    """One of the programs: its command line, and the model that a script opens."""

    command: Sequence[str]
    model: Callable[[Path, Fault | None], messages.Open]
    worker: str
    """In the command line of its workers."""
    variables: dict[str, str] = field(default_factory=dict)

    def verb(self, verb: str, folder: Path) -> subprocess.CompletedProcess[str]:
        """Execute a verb; it ends within a minute."""
        return subprocess.run(
            [*self.command, verb, str(folder)],
            env={**os.environ, **self.variables},
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def start(self, place: Path) -> JobStatus:
        """Start a job. Raises :class:`LatbenchError` with what is printed."""
        return msgspec.json.decode(self._told("start", place), type=JobStatus)

    def cancel(self, place: Path) -> FoundJob:
        """End a job. Raises :class:`LatbenchError` with what is printed."""
        return msgspec.json.decode(self._told("cancel", place), type=FoundJob)

    def listed(self, folder: Path) -> list[FoundJob]:
        """The jobs in a folder."""
        lines = self._told("list", folder).splitlines()
        return [msgspec.json.decode(line, type=FoundJob) for line in lines]

    def script(self, folder: Path, blocks: int, fault: Fault | None = None) -> Script:
        """One process with so many blocks of 0.1 s."""
        block = messages.Time(calls=CALLS, period_ns=20 * MS)
        return (
            CONDITIONS,
            line("open", self.model(folder, fault)),
            line("first", messages.Time(calls=1)),
            *[line("block", block)] * blocks,
            line("outputs", messages.Outputs()),
            line("close", messages.Close()),
            CONDITIONS,
        )

    def workers(self, pid: int) -> list[int]:
        """Its workers."""
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(child) for child in children if self._is_worker(child)]

    def _is_worker(self, pid: str) -> bool:
        return self.worker in Path(f"/proc/{pid}/cmdline").read_bytes().decode()

    def _told(self, verb: str, folder: Path) -> str:
        done = self.verb(verb, folder)
        if done.returncode != 0:
            raise LatbenchError(done.stderr.strip())
        return done.stdout


Script = tuple[ScriptLine, ...]


def line(
    role: Role,
    asked: messages.InferenceRequest,
    *,
    worker: Literal["model", "sentinel"] = "model",
    timeout_s: float = 20,
) -> ScriptLine:
    """A line for a worker."""
    return ScriptLine(worker=worker, role=role, timeout_s=timeout_s, request=asked)


CONDITIONS = ScriptLine(role="conditions", timeout_s=9, request=messages.ReadConditions())


def python_scripts() -> ScriptProgram:
    """The program of this checkout, with models of the fake backend."""

    def model(folder: Path, fault: Fault | None) -> messages.Open:
        extra = {"misbehave": fault, "at": "warmup"} if fault else {}
        return fake_job(folder, MS, real_time="yes", **extra).request(process=0)

    command = (sys.executable, "-P", "-m", MODULE)
    return ScriptProgram(command, model, "latbench.worker.inference")


def native_scripts(program: Path, variables: dict[str, str]) -> ScriptProgram:
    """The native program, with ONNX files."""
    files = {
        None: onnx_files.identity,
        "hang": onnx_files.endless,
        "error": onnx_files.out_of_range,
    }

    def model(folder: Path, fault: Fault | None) -> messages.Open:
        path = files[fault](folder / f"{fault}.onnx")
        sizes = (1,) if fault == "error" else (4,)
        fields: dict[str, Any] = open_fields(path, [spec("x", 4)], [spec("y", *sizes)])
        artifact = msgspec.convert(fields.pop("artifact"), Artifact)
        return messages.Open(artifact=artifact, **fields)

    return ScriptProgram((str(program), "script"), model, str(program), variables)


def until_answers(place: Path, number: int) -> None:
    """Wait for so many answers."""
    end = time.monotonic() + 60
    while len(read_answers((place / "answers.jsonl").read_bytes())) < number:
        assert time.monotonic() < end
        time.sleep(0.02)


def ended(place: Path) -> JobStatus:
    """Wait for the end of a job; its last status."""
    until_ended(place)
    status = look_at(place).status
    assert status is not None
    return status


def until_gone(pid: int) -> None:
    """Wait for the end of a process."""
    end = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < end
        time.sleep(0.02)


def kill(pid: int) -> None:
    """End a process as the kernel does for lack of memory."""
    os.kill(pid, signal.SIGKILL)
