"""The worker for Apple devices as a whole, whose Core ML is a stand-in."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest

from latbench.devices import local
from support import conformance
from support.command_line import QUICK, in_process
from support.environment import TINY, child_environment
from support.native_talk import Talk
from support.swift import compiled_worker

pytestmark = [pytest.mark.slow, pytest.mark.torch]


def test_a_whole_record(
    apple: Sequence[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Exported, timed by the worker and compared with the reference by the harness."""
    wrapper = tmp_path / "worker"
    wrapper.write_text(f'#!/bin/sh\nexec {shlex.join(apple)} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setattr(local, "build_native", lambda: wrapper)
    plain = local.LocalDevice.__init__
    monkeypatch.setattr(
        local.LocalDevice, "__init__", lambda self, row=None, native=None: plain(self, row, {})
    )
    environment = child_environment(LATBENCH_REGISTRY=str(tmp_path / "registry.db"), COLUMNS="100")
    command = ["run", "--model", str(TINY), "--backend", "coreml", "--precision", "fp16", *QUICK]
    options = ["--option", "compute_units=cpu_and_ne", "--json"]
    ran = in_process([*command, *options], environment, tmp_path)
    assert ran.status == 0, ran
    record = ran.json["record"]
    assert record["runtime"]["version"].startswith("stand-in for Core ML, Linux")
    assert record["runtime"]["settings"]["worker"] == "apple"
    assert record["runtime"]["placement"]["units"] == {"neural_engine": 5}
    assert len(record["outcome"]["traces"]) == 2
    for check in record["outcome"]["checks"]:
        assert check["finite"]
        assert check["max_rel_error"] < 0.01


def test_it_keeps_to_the_protocol(apple: Sequence[str]) -> None:
    report = conformance.checked(apple, "--backend", "coreml")
    assert conformance.skipped(report) == {"stoppable", "pinned", "cpus", "operators"}


def test_the_sources_compile_as_swift_6(apple: Sequence[str]) -> None:
    """Other tests compile them as Swift 5, which is what the package says."""
    command = compiled_worker("6")
    with Talk(command) as worker:
        assert worker.hello["program"] == "latbench-apple"
