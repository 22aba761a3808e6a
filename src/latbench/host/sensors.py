"""Temperatures, clocks and throttling: the files of the system that hold them, and their content.

The files are found once and read often: finding them takes longer than reading them.
``docs/devices/state.md`` says where each comes from.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from latbench.host.linux import CPUS, cpu_files, existing, number, read
from latbench.schema.trace import UNDER_VOLTAGE

CPU_CHIPS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "cpu-thermal", "scpi_sensors")
"""hwmon drivers with sensors in the CPU."""
CPU_ZONES = ("x86_pkg_temp", "cpu", "soc", "mtktscpu")
"""Beginnings of thermal zone types that mean the CPU."""
CPU_CLUSTERS = ("big", "mid", "little")
"""Types of thermal zones of Exynos and Tensor chips."""
CHARGE_ZONES = ("soc", "socd")
"""On phones by Qualcomm these may be zones of the battery's state of charge, in percent."""
DEGREES = 200
"""Values of zones below this are degrees: some phones do not report thousandths."""
THROTTLING_COOLERS = re.compile(
    "(thermal-)?(cpufreq|devfreq)-.*|Processor|intel_powerclamp|.*-throttle-alert"
)
"""Types of cooling devices that slow something down. Others are fans, and alerts without effect."""
PLAUSIBLE_MC = range(-50_000, 200_000)
MOST_COUNTERS = 8
"""Files of a kind that are read around each block: machines with many CPUs have hundreds."""
FLAG_FILES = "sys/devices/platform/soc*/*firmware*/get_throttled"
NOW_FLAGS, PAST_FLAGS_SHIFT = 0xF, 16


@dataclass(frozen=True, kw_only=True)
class Sensors:
    """The files of one machine."""

    temperatures: tuple[str, ...]
    """In thousandths of a degree."""
    zones: tuple[tuple[str, bool], ...]
    """The same of thermal zones, and whether the type may mean the state of charge."""
    clocks: tuple[str, ...]
    """One for each group of CPUs that share a clock."""
    counters: tuple[str, ...]
    """Growing counts of events."""
    durations: tuple[str, ...]
    """Milliseconds for which packages have been throttled, reported at the end of each time."""
    flags: str | None
    """Bits that the firmware of a Raspberry Pi reports, in hexadecimal."""
    under_voltage: str | None
    """An alarm, 0 or 1, on a Raspberry Pi without ``flags``."""
    coolers: tuple[str, ...]
    """States of devices that slow something down to cool it, 0 for not at all."""


@dataclass(frozen=True, kw_only=True)
class Throttling:
    """What the system reports about throttling at one moment; ``None`` if it does not."""

    events: int | None = None
    """Sum of the counters."""
    duration_ms: int | None = None
    """Sum of the durations."""
    flags: int | None = None
    """Bits 0 to 3 hold now, bits 16 to 19 have held before."""
    cooling: int | None = None
    """The highest state of a cooling device."""


def find_sensors(root: Path) -> Sensors:
    """Find the files. ``root`` is prepended to /sys."""
    flags = next((str(path) for path in sorted(root.glob(FLAG_FILES))), None)
    alarm = None if flags else next(_chips(root, ("rpi_volt",), "in0_lcrit_alarm"), None)
    return Sensors(
        temperatures=tuple(_chips(root, CPU_CHIPS, "temp*_input")),
        zones=tuple(_zones(root)),
        clocks=_clocks(root),
        counters=(*_thermal_counters(root), *_over_current_counters(root)),
        durations=_of_packages(root, "package_throttle_total_time_ms"),
        flags=flags,
        under_voltage=alarm,
        coolers=tuple(_coolers(root)),
    )


def temperature_mc(sensors: Sensors) -> int | None:
    """The temperature of the hottest CPU sensor, in millidegrees."""
    found = [
        *(_number(path) for path in sensors.temperatures),
        *(_zone_mc(path, maybe_charge) for path, maybe_charge in sensors.zones),
    ]
    return max((mc for mc in found if mc is not None and mc in PLAUSIBLE_MC), default=None)


def _zone_mc(path: str, maybe_charge: bool) -> int | None:
    value = _number(path)
    if value is None or value >= DEGREES:
        return value
    # A zone at exactly 0 is switched off.
    return None if value == 0 or maybe_charge else value * 1000


def clocks_khz(sensors: Sensors) -> tuple[int | None, ...]:
    """The frequency of each group of CPUs that share a clock."""
    return tuple(_number(path) for path in sensors.clocks)


def throttling(sensors: Sensors) -> Throttling:
    """What the system reports about throttling now."""
    states = [_number(path) for path in sensors.coolers]
    known = [state for state in states if state is not None]
    return Throttling(
        events=_sum(_number(path) for path in sensors.counters),
        duration_ms=_sum(_number(path) for path in sensors.durations),
        flags=_flags(sensors),
        cooling=max(known, default=None),
    )


def _flags(sensors: Sensors) -> int | None:
    if sensors.flags is not None:
        text = _text(sensors.flags)
        found = re.fullmatch(r"(?:0x)?([0-9a-f]{1,8})", text) if text is not None else None
        return int(found[1], 16) if found else None
    alarm = None if sensors.under_voltage is None else _number(sensors.under_voltage)
    return None if alarm is None else UNDER_VOLTAGE * (alarm != 0)


def _zones(root: Path) -> Iterable[tuple[str, bool]]:
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        kind = (read(zone / "type") or "").lower()
        if kind.startswith(CPU_ZONES) or kind in CPU_CLUSTERS:
            yield str(zone / "temp"), kind in CHARGE_ZONES


def _clocks(root: Path) -> tuple[str, ...]:
    policies = (root / CPUS).glob("cpufreq/policy[0-9]*/scaling_cur_freq")
    found = sorted(policies, key=lambda path: (len(path.parent.name), path))
    # Without policies, an old kernel, each CPU reports its own.
    return tuple(map(str, found or existing(cpu_files(root, "cpufreq/scaling_cur_freq"))))


def _thermal_counters(root: Path) -> tuple[str, ...]:
    """Counts of each package, then those of cores that this process may run on."""
    cores: dict[str, Path] = {}
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    for path in existing(cpu_files(root, "thermal_throttle/core_throttle_count")):
        cpu = path.parents[1]
        if int(cpu.name[3:]) in usable:
            # The CPUs of one core have the same counter.
            cores.setdefault(read(cpu / "topology/thread_siblings_list") or cpu.name, path)
    packages = _of_packages(root, "package_throttle_count")
    return (*packages, *map(str, cores.values()))[:MOST_COUNTERS]


def _of_packages(root: Path, name: str) -> tuple[str, ...]:
    """The file of one CPU of each package: all of a package report the same."""
    packages: dict[str | None, str] = {}
    for path in existing(cpu_files(root, f"thermal_throttle/{name}")):
        packages.setdefault(read(path.parents[1] / "topology/physical_package_id"), str(path))
    return tuple(packages.values())[:MOST_COUNTERS]


def _over_current_counters(root: Path) -> Iterable[str]:
    """Counts of a Jetson's over-current and under-voltage events that throttle it."""
    for path in _chips(root, ("soctherm_oc",), "oc[0-9]_event_cnt"):
        if number(Path(path.replace("_event_cnt", "_throt_en"))) != 0:
            yield path


def _coolers(root: Path) -> tuple[str, ...]:
    kinds = {
        path: read(path / "type") or ""
        for path in (root / "sys/class/thermal").glob("cooling_device*")
    }
    slowing = [path for path, kind in kinds.items() if THROTTLING_COOLERS.fullmatch(kind)]
    # Alerts first: they report what the firmware does.
    slowing.sort(key=lambda path: (not kinds[path].endswith("-alert"), len(path.name), path.name))
    return tuple(str(path / "cur_state") for path in slowing[:MOST_COUNTERS])


def _chips(root: Path, names: tuple[str, ...], files: str) -> Iterator[str]:
    """Files of the hwmon chips of these names."""
    for chip in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        if read(chip / "name") in names:
            yield from map(str, sorted(chip.glob(files)))


def _sum(values: Iterable[int | None]) -> int | None:
    """Their sum; ``None`` without values, and if one is not known."""
    found = list(values)
    known = [value for value in found if value is not None]
    return sum(known) if known and len(known) == len(found) else None


def _number(path: str) -> int | None:
    text = _text(path)
    return int(text) if text is not None and re.fullmatch("[0-9]{1,18}", text) else None


def _text(path: str) -> str | None:
    """The content of a small file. :func:`latbench.host.linux.read` takes twice as long."""
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        return os.read(file, 100).decode("ascii", "replace").strip()
    except OSError:  # The CPU was switched off, or the firmware does not answer.
        return None
    finally:
        os.close(file)
