"""Vendors' tools over adb, with the worker and without."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from latbench.bench.tool_run import ToolRequest, run_tool
from latbench.devices.connections import known_connection, store_connection
from latbench.errors import StageError
from latbench.schema.reported import ReportedResult
from latbench.schema.request import make_request
from support import phones
from support.devices import use_home
from support.hosts import Host
from support.onnx_files import classifier
from support.tool_outputs import PERF_TEST

pytestmark = pytest.mark.slow


def ran(folder: Path, *lines: str, timeout_s: float = 60) -> ReportedResult:
    program = folder / "perf"
    program.write_text("\n".join(("#!/bin/sh", *lines, "")))
    return run_tool(
        make_request(str(classifier(folder / "net.onnx")), device="pixel"),
        ToolRequest(tool="onnxruntime_perf_test", binary=str(program), timeout_s=timeout_s),
        registry=str(folder / "registry.db"),
    )


def test_a_tool_over_adb(phone: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_home(tmp_path / "home", None, monkeypatch)
    phones.add_with_native(phone, "pixel")
    text = f"cat <<'END'\n{PERF_TEST}END"
    run = ran(tmp_path, text).run
    assert run is not None
    assert run.machine is not None
    assert (run.reserved, run.output) == (True, PERF_TEST)
    assert run.command[0].startswith("/data/local/tmp/")
    with pytest.raises(StageError, match="did not end within 2 s on pixel"):
        ran(tmp_path, "sleep 54321 & wait", timeout_s=2)
    assert not phone.processes("54321")
    # Without a worker, the phone's own flock reserves it.
    store_connection(msgspec.structs.replace(known_connection("pixel"), installed=None))
    run = ran(tmp_path, text).run
    assert run is not None
    assert (run.machine, run.reserved, run.output) == (None, True, PERF_TEST)
    with pytest.raises(StageError, match="ended with status 3 on pixel: bad flag"):
        ran(tmp_path, "echo bad flag; exit 3")
