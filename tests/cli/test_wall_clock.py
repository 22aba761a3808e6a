"""The wall clock jumps while latbench measures."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.command_line import QUICK, Latbench
from support.environment import python_path
from support.onnx_files import classifier

HOUR_NS = 3600 * 10**9
JUMP = """
import sys
import time

real, read = time.time_ns, 0


def time_ns():
    global read
    now_ns = real() + ({jump} if read >= {after} else 0)
    read += sys._getframe(1).f_globals["__name__"] == "latbench.host.info"
    return now_ns


time.time_ns = time_ns
time.time = lambda: time_ns() / 1e9
"""
"""A clock that jumps after so many readings of a machine's conditions."""


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_jump_changes_no_duration(latbench: Latbench, tmp_path: Path, hours: int) -> None:
    classifier(tmp_path / "model.onnx")
    (tmp_path / "clock").mkdir()
    (tmp_path / "clock" / "sitecustomize.py").write_text(JUMP.format(jump=hours * HOUR_NS, after=2))
    changed = {"PYTHONPATH": python_path(tmp_path / "clock")}
    ended = latbench("run", *QUICK, "model.onnx", "--json", **changed)
    assert ended.status == 0, ended
    record = ended.json["record"]
    before, after = (record["environment"][each]["unix_ns"] for each in ("before", "after"))
    assert abs(after - before - hours * HOUR_NS) < HOUR_NS / 10
    for trace in record["outcome"]["traces"]:
        durations = [trace["load_ns"], trace["first_ns"], trace["opened_ns"], *trace["warmup_ns"]]
        durations += [ns for block in trace["blocks"] for ns in block["sample_ns"]]
        assert 0 <= min(durations) <= max(durations) < HOUR_NS / 10
    shown = latbench("show", record["id"])
    assert ("set back by" in shown.out) == (hours < 0)


def test_records_are_listed_by_their_own_time(latbench: Latbench, tmp_path: Path) -> None:
    classifier(tmp_path / "model.onnx")
    (tmp_path / "clock").mkdir()
    (tmp_path / "clock" / "sitecustomize.py").write_text(JUMP.format(jump=-HOUR_NS, after=0))
    now = latbench("run", *QUICK, "model.onnx", "--json").json["record"]
    back = {"PYTHONPATH": python_path(tmp_path / "clock")}
    earlier = latbench("run", *QUICK, "model.onnx", "--json", **back).json["record"]
    assert earlier["id"] < now["id"]
    listed = latbench("history", "model.onnx", "--json").json
    times = [row["created_unix_ns"] for row in listed]
    assert times == sorted(times, reverse=True)
    assert {row["id"] for row in listed} == {earlier["id"], now["id"]}
