"""Jobs that the program for Macs executes as the app does: whole, and a part in each process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from latbench.worker import messages
from latbench.worker.job_folder import JobAbout, JobStatus, ScriptAnswer, read_answers, read_script
from support.coreml import convolution, write_program
from support.native_talk import open_fields, spec

pytestmark = [pytest.mark.slow, pytest.mark.torch]

X, Y = spec("x", 1, 3, 8, 8), spec("y", 1, 4, 6, 6)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the models ``good`` and ``endless``'s input."""
    folder = tmp_path_factory.mktemp("device")
    write_program(convolution, folder / "good.mlpackage", (1, 3, 8, 8))
    np.savez(folder / "endless.npz", x=np.full((1, 3, 8, 8), np.inf, np.float32))
    return folder


def line(worker: str | None, role: str, timeout_s: float = 60, **request: Any) -> dict[str, Any]:
    return {"worker": worker, "role": role, "timeout_s": timeout_s, "request": request}


def opening(worker: str, path: str = "good.mlpackage", **changes: Any) -> dict[str, Any]:
    # Relative to the folder of the jobs, since nobody knows where an app's container is.
    made = open_fields(path, [X], [Y], format="coreml", backend="coreml", **changes)
    return line(worker, "open", type="open", **made)


def process(worker: str) -> list[dict[str, Any]]:
    return [
        opening(worker),
        line(worker, "first", type="time", calls=1),
        line(worker, "block", type="time", calls=4, settle=1),
        line(worker, "outputs", type="outputs"),
        line(worker, "close", type="close"),
    ]


BOTH = [
    line(None, "conditions", type="conditions"),
    *process("model")[:2],
    opening("sentinel"),
    line("sentinel", "first", type="time", calls=1),
    *process("model")[2:],
    line("sentinel", "block", type="time", calls=3),
    line("sentinel", "close", type="close"),
    *process("model"),
    line(None, "conditions", type="conditions"),
]


def put(base: Path, id: str, lines: Sequence[dict[str, Any]], **changes: Any) -> Path:
    about = {
        **{"id": id, "what": "a model", "harness": "me@here", "lock": ""},
        **{"created_unix_ns": 1, "limit_s": 100.0, "expected_s": 1.0, "protocol": "p@1"},
        **{"protocol_sha256": "", "artifact_sha256": "", **changes},
    }
    folder = base / "jobs" / id
    folder.mkdir(parents=True)
    (folder / "job.json").write_bytes(msgspec.json.encode(JobAbout(**about)))
    (folder / "script.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    assert len(read_script((folder / "script.jsonl").read_bytes())) == len(lines)
    return folder


def run(
    command: Sequence[str], folder: Path, lines: str | None = None
) -> subprocess.CompletedProcess[str]:
    part = () if lines is None else ("--lines", lines)
    return subprocess.run(
        [*command, "script", "run", str(folder), *part],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def status(folder: Path) -> JobStatus:
    return msgspec.json.decode((folder / "status.json").read_bytes(), type=JobStatus)


def answers(folder: Path) -> dict[int, ScriptAnswer]:
    return read_answers((folder / "answers.jsonl").read_bytes())


def told(answer: ScriptAnswer) -> messages.Response:
    return messages.decode_response(bytes(answer.response))


def peaks(found: dict[int, ScriptAnswer]) -> list[int | None]:
    given = [told(answer) for answer in found.values()]
    return [each.peak_rss_bytes for each in given if isinstance(each, messages.OutputsGiven)]


def test_a_job_is_executed_whole(apple: Sequence[str], base: Path) -> None:
    folder = put(base, "whole", BOTH, lock="lock")
    done = run(apple, folder)
    assert (done.returncode, done.stdout) == (0, f"finished: lines 0:{len(BOTH)}\n"), done
    found = answers(folder)
    assert list(found) == list(range(len(BOTH)))
    times = [answer.at_ns for answer in found.values()]
    assert times == sorted(times)
    kinds = [type(told(answer)).__name__ for answer in found.values()]
    assert "Failed" not in kinds
    assert kinds.count("SessionOpened") == 3
    # Memory is the process's: only what the first model reached before the next one is its own.
    assert peaks(found)[0] is not None
    assert peaks(found)[1] is None
    opened = told(found[1])
    assert isinstance(opened, messages.SessionOpened)
    # Model and sentinel share one process here, which no harness would guess.
    assert opened.settings["processes"] == "one"
    end = status(folder)
    assert (end.state, end.failure) == ("finished", None)
    assert end.ended_unix_ns is not None
    assert end.started_unix_ns < end.ended_unix_ns
    again = run(apple, folder)
    assert (again.returncode, "has run already" in again.stdout) == (1, True)
    assert status(folder) == end


def test_a_job_is_executed_in_parts(apple: Sequence[str], base: Path) -> None:
    folder = put(base, "parts", BOTH)
    borders = [0, 10, 15, len(BOTH)]
    for first, last in pairwise(borders):
        done = run(apple, folder, f"{first}:{last}")
        assert (done.returncode, done.stdout) == (0, f"finished: lines {first}:{last}\n"), done
    found = answers(folder)
    assert list(found) == list(range(len(BOTH)))
    times = [answer.at_ns for answer in found.values()]
    assert times == sorted(times)
    assert None not in peaks(found)
    opened = told(found[10])
    assert isinstance(opened, messages.SessionOpened)
    assert opened.settings["processes"] == "one for each part of the script"
    for lines, words in (("0:3", "has run already"), ("5:6", "has been executed already")):
        assert words in run(apple, folder, lines).stdout
    for wrong in ("3:1", "x", "1:2:3", "-1:2"):
        assert run(apple, folder, wrong).returncode == 1
    assert "has 16 lines" in run(apple, put(base, "short", BOTH), "0:99").stdout


def test_a_failure_ends_what_it_must(apple: Sequence[str], base: Path) -> None:
    """One of the sentinel ends the sentinel, one of the model all workers."""
    lines = [
        opening("sentinel", "absent.mlpackage"),
        *process("model"),
        line("sentinel", "block", type="time", calls=1),
        opening("model", extra={"compute_units": "fast"}),
        line("model", "first", type="time", calls=1),
        line(None, "conditions", type="conditions"),
    ]
    folder = put(base, "failing", lines)
    assert run(apple, folder, "0:7").returncode == 0
    done = run(apple, folder, f"7:{len(lines)}")
    assert (done.returncode, "cannot be 'fast'" in done.stdout) == (1, True)
    found = answers(folder)
    assert set(found) == set(range(len(lines))) - {6, 8}
    assert isinstance(told(found[0]), messages.Failed)
    end = status(folder)
    assert end.failure is not None
    assert (end.state, end.failure.stage) == ("failed", "open")


def test_what_takes_too_long_ends_the_process(apple: Sequence[str], base: Path) -> None:
    x = {**X, "content": "sha256:0"}
    artifact = open_fields("", [x], [Y], format="coreml")["artifact"]
    endless = opening("model", inputs="endless.npz", artifact=artifact)
    for id, late, limit_s, words in (
        ("late", 1.5, 100.0, "no response within 1.5 s"),
        ("limited", 60, 3.0, "within its time limit of 3 s"),
    ):
        lines = [endless, line("model", "first", late, type="time", calls=1)]
        folder = put(base, id, lines, limit_s=limit_s)
        done = run(apple, folder)
        assert done.returncode == 1, done
        end = status(folder)
        assert end.failure is not None
        assert (end.state, end.failure.kind) == ("failed", "timeout")
        assert words in end.failure.message
        # The line that the time limit ends has no answer.
        assert (1 in answers(folder)) == (id == "late")


def test_a_job_that_is_killed_or_canceled(apple: Sequence[str], base: Path) -> None:
    slow = line("model", "block", type="time", calls=1000, period_ns=100_000_000)
    lines = [*process("model"), opening("model"), slow, *process("model")]
    for id, number in (("canceled", signal.SIGTERM), ("killed", signal.SIGKILL)):
        folder = put(base, id, lines, lock="lock")
        with subprocess.Popen(
            [*apple, "script", "run", str(folder)], stdout=subprocess.DEVNULL
        ) as job:
            until = time.monotonic() + 100
            while not (folder / "answers.jsonl").exists() or 5 not in answers(folder):
                assert time.monotonic() < until
                time.sleep(0.05)
            assert "is running already" in run(apple, folder).stdout
            os.kill(job.pid, number)
            job.wait(timeout=20)
        assert len(answers(folder)) == 6
        assert status(folder).state == ("canceled" if number == signal.SIGTERM else "running")
    # As a phone that was switched off leaves it: what is not whole does not count.
    with (folder / "answers.jsonl").open("ab") as file:
        file.write(b'{"line": 6, "at_ns"')
    assert run(apple, folder, f"7:{len(lines)}").returncode == 0
    assert set(answers(folder)) == set(range(len(lines))) - {6}


def test_a_job_that_cannot_begin(apple: Sequence[str], base: Path) -> None:
    damaged = put(base, "damaged", BOTH)
    (damaged / "script.jsonl").write_text('{"worker": "model"\n')
    newer = put(base, "newer", BOTH, version=2)
    for folder, words in ((damaged, "cannot be read"), (newer, "of a newer latbench")):
        assert words in run(apple, folder).stdout
        end = status(folder)
        assert end.failure is not None
        assert (end.state, words in end.failure.message) == ("failed", True)
