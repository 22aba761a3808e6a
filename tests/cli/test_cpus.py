"""``--cpus``: workers restrict themselves, records and lists say to what."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support.command_line import QUICK, Latbench
from support.onnx_files import classifier

ALLOWED = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
pytestmark = pytest.mark.skipif(len(ALLOWED) < 2, reason="needs two CPUs to choose from")


def test_a_chosen_cpu(latbench: Latbench, tmp_path: Path) -> None:
    path, last = classifier(tmp_path / "net.onnx"), str(ALLOWED[-1])
    done = latbench("run", path, *QUICK, "--cpus", hex(1 << ALLOWED[-1]), "--json")
    assert done.status == 0, done.err
    record = done.json["record"]
    assert record["request"]["cpus"] == last
    assert record["runtime"]["settings"]["cpus"] == last
    # As many threads as chosen CPUs.
    assert record["runtime"]["settings"]["threads"] == "1"
    # More than that are warned about and are not reliable.
    many = latbench("run", path, *QUICK, "--cpus", last, "--threads", "2", "--json")
    assert "2 threads on 1 CPU" in many.err
    shown = latbench("show", many.json["record"]["id"])
    assert "2 threads on 1 usable CPU" in shown.out
    assert f"on CPU {last}" in shown.out
    latbench("run", path, *QUICK)
    listed = latbench("history", "--format", "csv").out
    assert f"cpus={last}" in listed
    # Each side of a comparison may have its own.
    sides = [f"{path},cpus={cpu}" for cpu in (ALLOWED[0], ALLOWED[-1])]
    compared = latbench("compare", *sides, *QUICK, "--json")
    records = [latbench("show", compared.json[part], "--json").json["record"] for part in "ab"]
    told = [each["runtime"]["settings"]["cpus"] for each in records]
    assert told == [str(ALLOWED[0]), last]


def test_what_cannot_be_chosen(latbench: Latbench, tmp_path: Path) -> None:
    path = classifier(tmp_path / "net.onnx")
    for cpus, message in (
        ("4000", "CPU 4000 of"),
        ("all", "'all' does not name CPUs"),
        ("mid", "CPUs"),
    ):
        done = latbench("run", path, *QUICK, "--cpus", cpus)
        assert done.status == 2
        assert message in done.err
    done = latbench("claims", "check", "--all", "--cpus", "0")
    assert done.status == 2
    assert "--cpus requires --measure" in done.err
