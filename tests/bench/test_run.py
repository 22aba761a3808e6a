"""Measured is measured: what ends a run afterwards loses nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import latbench
from latbench.bench.run import RunResult
from latbench.devices.local import LocalDevice
from latbench.errors import RegistryError
from latbench.host.info import read_conditions
from latbench.schema.codec import decode_record
from latbench.schema.protocol_catalog import FIXED
from latbench.schema.protocol_options import changed_protocol
from latbench.store.registry import Registry
from latbench.store.rescue import keep
from support.records import make_record

QUICK = changed_protocol(FIXED, processes=1, warmup_calls=1, calls=3)


def measured(folder: Path) -> RunResult:
    return latbench.run(
        "mobilevig_ti", backend="fake", protocol=QUICK, registry=str(folder / "r.db")
    )


def test_an_interruption_after_the_timing_leaves_it_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def conditions(device: LocalDevice) -> object:
        calls.append(None)
        if len(calls) == 3:  # before, before the timing, after it
            raise KeyboardInterrupt
        return read_conditions()

    monkeypatch.setattr(LocalDevice, "conditions", conditions)
    outcome = measured(tmp_path).record.outcome
    assert len(calls) == 4
    assert outcome.status == "measured"
    assert len(outcome.traces) == 1


INTERRUPTED = """
import os, signal, sys
import latbench
from latbench.store.registry import Registry

add_many = Registry.add_many

def interrupted(self, new):
    os.kill(os.getpid(), signal.SIGINT)
    add_many(self, new)

Registry.add_many = interrupted
handler = signal.default_int_handler
signal.signal(signal.SIGINT, handler)  # What runs in the background inherits that it is ignored.
try:
    latbench.run("mobilevig_ti", backend="fake", protocol="latbench-fixed@1", registry=sys.argv[1])
except KeyboardInterrupt:
    assert signal.getsignal(signal.SIGINT) is handler
    print("interrupted")
"""


def test_an_interruption_waits_until_the_record_is_stored(tmp_path: Path) -> None:
    """In a program of its own: signals are the main thread's, which may not be this test's."""
    place = str(tmp_path / "r.db")
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, place], capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1:] == ["interrupted"], done.stderr
    with Registry.open(place) as registry:
        assert registry.count() == 1


def full(new: object) -> None:
    raise RegistryError("the disk is full")


RECORDS = tuple(make_record(id=f"01m86kmv4b6a5884ma62zcdt3{i}") for i in "xy")


def rescued(monkeypatch: pytest.MonkeyPatch, home: Path) -> RegistryError:
    monkeypatch.setenv("HOME", str(home))
    store: Any = SimpleNamespace(add_many=full)
    with pytest.raises(RegistryError, match="the disk is full") as caught:
        keep(RECORDS, store)
    return caught.value


def test_what_the_registry_refuses_goes_to_the_first_folder_that_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    error = rescued(monkeypatch, home)
    assert "not lost" in error.message
    assert str(home) in (error.hint or "")
    left = sorted(home.iterdir())
    assert tuple(decode_record(path.read_bytes()) for path in left) == RECORDS


def test_where_no_folder_takes_it_it_is_told_on_standard_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_room(path: Path, data: bytes) -> int:
        path.open("wb").close()
        raise OSError(28, "No space left on device")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Path, "write_bytes", no_room)
    error = rescued(monkeypatch, tmp_path)
    assert "standard error" in error.message
    lines = capsys.readouterr().err.splitlines()
    assert tuple(decode_record(line.encode()) for line in lines) == RECORDS
    assert list(tmp_path.iterdir()) == []
