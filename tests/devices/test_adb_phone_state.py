"""The state of a phone over a real adbd: a recorded tree, and stand-ins of Android's programs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import latbench
from latbench.analysis.summary import summarize
from latbench.devices.preparation import find_preparation, prepare_phone, target_named
from latbench.devices.preparation_android import PhoneState
from latbench.errors import StageError
from latbench.schema.record import Record
from support import onnx_files
from support.android import phone as android
from support.android.standins import SERVICES, SETTINGS
from support.command_line import Ended, in_process
from support.devices import use_home
from support.hosts import Bed, Host
from support.phones import add_with_native

pytestmark = pytest.mark.slow
BIN = "/system/bin"
PROGRAMS = Path(android.__file__).with_name("programs")


@pytest.fixture
def pixel(
    ssh_bed: Bed, adbd_files: Path, adb_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Host]:
    """A phone called ``pixel`` with three kinds of CPUs, which says what Android says."""
    use_home(tmp_path / "home", None, monkeypatch)
    files = {f"/{path}": text for path, text in android.PHONE.items()}
    files |= {f"{BIN}/{each.name}": each.read_text() for each in PROGRAMS.iterdir()}
    files |= {f"{BIN}/state/{name}": text for name, text in SERVICES.items()}
    files |= {f"{BIN}/state/{name}": f"{value}\n" for name, value in SETTINGS.items()}
    with ssh_bed.started(name="pixel", adbd=adbd_files, files=files) as host:
        add_with_native(host, "pixel")
        yield host


def command(tmp_path: Path, *arguments: str) -> Ended:
    return in_process(list(arguments), dict(os.environ), tmp_path)


def settings_of(host: Host) -> dict[str, str]:
    return {name: host.path(f"{BIN}/state/{name}").read_text().strip() for name in SETTINGS}


def measured(tmp_path: Path) -> Record:
    return latbench.run(
        str(onnx_files.stack(tmp_path / "model.onnx", side=36)),
        device="pixel",
        threads=1,
        protocol="latbench-fixed@1",
        registry=str(tmp_path / "registry.db"),
    ).record


def test_what_a_phone_says_is_in_the_record_and_heat_marks_its_blocks(
    pixel: Host, tmp_path: Path
) -> None:
    checked = command(tmp_path, "devices", "check", "pixel")
    assert checked.status == 0, checked
    assert "Pixel 8" in checked.out
    record = measured(tmp_path)
    machine, before = record.environment.machine, record.environment.before
    assert machine.product == "Google Pixel 8"
    assert machine.clusters is not None
    assert [each.cpus for each in machine.clusters] == [(0, 1, 2, 3), (4, 5, 6), (7,)]
    assert (before.thermal_status, before.thermal_override) == ("none", False)
    assert (before.charging, before.screen_on, before.battery_percent) == (True, True, 76)
    states = [
        block.readings.thermal_status if block.readings else None
        for trace in record.outcome.traces
        for block in trace.blocks
    ]
    assert set(states) == {"none"}

    pixel.write(f"{BIN}/state/thermalservice", android.thermal(3))
    hot = summarize(measured(tmp_path))
    assert hot is not None
    assert hot.reliability == "unreliable"
    assert any("blocks disturbed (throttling" in each for each in hot.reasons)


def test_a_prepared_phone_is_put_back_whatever_cuts_the_cable(pixel: Host, tmp_path: Path) -> None:
    wanted = ("--stay-awake", "--brightness", "30", "--fixed-performance")
    done = command(tmp_path, "devices", "prepare", "pixel", *wanted)
    assert done.status == 0, done
    changed = settings_of(pixel)
    assert (changed["system/screen_brightness"], changed["system/screen_brightness_mode"]) == (
        "30",
        "0",
    )
    assert command(tmp_path, "devices", "restore", "pixel").status == 0
    assert settings_of(pixel) == dict(SETTINGS)
    for call in (2, 4, 6, 8):
        # As if the phone ended the shell while it prepares.
        pixel.path(f"{BIN}/state/calls").unlink()
        pixel.write(f"{BIN}/state/kill-at", f"{call}\n")
        with suppress(StageError), target_named("pixel") as target:
            prepare_phone(target, PhoneState(stay_awake=True, brightness=30))
        pixel.path(f"{BIN}/state/kill-at").unlink()
        assert command(tmp_path, "devices", "restore", "pixel").status == 0
        assert settings_of(pixel) == dict(SETTINGS)
        with target_named("pixel") as target:
            assert find_preparation(target) is None
