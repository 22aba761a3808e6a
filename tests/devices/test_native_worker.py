"""The native worker on a device without Python, and on this machine."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from latbench.devices.connections import find_connection
from support.command_line import Ended, in_process
from support.devices import use_home
from support.environment import TINY
from support.hosts import Host

pytestmark = [
    pytest.mark.slow,
    pytest.mark.torch,
    pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler"),
]
SHORT = (
    *("--protocol", "latbench-fixed@1", "--processes", "2"),
    *("--calls", "10", "--block-calls", "5", "--warmup", "2", "--registry", "r.db"),
)


def latbench(tmp_path: Path, *arguments: str) -> Ended:
    return in_process(list(arguments), dict(os.environ), tmp_path)


def test_a_board_without_python(
    bare: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("asyncssh", reason="needs the `ssh` extra")
    use_home(tmp_path / "home", bare, monkeypatch)
    assert latbench(tmp_path, "devices", "add", "bare", "ssh://bare").status == 0
    refused = latbench(
        tmp_path, "devices", "install", "bare", "--worker", "native", "--backend", "openvino"
    )
    assert (refused.status, "the native worker has no backend openvino" in refused.err) == (2, True)
    done = latbench(tmp_path, "devices", "install", "bare", "--worker", "native")
    if done.status == 3 and "is there a package index?" in done.err:
        pytest.skip(done.err)
    assert done.status == 0, done.err
    assert done.out.startswith("installed on bare: native worker ")
    checked = latbench(tmp_path, "devices", "check", "bare")
    assert checked.status == 0, checked.out
    assert "latbench-native" in checked.out
    run = latbench(
        tmp_path, "run", "--model", TINY, "--device", "bare", "--threads", "1", "--json", *SHORT
    )
    assert run.status == 0, run.err
    record = run.json["record"]
    assert record["environment"]["link"]["worker"].startswith("latbench-native ")
    assert record["environment"]["machine"]["hostname"] == "bare"
    assert record["runtime"]["settings"]["worker"] == "native"
    assert record["outcome"]["checks"][0]["max_rel_error"] < 1e-4
    again = latbench(tmp_path, "devices", "install", "bare")
    assert (again.status, again.err) == (0, "")
    missing = latbench(
        tmp_path,
        "run",
        "--model",
        TINY,
        "--device",
        "bare",
        "--backend",
        "torch",
        "--strict",
        *SHORT,
    )
    assert missing.status == 3
    assert "torch cannot run on bare" in missing.out


def test_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert latbench(tmp_path, "devices", "add", "native", "local://").status == 0
    done = latbench(tmp_path, "devices", "install", "native", "--worker", "native")
    assert done.status == 0, done.err
    connection = find_connection("native")
    assert connection is not None
    assert connection.installed is not None
    assert connection.installed.worker == "native"
    run = latbench(
        tmp_path, "run", "--model", TINY, "--device", "native", "--threads", "1", "--json", *SHORT
    )
    assert run.status == 0, run.err
    record = run.json["record"]
    assert record["runtime"]["settings"]["worker"] == "native"
    assert record["device"]["id"] == "native"
    assert "link" not in record["environment"]
    profiled = latbench(tmp_path, "run", "--model", TINY, "--device", "native", "--profile", *SHORT)
    assert profiled.status == 0
    assert "no times by operator" in profiled.err
