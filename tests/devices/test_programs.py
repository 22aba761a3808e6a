"""Vendors' tools on devices over ssh: with the worker and without, and whatever goes wrong."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from latbench.bench.tool_run import ToolRequest, run_tool
from latbench.devices.connections import Connection, known_connection, store_connection
from latbench.devices.opening import remote_device
from latbench.errors import StageError, UsageError
from latbench.events import Events
from latbench.schema.reported import ReportedResult
from latbench.schema.request import make_request
from support.hosts import Host, until
from support.onnx_files import classifier
from support.tool_outputs import PERF_TEST

pytest.importorskip("asyncssh", reason="needs the `ssh` extra")
pytestmark = pytest.mark.slow


def program(folder: Path, *lines: str) -> Path:
    path = folder / "perf"
    path.write_text("\n".join(("#!/bin/sh", *lines, "")))
    return path


def ran(
    folder: Path, device: str, *, warned: list[str] | None = None, **how: object
) -> ReportedResult:
    model = folder / "net.onnx"
    if not model.exists():
        classifier(model)
    how.setdefault("binary", str(folder / "perf")) if "installed" not in how else None
    return run_tool(
        make_request(str(model), device=device),
        ToolRequest(tool="onnxruntime_perf_test", **how),  # type: ignore[arg-type]
        registry=str(folder / "registry.db"),
        events=Events(warn=[].append if warned is None else warned.append),
    )


@contextmanager
def running(folder: Path, device: Host, **how: object) -> Iterator[list[Exception]]:
    """A tool that sleeps there, while the block lasts; yields what ended it."""
    program(folder, "sleep 54321 & wait")
    ended: list[Exception] = []

    def run() -> None:
        try:
            ran(folder, device.name, **how)
        except StageError as error:
            ended.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    until(lambda: device.processes("54321"))
    yield ended
    thread.join(60)
    assert not thread.is_alive()


def test_with_the_worker_of_the_device(device: Host, tmp_path: Path) -> None:
    (tmp_path / "libone.so").write_bytes(b"library")
    program(
        tmp_path, 'echo "$LD_LIBRARY_PATH"; ls "$LD_LIBRARY_PATH"', f"cat <<'END'\n{PERF_TEST}END"
    )
    entry = ran(tmp_path, device.name, libraries=(tmp_path / "libone.so",))
    run = entry.run
    assert run is not None
    assert run.machine is not None
    assert run.before is not None
    assert run.after is not None
    assert (run.device.id, run.address, run.reserved) == ("board", "ssh://board", True)
    assert run.command[0].startswith(f"{device.spec.home}/.cache/latbench/artifacts/")
    assert "\nlibone.so\n" in run.output
    assert run.output.endswith(PERF_TEST)
    # The same program, which is on the device already.
    there = ran(tmp_path, device.name, installed=run.command[0])
    assert there.run is not None
    assert there.run.program_sha256 == run.program_sha256
    with pytest.raises(StageError, match="no file /nowhere"):
        ran(tmp_path, device.name, installed="/nowhere")
    with pytest.raises(UsageError, match="absolute"):
        ran(tmp_path, device.name, installed="perf")
    # Nobody else measures meanwhile, and nothing stays behind at the time limit.
    with (
        running(tmp_path, device, timeout_s=3) as ended,
        pytest.raises(StageError, match="the device is in use by"),
    ):
        remote_device(known_connection("board"))
    assert "did not end within 3 s on board" in str(ended[0])
    assert not device.processes("54321")
    # Nor after the cable is cut.
    with running(tmp_path, device) as ended:
        device.cut()
    assert isinstance(ended[0], StageError)
    assert ended[0].failure.kind == "disconnected"
    until(lambda: not device.processes("54321"))
    device.mend()


def test_without_a_worker(device: Host, tmp_path: Path) -> None:
    store_connection(Connection(id="board", address="ssh://board"))
    program(tmp_path, f"cat <<'END'\n{PERF_TEST}END")
    warned: list[str] = []
    run = ran(tmp_path, device.name, warned=warned).run
    assert run is not None
    assert (run.machine, run.before, run.reserved) == (None, None, True)
    assert "has no worker of this latbench" in warned[0]
    with (
        running(tmp_path, device, timeout_s=3) as ended,
        pytest.raises(StageError, match=r"the device is in use by .*process"),
    ):
        ran(tmp_path, device.name)
    assert "did not end within 3 s on board" in str(ended[0])
    assert not device.processes("54321")
    # The lock is free again.
    time.sleep(0.2)
    program(tmp_path, f"cat <<'END'\n{PERF_TEST}END")
    assert ran(tmp_path, device.name).run is not None
