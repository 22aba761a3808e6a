"""Temperatures, clocks, throttling and power, from trees as boards and laptops have them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from latbench.host.counters import between, snapshot
from latbench.host.info import read_conditions
from latbench.host.sensors import MOST_COUNTERS, find_sensors
from latbench.schema.trace import Readings

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /sys")

CPU = "sys/devices/system/cpu"
PI_4 = "sys/devices/platform/soc/soc:firmware/get_throttled"
PI_5 = "sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled"
COOLER = "sys/class/thermal/cooling_device{}/{}"
OVER_CURRENT = "sys/class/hwmon/hwmon3"


def plant(root: Path, tree: dict[str, str]) -> Path:
    for name, content in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def readings(root: Path, before: dict[str, str], after: dict[str, str]) -> Readings:
    """What is read around a block in which files change."""
    first = snapshot(plant(root, before))
    return between(first, snapshot(plant(root, after)), root)


def throttling(found: Readings) -> tuple[int | None, int | None, int | None]:
    return found.throttle_events, found.throttle_flags, found.cooling_state


def x86(cpu: int, *, package: int, core: int, in_package: int = 0) -> dict[str, str]:
    here = f"{CPU}/cpu{cpu}"
    return {
        f"{here}/topology/physical_package_id": f"{in_package}\n",
        f"{here}/topology/thread_siblings_list": f"{cpu}\n",
        f"{here}/thermal_throttle/package_throttle_count": f"{package}\n",
        f"{here}/thermal_throttle/core_throttle_count": f"{core}\n",
    }


def test_nothing_is_known_where_nothing_is_told(tmp_path: Path) -> None:
    found = readings(tmp_path, {}, {})
    assert throttling(found) == (None, None, None)
    assert (found.frequency_khz, found.cluster_khz, found.temperature_mc) == (None, None, None)
    now = read_conditions(tmp_path)
    assert (now.throttle_events, now.throttle_flags, now.cooling_state) == (None, None, None)
    assert (now.on_battery, now.battery_percent) == (None, None)


@pytest.mark.parametrize("place", [PI_4, PI_5])
@pytest.mark.parametrize(
    ("before", "after", "seen"),
    [
        ("0", "0", 0),
        ("50005", "50005", 5),  # now, and before
        ("50000", "50000", 0),  # only before the block
        ("0", "40004", 4),
        ("0", "10000", 1),  # began and ended in between
        ("50000", "d0000", 8),
        ("4", "0", 4),
        ("0x2", "2\n", 2),
        ("0", "", None),
        ("0", "nonsense", None),
        ("0", "-1", None),
    ],
)
def test_flags_of_a_raspberry_pi(
    tmp_path: Path, place: str, before: str, after: str, seen: int | None
) -> None:
    found = readings(tmp_path, {place: before}, {place: after})
    assert throttling(found) == (None, seen, None)


def test_a_raspberry_pi_without_the_file_of_the_firmware(tmp_path: Path) -> None:
    chip = "sys/class/hwmon/hwmon1"
    alarm = f"{chip}/in0_lcrit_alarm"
    found = readings(tmp_path, {f"{chip}/name": "rpi_volt\n", alarm: "0\n"}, {alarm: "1\n"})
    assert throttling(found) == (None, 1, None)


def test_counters_of_x86(tmp_path: Path) -> None:
    """CPUs of a package tell the same count, and so do the threads of a core."""
    before = {**x86(0, package=7, core=3), **x86(1, package=7, core=1)}
    after = {**x86(0, package=9, core=4), **x86(1, package=9, core=1)}
    assert throttling(readings(tmp_path, before, after)) == (3, None, None)
    siblings = {f"{CPU}/cpu{cpu}/topology/thread_siblings_list": "0-1" for cpu in (0, 1)}
    two = tmp_path / "threads"
    assert throttling(readings(two, {**before, **siblings}, after | siblings))[0] == 3
    other = tmp_path / "other"
    assert readings(other, after, before).throttle_events is None  # counted from 0 after a reboot


def test_a_throttling_that_ends_within_a_block(tmp_path: Path) -> None:
    """Intel counts at its beginning, which may have been long ago, and adds the time at its end."""
    path = f"{CPU}/cpu0/thermal_throttle/package_throttle_total_time_ms"
    found = readings(tmp_path, {**x86(0, package=1, core=0), path: "40\n"}, {path: "940\n"})
    assert (found.throttle_events, found.throttle_ms) == (0, 900)


def test_at_most_some_counters_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    tree = {}
    for cpu in range(64):
        tree |= x86(cpu, package=0, core=0, in_package=cpu // 32)
        tree |= {COOLER.format(cpu, "type"): "Processor", COOLER.format(cpu, "cur_state"): "0"}
    found = find_sensors(plant(tmp_path, tree))
    assert len(found.counters) == len(found.coolers) == MOST_COUNTERS
    packages = [path for path in found.counters if path.endswith("package_throttle_count")]
    assert [Path(path).parents[1].name for path in packages] == ["cpu0", "cpu32"]


def test_over_current_events_of_a_jetson(tmp_path: Path) -> None:
    before = {
        f"{OVER_CURRENT}/name": "soctherm_oc\n",
        f"{OVER_CURRENT}/oc1_event_cnt": "0\n",
        f"{OVER_CURRENT}/oc1_throt_en": "1\n",
        f"{OVER_CURRENT}/oc2_event_cnt": "0\n",
        f"{OVER_CURRENT}/oc2_throt_en": "0\n",
    }
    after = {f"{OVER_CURRENT}/oc1_event_cnt": "4\n", f"{OVER_CURRENT}/oc2_event_cnt": "9\n"}
    # What does not throttle is not counted.
    assert throttling(readings(tmp_path, before, after)) == (4, None, None)


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        ("thermal-cpufreq-0", 3),
        ("cpufreq-cpu4", 3),
        ("devfreq-17000000.gpu", 3),
        ("cpu-throttle-alert", 3),
        ("Processor", 3),
        ("pwm-fan", None),
        ("hot-surface-alert", None),
        ("TCC Offset", None),
    ],
)
def test_cooling_devices(tmp_path: Path, kind: str, state: int | None) -> None:
    before = {COOLER.format(0, "type"): f"{kind}\n", COOLER.format(0, "cur_state"): "0\n"}
    after = {COOLER.format(0, "cur_state"): "3\n"}
    assert throttling(readings(tmp_path, before, after)) == (None, None, state)
    # It ended during the block.
    assert readings(tmp_path, after, before).cooling_state == state


def test_a_cooler_that_tells_no_state_is_unknown(tmp_path: Path) -> None:
    tree = {COOLER.format(0, "type"): "intel_powerclamp", COOLER.format(0, "cur_state"): "-1"}
    assert readings(tmp_path, tree, {}).cooling_state is None


def test_clocks_of_clusters(tmp_path: Path) -> None:
    """A policy is a group of CPUs with one clock; the tenth comes after the second."""
    clocks = {0: 1_800_000, 2: 2_400_000, 10: 600_000}
    tree = {f"{CPU}/cpufreq/policy{i}/scaling_cur_freq": f"{khz}\n" for i, khz in clocks.items()}
    found = readings(tmp_path, tree, {})
    assert found.cluster_khz == (1_800_000, 2_400_000, 600_000)
    assert found.frequency_khz == 2_400_000


def test_a_cluster_that_reports_no_clock(tmp_path: Path) -> None:
    files = {f"{CPU}/cpufreq/policy{i}/scaling_cur_freq": "5\n" for i in (0, 4)}
    unknown = {f"{CPU}/cpufreq/policy4/scaling_cur_freq": "<unknown>\n"}
    found = readings(tmp_path, files, unknown)
    assert (found.frequency_khz, found.cluster_khz) == (5, None)


def test_one_clock_is_no_cluster(tmp_path: Path) -> None:
    found = readings(tmp_path, {f"{CPU}/cpu0/cpufreq/scaling_cur_freq": "5\n"}, {})
    assert (found.frequency_khz, found.cluster_khz) == (5, None)


SUPPLY = "sys/class/power_supply"


@pytest.mark.parametrize(
    ("supplies", "on_battery", "percent"),
    [
        ({"BAT0": ("Battery", "Discharging", "57")}, True, 57),
        ({"BAT0": ("Battery", "Charging", "12"), "AC": ("Mains", "1")}, False, 12),
        ({"BAT0": ("Battery", "Full", "100")}, False, 100),
        ({"BAT0": ("Battery", "Unknown", "80"), "AC": ("Mains", "0")}, True, 80),
        ({"BAT0": ("Battery", "Unknown", "80")}, None, 80),
        ({"BAT0": ("Battery", "Discharging", "80"), "usb": ("USB", "1")}, True, 80),
        ({"BAT0": ("Battery", "Full", "90"), "BAT1": ("Battery", "Discharging", "30")}, True, 60),
        ({"AC": ("Mains", "1")}, False, None),
        ({"BAT0": ("Battery", "Full", "999")}, False, None),
        ({}, None, None),
    ],
)
def test_power(
    tmp_path: Path,
    supplies: dict[str, tuple[str, ...]],
    on_battery: bool | None,
    percent: int | None,
) -> None:
    tree = {}
    for name, (kind, *values) in supplies.items():
        files = ("status", "capacity") if kind == "Battery" else ("online",)
        tree |= {f"{SUPPLY}/{name}/type": kind}
        tree |= {f"{SUPPLY}/{name}/{file}": v for file, v in zip(files, values, strict=True)}
    now = read_conditions(plant(tmp_path, tree))
    assert (now.on_battery, now.battery_percent) == (on_battery, percent)


def test_the_battery_of_a_mouse_is_not_the_machine_s(tmp_path: Path) -> None:
    mouse = f"{SUPPLY}/hidpp_battery_0"
    tree = {
        f"{mouse}/type": "Battery",
        f"{mouse}/scope": "Device",
        f"{mouse}/status": "Discharging",
        f"{mouse}/capacity": "5",
    }
    now = read_conditions(plant(tmp_path, tree))
    assert (now.on_battery, now.battery_percent) == (None, None)
