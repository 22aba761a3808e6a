"""Cut cables, killed programs and a second harness: the right record, and nobody left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import pytest

import latbench
from latbench.events import SILENT, Events
from latbench.schema.protocol_catalog import FIXED
from latbench.schema.record import Record
from support.broken_links import at_round, disconnected, no_orphans
from support.environment import child_environment
from support.hosts import Host

SHORT = msgspec.structs.replace(
    FIXED, processes=2, max_processes=2, warmup_calls=3, min_calls=40, block_calls=5
)
"""Two processes of eight blocks."""
pytestmark = pytest.mark.slow
WORKER = "latbench.worker.inference"


def measured(tmp_path: Path, events: Events = SILENT, **options: str) -> Record:
    """A run of the fake backend on the device ``board``, in which calls take their time."""
    result = latbench.run(
        "mobilevig_ti",
        backend="fake",
        device="board",
        options={"real_time": "yes", **options},
        protocol=SHORT,
        registry=str(tmp_path / "registry.db"),
        events=events,
    )
    return result.record


def test_a_run_on_a_device(device: Host, tmp_path: Path) -> None:
    record = measured(tmp_path)
    assert record.outcome.status == "measured"
    assert record.device.id == "board"
    assert record.environment.machine.hostname == "board"
    link = record.environment.link
    assert link is not None
    assert link.address == "ssh://board"
    assert link.harness.hostname == os.uname().nodename
    assert link.harness.identity != record.environment.machine.identity
    no_orphans(device, WORKER)


def test_a_cut_cable_keeps_what_was_measured(device: Host, tmp_path: Path) -> None:
    record = measured(tmp_path, at_round(3, device.cut))
    disconnected(record)
    no_orphans(device, WORKER)
    device.mend()
    assert measured(tmp_path).outcome.status == "measured"


def test_a_power_cut_keeps_what_was_measured(device: Host, tmp_path: Path) -> None:
    record = measured(tmp_path, at_round(3, device.stop))
    disconnected(record)
    device.start()
    assert measured(tmp_path).outcome.status == "measured"


def test_a_reboot_keeps_what_was_measured(device: Host, tmp_path: Path) -> None:
    record = measured(tmp_path, at_round(3, device.reboot))
    disconnected(record)
    assert measured(tmp_path).outcome.status == "measured"


@pytest.mark.parametrize("stage", ["open", "warmup", "outputs"])
def test_a_cable_that_is_cut_while_the_worker_is_busy(
    device: Host, tmp_path: Path, stage: str
) -> None:
    """It hangs there; the harness knows only that its connection has gone silent."""

    def cut() -> None:
        until_workers(device, 2)
        time.sleep(2)
        device.cut()

    thread = threading.Thread(target=cut)
    thread.start()
    record = measured(tmp_path, misbehave="hang", at=stage)
    thread.join()
    failure = record.outcome.failure
    assert failure is not None
    assert (failure.kind, failure.stage) == ("disconnected", stage)
    no_orphans(device, WORKER)
    device.mend()
    assert measured(tmp_path).outcome.status == "measured"


def until_workers(host: Host, number: int) -> list[int]:
    """Wait for so many workers, the agent among them; their processes there, the oldest first."""
    end = time.monotonic() + 60
    while len(found := host.processes(WORKER)) < number:
        assert time.monotonic() < end
        time.sleep(0.02)
    return [each.pid for each in found]


def kill(host: Host, which: int) -> None:
    """Kill the agent (0) or the first worker (1)."""
    device_pid = until_workers(host, 2)[which]
    host.inside("kill", "-9", str(device_pid))


def test_a_killed_agent_costs_nothing_that_was_measured(device: Host, tmp_path: Path) -> None:
    record = measured(tmp_path, at_round(3, lambda: kill(device, 0)))
    assert record.outcome.status in ("measured", "failed")
    assert record.outcome.traces[0].blocks
    assert record.environment.after is None
    no_orphans(device, WORKER)
    assert measured(tmp_path).outcome.status == "measured"


def test_a_killed_worker_is_a_failure(device: Host, tmp_path: Path) -> None:
    record = measured(tmp_path, at_round(3, lambda: kill(device, 1)))
    failure = record.outcome.failure
    assert failure is not None
    assert (failure.kind, failure.stage) == ("crash", "time")
    assert "SIGKILL" in failure.message
    assert record.outcome.traces[0].blocks
    no_orphans(device, WORKER)
    assert measured(tmp_path).outcome.status == "measured"


def started(tmp_path: Path, *options: str) -> subprocess.Popen[str]:
    """``latbench run`` on the device, as a program."""
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "latbench", "run", "--model", "mobilevig_ti"),
            *("--backend", "fake", "--device", "board", "--option", "real_time=yes", *options),
            *("--registry", str(tmp_path / "registry.db")),
        ],
        env=child_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_harness_leaves_nobody_behind(
    device: Host, tmp_path: Path, number: signal.Signals
) -> None:
    """Also when one worker is stopped while another one has its turn."""
    harness = started(tmp_path)
    until_workers(device, 3)
    time.sleep(1)
    harness.send_signal(number)
    harness.communicate(timeout=30)
    no_orphans(device, WORKER)
    assert measured(tmp_path).outcome.status == "measured"


def test_a_harness_that_is_stopped_leaves_nobody_behind(device: Host, tmp_path: Path) -> None:
    """It says nothing for too long, though its connection is open."""
    harness = started(tmp_path)
    until_workers(device, 3)
    harness.send_signal(signal.SIGSTOP)
    no_orphans(device, WORKER)
    harness.send_signal(signal.SIGCONT)
    _, said = harness.communicate(timeout=60)
    assert harness.returncode == 3, said


def test_a_second_harness_is_refused(device: Host, tmp_path: Path) -> None:
    harness = started(tmp_path, "--budget", "60")
    until_workers(device, 3)
    record = measured(tmp_path)
    failure = record.outcome.failure
    assert failure is not None
    assert (failure.kind, failure.stage) == ("unavailable", "probe")
    assert f"in use by {os.environ.get('USER', 'root')}@" in failure.message
    harness.terminate()
    harness.communicate(timeout=30)
    assert measured(tmp_path).outcome.status == "measured"
