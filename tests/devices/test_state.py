"""A device that heats up, throttles itself and cools down while it is measured."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import latbench
from latbench.analysis.interference import disturbed
from latbench.events import Events
from latbench.schema.protocol_catalog import FIXED
from latbench.schema.record import Record
from support.command_line import in_process
from support.devices import add_with_checkout, use_home
from support.hosts import Bed, Host
from support.hosts.spec import CHECKOUT

pytest.importorskip("asyncssh", reason="needs the `ssh` extra")

SHORT = msgspec.structs.replace(
    FIXED, processes=1, max_processes=1, warmup_calls=3, min_calls=320, block_calls=40
)
"""Eight blocks of some 100 ms."""
FLAGS = "/sys/devices/platform/soc/soc:firmware/get_throttled"
COUNTER = "/sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count"
ZONE = "/sys/class/thermal/thermal_zone0"
BATTERY = "/sys/class/power_supply/BAT0"
FILES = {
    FLAGS: "0\n",
    COUNTER: "1000\n",
    f"{ZONE}/type": "cpu-thermal\n",
    f"{ZONE}/temp": "71000\n",
    f"{BATTERY}/type": "Battery\n",
    f"{BATTERY}/status": "Discharging\n",
    f"{BATTERY}/capacity": "57\n",
}


@pytest.fixture
def hot(ssh_bed: Bed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """A device called ``hot`` with the sensors of several kinds of machines."""
    with ssh_bed.started(name="hot", visible=CHECKOUT, files=FILES) as host:
        use_home(tmp_path / "home", host, monkeypatch)
        add_with_checkout(host)
        yield host


def measured(tmp_path: Path, events: Events, **more: float) -> Record:
    result = latbench.run(
        "mobilevig_ti",
        backend="fake",
        device="hot",
        options={"real_time": "yes"},
        protocol=SHORT,
        registry=str(tmp_path / "registry.db"),
        events=events,
        **more,  # type: ignore[arg-type]
    )
    return result.record


def test_blocks_that_were_throttled_are_marked(hot: Host, tmp_path: Path) -> None:
    """The count moves in the third and fourth block; after the fifth the voltage is too low."""
    counting, ended = threading.Event(), threading.Event()

    def count() -> None:
        # Each number is written at once over the one before: no reader sees half of it.
        with hot.given(COUNTER).open("r+b", buffering=0) as file:
            for number in range(1001, 10_000):
                if counting.wait(60) and not ended.wait(0.001):
                    file.seek(0)
                    file.write(b"%d\n" % number)

    def progress(done: int, total: int) -> None:
        if done == 2:
            counting.set()
        if done == 4:
            ended.set()
            thread.join()
        if done == 5:
            hot.write(FLAGS, "50005\n")

    thread = threading.Thread(target=count, daemon=True)
    thread.start()
    told: list[str] = []
    record = measured(tmp_path, Events(progress=progress, warn=told.append))
    assert told == ["on battery, at 57 %: systems save power then; connect the power supply"]
    before = record.environment.before
    assert (before.throttle_events, before.throttle_flags) == (1000, 0)
    assert (before.on_battery, before.battery_percent) == (True, 57)
    after = record.environment.after
    assert after is not None
    assert after.throttle_events is not None
    assert after.throttle_events > 1000
    assert after.throttle_flags == 0x50005
    (trace,) = record.outcome.traces
    readings = [block.readings for block in trace.blocks]
    flags = [each.throttle_flags for each in readings if each is not None]
    assert flags == [0, 0, 0, 0, 0, 5, 5, 5]
    (marks,) = disturbed(record)
    slow, low = "the device throttled itself", "the supply voltage was too low"
    assert [slow in each for each in marks] == [False] * 2 + [True] * 2 + [False] + [True] * 3
    assert [low in each for each in marks] == [False] * 5 + [True] * 3
    words = ["show", record.id, "--registry", str(tmp_path / "registry.db")]
    shown = in_process(words, dict(os.environ), tmp_path)
    assert "the device throttled itself 5" in shown.out
    assert "on battery · battery 57 % · not throttled" in shown.out


def test_the_timing_begins_when_the_device_is_cool(hot: Host, tmp_path: Path) -> None:
    told: list[str] = []

    def waiting(text: str) -> None:
        told.append(text)
        hot.write(f"{ZONE}/temp", "59000\n")

    record = measured(tmp_path, Events(waiting=waiting), max_temperature_c=60)
    assert told == ["the CPU is at 71.0 °C, waiting for 60 °C"]
    rest = record.environment.rest
    assert rest is not None
    assert (rest.start_mc, rest.end_mc) == (71_000, 59_000)
    assert record.environment.before.temperature_mc == 59_000
    assert record.outcome.status == "measured"
