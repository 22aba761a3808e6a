"""Devices and machine conditions as lines."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from latbench.analysis.settings import settings
from latbench.devices.check_step import CheckStep
from latbench.devices.connections import Connection
from latbench.devices.discovery import FoundAndroid, SshHost
from latbench.report.text.layout import labeled
from latbench.report.units import size, time
from latbench.schema.cpu_choice import CPUS_SETTING
from latbench.schema.environment import (
    Conditions,
    Device,
    Fact,
    Level,
    Link,
    Machine,
    Rest,
)
from latbench.schema.record import Record

PI_FLAGS = ("under-voltage", "clock capped", "throttled", "at the soft temperature limit")
"""What bits 0 to 3 of a Raspberry Pi's flags mean."""

LEVEL_TEXTS: Mapping[Level, str] = {
    "glibc bundle": "on a glibc bundle",
    "ndk": "compiled with Android's NDK",
}


def device_lines(device: Device) -> list[str]:
    """A device, with the source of each fact."""
    lines = [f"{device.id}: {device.name} ({device.kind})"]
    lines.append(labeled("reached by", device.transport or "not reachable by latbench"))
    for name in ("product", "soc", "cpu", "gpu", "npu", "memory_bytes", "os", "year", "backends"):
        fact: Fact | None = getattr(device, name)
        label = name.removesuffix("_bytes")
        if fact is None:
            lines.append(labeled(label, "unknown"))
            continue
        value = ", ".join(fact.value) if isinstance(fact.value, tuple) else str(fact.value)
        if name == "memory_bytes" and isinstance(fact.value, int):
            value = size(fact.value)
        lines.append(labeled(label, f"{value}  [{fact.source}]"))
    if device.note:
        lines.append(labeled("note", device.note))
    return lines


def connection_lines(connection: Connection) -> list[str]:
    """How a user's device is reached, and what is installed on it."""
    installed = connection.installed
    there = (
        f"{installed.worker} worker {installed.sha256[:12]}"
        f"{f' ({installed.level})' if installed.level else ''}"
        f" with {', '.join(installed.backends)}"
        if installed
        else f"nothing: latbench devices install {connection.id}"
    )
    lines = [labeled("address", connection.address), labeled("installed", there)]
    if connection.emulated:
        lines.append(labeled("emulated", "its times mean nothing"))
    return lines


def discovered_lines(hosts: Sequence[SshHost], phones: Sequence[FoundAndroid]) -> list[str]:
    """The command that adds each, and what keeps it from being measured on."""
    lines = [(each.id, f"ssh://{each.host}", "added" if each.added else None) for each in hosts]
    for each in phones:
        notes = [note for note in ("added" if each.added else None, each.note) if note]
        lines.append((each.id, each.address, "; ".join(notes) or None))
    return [
        f"{shlex.join(('latbench', 'devices', 'add', id, address))}{f'  # {note}' if note else ''}"
        for id, address, note in lines
    ]


def step_lines(step: CheckStep) -> list[str]:
    """One step of a check, and what to do."""
    mark = {True: "ok", False: "FAILED", None: "-"}[step.works]
    lines = [f"  {mark:6}  {step.name:12}  {step.found}"]
    return [*lines, f"{'':24}{step.hint}"] if step.hint else lines


def link_line(link: Link) -> str:
    """How a device was reached, and by what it was measured."""
    offset = link.clock_offset_ns / 1e9
    parts = (
        link.address,
        f"from {link.harness.hostname or 'a machine without a name'}",
        f"{link.worker}{f' ({link.worker_sha256[:12]})' if link.worker_sha256 else ''}"
        f"{f', {LEVEL_TEXTS[link.level]}' if link.level else ''}",
        f"an exchange takes {time(link.round_trip_ns)}",
        f"its clock is {abs(offset):.1f} s {'ahead' if offset > 0 else 'behind'}",
    )
    return " · ".join(parts)


def cpu_line(machine: Machine, now: Conditions) -> str:
    """The CPU and how many of its cores are usable."""
    return f"{machine.cpu_model or 'unknown'}, {_cpus(now, machine.logical_cpus)}"


def conditions(record: Record) -> str:
    """The machine's state before the run, as far as it matters."""
    before, machine = record.environment.before, record.environment.machine
    known = [
        _cpus(before, machine.logical_cpus),
        f"on CPU {own}" if (own := settings(record).get(CPUS_SETTING)) is not None else None,
        f"governor {'/'.join(sorted(set(before.governor)))}" if before.governor else None,
        {True: "turbo on", False: "turbo off", None: None}[before.turbo],
        f"{before.temperature_mc / 1000:.0f} °C" if before.temperature_mc is not None else None,
        None
        if before.skin_temperature_mc is None
        else f"skin at {before.skin_temperature_mc / 1000:.0f} °C",
        f"load {before.load_1m_milli / 1000:.2f}" if before.load_1m_milli is not None else None,
        _virtualized(machine.hypervisor) if machine.hypervisor else None,
        {True: "on battery", False: "on mains", None: None}[before.on_battery],
        None if before.battery_percent is None else f"battery {before.battery_percent} %",
        *_phone(before),
        _throttling(before),
        _rest(record.environment.rest),
    ]
    unknown = [
        name
        for name, value in (
            ("governor", before.governor),
            ("turbo", before.turbo),
            ("temperature", before.temperature_mc),
        )
        if value is None
    ]
    tail = [f"unknown: {', '.join(unknown)}"] if unknown else []
    return " · ".join([part for part in known if part] + tail)


def _phone(before: Conditions) -> list[str | None]:
    """What a phone's system reported before the run."""
    status = before.thermal_status
    return [
        "charging" if before.charging else None,
        {True: "screen on", False: "screen off", None: None}[before.screen_on],
        "power saving on" if before.low_power_mode else None,
        None if status is None else f"thermal status {status}",
        "thermal status faked" if before.thermal_override else None,
    ]


def _throttling(before: Conditions) -> str | None:
    """What the system reported about throttling before the run; ``None`` if nothing."""
    flags = before.throttle_flags
    now = [name for bit, name in enumerate(PI_FLAGS) if flags is not None and flags >> bit & 1]
    if before.cooling_state:
        now.append("throttled to cool down")
    if now:
        return ", ".join(now)
    return "not throttled" if (flags, before.cooling_state) != (None, None) else None


def _rest(rest: Rest | None) -> str | None:
    """How long the device rested, and what that did."""
    if rest is None:
        return None
    text = f"rested {rest.waited_ns / 1e9:.0f} s"
    if rest.start_thermal_status is not None and rest.end_thermal_status is not None:
        text += f", thermal status {rest.start_thermal_status} to {rest.end_thermal_status}"
    if rest.start_mc is None or rest.end_mc is None:
        return text
    return f"{text} ({rest.start_mc / 1000:.0f} to {rest.end_mc / 1000:.0f} °C)"


def _virtualized(hypervisor: str) -> str:
    return f"virtualized ({hypervisor})"


def _cpus(before: Conditions, logical: int | None) -> str:
    if before.usable_cpus is None:
        return "CPUs not known"
    usable = f"{before.usable_cpus} usable CPU{'' if before.usable_cpus == 1 else 's'}"
    return usable if logical in (None, before.usable_cpus) else f"{usable} of {logical}"
