"""A sweep of the fake backend from Python: what changes and what interrupts it on the way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from latbench.bench.sweep import SweepStep, sweep
from latbench.errors import UsageError
from latbench.events import Events
from latbench.schema.protocol_catalog import FIXED
from latbench.schema.protocol_options import changed_protocol
from latbench.store.registry import Registry

QUICK = changed_protocol(FIXED, processes=1, warmup_calls=1, calls=3)


def test_a_file_that_is_edited_on_the_way_is_a_failure_and_not_cached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LATBENCH_CACHE", str(tmp_path / "cache"))
    source = "def one(): pass\ndef two(): pass\n"
    (tmp_path / "net.py").write_text(source)

    def edit(step: SweepStep) -> None:
        (tmp_path / "net.py").write_text(source + "# edited\n")

    swept = sweep(
        ["net.py:one,backend=fake", "net.py:two,backend=fake"],
        protocol=QUICK,
        registry=str(tmp_path / "r.db"),
        events=Events(step=edit),
    )
    outcomes = [point.record.outcome for point in swept.points if point.record is not None]
    assert sorted(outcome.status for outcome in outcomes) == ["failed", "measured"]
    (failure,) = (outcome.failure for outcome in outcomes if outcome.failure is not None)
    assert failure.stage == "export"
    assert "changed before or during the export" in failure.message
    assert failure.hint is not None
    assert len(list((tmp_path / "cache/keys").iterdir())) == 1


def test_a_sweep_that_another_program_measures_is_not_resumed(tmp_path: Path) -> None:
    registry = str(tmp_path / "r.db")
    requests = [f"mobilevig_ti,backend=fake,threads={n}" for n in (1, 2)]
    refused: list[str] = []

    def meanwhile(step: SweepStep) -> None:
        with pytest.raises(UsageError, match="another program is measuring") as caught:
            sweep(requests, protocol=QUICK, registry=registry, resume=True)
        refused.append(caught.value.hint or "")

    sweep(requests, protocol=QUICK, registry=registry, events=Events(step=meanwhile))
    assert len(refused) == 2
    resumed = sweep(requests, protocol=QUICK, registry=registry, resume=True)
    assert all(point.record is not None for point in resumed.points)
    with Registry.open(registry) as store:
        assert store.count() == 2


INTERRUPTED = """
import os, signal, sys
import latbench.bench.measure
from latbench.cli import main

def interrupted(*arguments, **named):
    os.kill(os.getpid(), signal.SIGINT)
    raise AssertionError("unreached: the signal is handled first")

latbench.bench.measure.time_operators = interrupted
main()
"""


def test_an_interruption_that_costs_a_profile_only_ends_the_sweep(tmp_path: Path) -> None:
    """In a program of its own: a signal that misses the run would end this one's tests."""
    registry = str(tmp_path / "r.db")
    done = subprocess.run(
        [
            *(sys.executable, "-c", INTERRUPTED),
            *("run", "--model", "mobilevig_ti", "--model", "mobilevig_s", "--backend", "fake"),
            *("--batch", "1", "--batch", "2", "--profile", "--registry", registry),
            *("--protocol", "latbench-fixed@1", "--processes", "1", "--warmup", "1"),
            *("--calls", "3"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 3, output
    assert "no times by operator: interrupted" in output
    assert "3 points are not measured yet" in output
    with Registry.open(registry) as store:
        (record,) = store.of_sweep(store.latest_sweep() or "")
        assert record.outcome.status == "measured"
