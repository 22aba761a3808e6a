"""Little memory, few files and processes: a command ends in words, and it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.command_line import COMMAND, QUICK, Latbench
from support.environment import python_path
from support.onnx_files import classifier

resource = pytest.importorskip("resource", reason="Windows has no such limits")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits differ elsewhere")

MB = 1_000_000
LOAD = "from latbench.cli import numerics; numerics.LOAD_TIMEOUT_S = 1; numerics.load_numpy()"
START = """
from latbench.worker import client
from latbench.worker.process import python_module
client.START_TIMEOUT_S = 1.0
client.WorkerClient(python_module("latbench.worker.inference"))
"""
ENDLESS = "import time\nwhile True:\n    time.sleep(9)\n"


def limited(**limits: int) -> Callable[[], None]:
    """What a program does before it starts: set its limits."""

    def set_limits() -> None:
        for name, limit in limits.items():
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (limit, limit))

    return set_limits


@pytest.mark.parametrize(
    ("command", "limits"),
    [
        (("--help",), {"AS": 25 * MB}),
        (("--help",), {"AS": 150 * MB}),
        (("--help",), {"NOFILE": 5}),
        (("run", *QUICK, "model.onnx"), {"AS": 50 * MB}),
        (("run", *QUICK, "model.onnx"), {"AS": 220 * MB}),
        (("run", *QUICK, "model.onnx"), {"NOFILE": 8}),
        (("run", *QUICK, "model.onnx"), {"FSIZE": 4096}),
        (("verify", "model.onnx"), {"AS": 240 * MB}),
        (("export", "model.onnx", "--no-cache"), {"DATA": 100 * MB}),
    ],
    ids=lambda each: str(each),
)
def test_a_limit_ends_in_words(
    environment: dict[str, str], tmp_path: Path, command: tuple[str, ...], limits: dict[str, int]
) -> None:
    classifier(tmp_path / "model.onnx")
    ended = subprocess.run(
        [*COMMAND, *command],
        cwd=tmp_path,
        env=environment,
        preexec_fn=limited(**limits),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode in (0, 3), ended
    assert "Traceback" not in ended.stderr
    assert "internal error" not in ended.stderr
    assert ended.stdout or ended.stderr.startswith("latbench: ")


@pytest.fixture
def endless_numpy(tmp_path: Path) -> dict[str, str]:
    """An environment in which loading numpy never ends, as OpenBLAS without memory."""
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "numpy.py").write_text(ENDLESS)
    return {**os.environ, "PYTHONPATH": python_path(tmp_path / "fake")}


def test_numpy_that_never_loads_is_given_up(endless_numpy: dict[str, str]) -> None:
    ended = subprocess.run(
        [sys.executable, "-P", "-c", LOAD],
        env=endless_numpy,
        preexec_fn=limited(AS=3000 * MB),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "not enough memory to load numpy" in ended.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_start_that_hangs_obeys_a_signal(
    endless_numpy: dict[str, str], tmp_path: Path, number: signal.Signals
) -> None:
    started = subprocess.Popen(
        [*COMMAND, "show"],
        env=endless_numpy,
        cwd=tmp_path,
        preexec_fn=limited(AS=3000 * MB),
        stderr=subprocess.PIPE,
    )
    children = Path(f"/proc/{started.pid}/task/{started.pid}/children")
    until = time.monotonic() + 60
    while not children.read_text() and time.monotonic() < until:
        time.sleep(0.01)
    started.send_signal(number)
    _, err = started.communicate(timeout=10)
    assert b"Traceback" not in err
    assert started.returncode in (3, -signal.SIGTERM)


def test_a_worker_that_cannot_load_numpy_is_ended(
    endless_numpy: dict[str, str],
) -> None:
    ended = subprocess.run(
        [sys.executable, "-P", "-c", START],
        env=endless_numpy,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "no response within 1 s" in ended.stderr


def test_harness_threads_are_not_those_of_other_programs(latbench: Latbench) -> None:
    assert latbench("doctor").status in (0, 1)
    assert "OPENBLAS_NUM_THREADS" not in os.environ
