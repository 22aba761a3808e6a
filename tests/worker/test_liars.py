"""Workers that lie, babble without end or leave programs behind."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from latbench.errors import StageError
from latbench.worker import messages
from latbench.worker.client import WorkerClient
from latbench.worker.process import LocalProgram

HELLO: dict[str, Any] = {
    "type": "hello",
    "protocol": messages.VERSION,
    "program": "liar",
    "version": "0",
    "pid": 1,
}
OPENED: dict[str, Any] = {
    "type": "opened",
    "load_ns": 1,
    "version": "1",
    "settings": {},
    "placement": {"units": {"CPU": 1}, "known": "proven"},
}
TIMED: dict[str, Any] = {"type": "timed", "start_ns": 0, "sample_ns": [5]}
GIVEN: dict[str, Any] = {"type": "outputs_given", "tensors": [], "peak_rss_bytes": None}
READINGS: dict[str, Any] = dict.fromkeys(
    (
        *("wall_ns", "cpu_ns", "wait_ns", "involuntary_switches", "others_ns", "steal_ns"),
        *("throttled_ns", "frequency_khz", "temperature_mc"),
    ),
    1,
)
TOO_LARGE = 2**70
linux = pytest.mark.skipif(sys.platform != "linux", reason="processes are marked on Linux only")


def says(*lines: str, then: str = "") -> LocalProgram:
    """A program that sends a line for each line that it reads, after a greeting."""
    text = (
        "import sys, os, time\n"
        f"print({json.dumps(HELLO)!r}, flush=True)\n"
        f"for line in {lines!r}:\n    input(); print(line, flush=True)\n"
        f"{then}\n"
        "sys.stdin.read()\n"
    )
    return LocalProgram([sys.executable, "-c", text])


def ask(answer: str, expect: type[messages.Message]) -> StageError:
    with WorkerClient(says(answer)) as program, pytest.raises(StageError) as caught:
        program.ask(messages.Time(calls=1), expect, stage="time", timeout_s=60)
    assert program.ended
    return caught.value


@pytest.mark.parametrize(
    ("expect", "honest", "lie"),
    [
        (messages.SessionOpened, OPENED, {"load_ns": TOO_LARGE}),
        (messages.SessionOpened, OPENED, {"load_ns": 1.5}),
        (messages.SessionOpened, OPENED, {"load_ns": None}),
        (messages.SessionOpened, OPENED, {"load_ns": True}),
        (messages.SessionOpened, OPENED, {"settings": {"threads": 1}}),
        (messages.SessionOpened, OPENED, {"settings": None}),
        (messages.SessionOpened, OPENED, {"placement": None}),
        (
            messages.SessionOpened,
            OPENED,
            {"placement": {"units": {"CPU": TOO_LARGE}, "known": "x"}},
        ),
        (
            messages.SessionOpened,
            OPENED,
            {"placement": {"units": {"CPU": TOO_LARGE}, "known": "proven"}},
        ),
        (messages.BlockTimed, TIMED, {"sample_ns": [TOO_LARGE]}),
        (messages.BlockTimed, TIMED, {"sample_ns": [1, None]}),
        (messages.BlockTimed, TIMED, {"sample_ns": "5"}),
        (messages.BlockTimed, TIMED, {"start_ns": -TOO_LARGE}),
        (messages.BlockTimed, TIMED, {"readings": {"wall_ns": 1}}),
        (messages.BlockTimed, TIMED, {"readings": READINGS | {"cpu_ns": TOO_LARGE}}),
        (messages.BlockTimed, TIMED, {"readings": READINGS | {"cpu_ns": 0.5}}),
        (messages.BlockTimed, TIMED, {"beside_ns": {"call": [TOO_LARGE]}}),
        (messages.OutputsGiven, GIVEN, {"peak_rss_bytes": TOO_LARGE}),
        (messages.OutputsGiven, GIVEN, {"peak_rss_bytes": -1}),
        (messages.OutputsGiven, GIVEN, {"tensors": [{"dtype": "float32", "shape": [1]}]}),
        (
            messages.OutputsGiven,
            GIVEN,
            {"tensors": [{"dtype": "float32", "shape": [1], "data": "not base64!"}]},
        ),
    ],
)
def test_a_lie_is_a_crash(
    expect: type[messages.Message], honest: dict[str, Any], lie: dict[str, Any]
) -> None:
    assert msgspec.json.decode(json.dumps(honest), type=expect)
    failed = ask(json.dumps(honest | lie), expect)
    assert failed.kind == "crash"
    assert "not a message" in failed.message


@pytest.mark.parametrize(
    "line",
    [
        '{"type":"timed","start_ns":0,"sample_ns":[NaN]}',
        '{"type":"timed","start_ns":0,"sample_ns":[1e999]}',
        '{"type":"timed","start_ns":0,"sample_ns":[5],"more":' + "[" * 20_000 + "]" * 20_000 + "}",
        "[" * 20_000,
        '{"type":"timed","start_ns":0,"sample_ns":[5]} and more',
        "",
    ],
    ids=["nan", "infinity", "deep", "open", "more", "empty"],
)
def test_what_is_not_a_message_is_a_crash(line: str) -> None:
    assert ask(line, messages.BlockTimed).kind == "crash"


@linux
def test_a_line_without_end_is_read_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages.Message, "LONGEST_BYTES", 100_000)
    endless = says(then="input()\nwhile True: os.write(1, b'x' * 65536)")
    with WorkerClient(endless) as program, pytest.raises(StageError) as caught:
        program.ask(messages.Time(calls=1), messages.BlockTimed, stage="time", timeout_s=60)
    assert caught.value.kind == "crash"
    assert "more than 100,000 bytes as one message" in caught.value.message


def test_lines_that_nobody_asked_for_are_not_read() -> None:
    """They would fill the memory of the harness; the pipe stops the program instead."""
    babble = says(then="while True: print('{}', flush=False)")
    with WorkerClient(babble) as program:
        time.sleep(0.3)
        assert program._lines.empty()


@linux
@pytest.mark.parametrize("ending", ["", "os._exit(3)"], ids=["hangs", "exits"])
def test_a_program_in_a_session_of_its_own_ends_too(tmp_path: Path, ending: str) -> None:
    """It also keeps the output open, which must not look like a program that is still alive."""
    pid_file = tmp_path / "pid"
    leaves = says(
        then="import subprocess\n"
        "input()\n"
        "child = subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
        f"open({str(pid_file)!r}, 'w').write(str(child.pid))\n" + ending
    )
    with WorkerClient(leaves) as program, pytest.raises(StageError) as caught:
        program.ask(
            messages.Time(calls=1), messages.BlockTimed, stage="time", timeout_s=20 if ending else 2
        )
    assert caught.value.kind == ("crash" if ending else "timeout")
    assert ("status 3" in caught.value.message) == bool(ending)
    until = time.monotonic() + 5
    while Path(f"/proc/{pid_file.read_text()}/environ").exists():
        state = Path(f"/proc/{pid_file.read_text()}/stat").read_text().rpartition(")")[2].split()[0]
        if state == "Z":  # Nobody reaps it here; an init process does elsewhere.
            break
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_program_does_not_see_the_registrys_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LATBENCH_REGISTRY", "postgresql://user:secret@host/database")
    text = f"print({json.dumps(HELLO)!r}.replace('liar', str('LATBENCH_REGISTRY' in os.environ)))"
    with WorkerClient(LocalProgram([sys.executable, "-c", f"import os; {text}"])) as program:
        assert program.hello.program == "False"
    assert os.environ["LATBENCH_REGISTRY"]
