"""Facts and conditions of this machine: the one reader of the environment.

What cannot be read is ``None``; nothing is guessed. Readings are taken before and after samples,
never while they are taken. On Linux everything is read from /proc and /sys, without a process being
started; elsewhere psutil and ``platform`` give what they can.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from latbench.host import cgroup, linux
from latbench.host.commit import commit
from latbench.host.power import linux_power, psutil_power
from latbench.host.sensors import Throttling, find_sensors, temperature_mc, throttling
from latbench.schema.environment import (
    Conditions,
    Device,
    Fact,
    Machine,
    Software,
)
from latbench.version import latbench_version

SYSCTL_TIMEOUT_S = 5


def read_machine(root: Path = Path("/")) -> Machine:
    """Facts that do not change while the machine is up. ``root`` is prepended to /proc and /sys."""
    import psutil

    on_linux = sys.platform == "linux"
    return Machine(
        hostname=platform.node() or None,
        os=_os_name(root),
        kernel=f"{platform.system()} {platform.release()}".strip() or None,
        libc=" ".join(platform.libc_ver()).strip() or None,
        architecture=platform.machine() or None,
        hypervisor=linux.hypervisor(root) if on_linux else None,
        cpu_model=linux.cpu_model(root) if on_linux else _sysctl("machdep.cpu.brand_string"),
        cpu_features=linux.cpu_features(root) if on_linux else None,
        caches=linux.caches(root) if on_linux else None,
        sockets=linux.sockets(root) if on_linux else None,
        physical_cores=linux.physical_cores(root) if on_linux else psutil.cpu_count(logical=False),
        logical_cpus=os.cpu_count(),
        smt=linux.smt(root) if on_linux else None,
        memory_bytes=psutil.virtual_memory().total,
        identity=_identity(root),
        emulated=linux.emulated(root) if on_linux else _sysctl("sysctl.proc_translated") == "1",
        clusters=linux.clusters(root) if on_linux else None,
    )


def read_conditions(root: Path = Path("/")) -> Conditions:
    """Conditions that can change within minutes. Takes a few milliseconds, starts no process."""
    import psutil

    on_linux = sys.platform == "linux"
    quota = cgroup.cpu_quota_milli(root) if on_linux else None
    sensors = find_sensors(root) if on_linux else None
    throttled = throttling(sensors) if sensors else Throttling()
    power = linux_power(root) if on_linux else psutil_power()
    return Conditions(
        unix_ns=time.time_ns(),
        affinity=_affinity(),
        cpu_quota_milli=quota,
        usable_cpus=_usable(quota),
        governor=linux.governors(root) if on_linux else None,
        turbo=linux.turbo(root) if on_linux else None,
        frequency_khz=linux.frequencies_khz(root) if on_linux else None,
        temperature_mc=temperature_mc(sensors) if sensors else None,
        memory_available_bytes=psutil.virtual_memory().available,
        load_1m_milli=round(os.getloadavg()[0] * 1000) if hasattr(os, "getloadavg") else None,
        throttled_ns=cgroup.throttled_ns(root) if on_linux else None,
        steal_ns=linux.steal_ns(root) if on_linux else None,
        on_battery=power.on_battery,
        battery_percent=power.battery_percent,
        throttle_events=throttled.events,
        throttle_flags=throttled.flags,
        cooling_state=throttled.cooling,
        charging=power.charging,
    )


def usable_cpus() -> int:
    """CPUs available to this process (affinity, cgroup quota)."""
    return _usable(cgroup.cpu_quota_milli(Path("/")) if sys.platform == "linux" else None)


def read_software(packages: Iterable[str]) -> Software:
    """Versions of those ``packages`` that are installed, and the working directory's commit."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return Software(
        latbench=latbench_version(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        packages=found,
        commit=_commit_here(),
    )


def this_device(machine: Machine) -> Device:
    """This machine's row, derived from its facts.

    Its id is made of the CPU model and the number of CPUs, so that it is the same on the next
    machine of the kind, in a fresh container too: the host's name is in the record.
    """
    model = machine.cpu_model or machine.architecture or "unknown"
    slug = re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-")
    source = "/proc and /sys" if sys.platform == "linux" else "the operating system"
    count = machine.logical_cpus
    return Device(
        id=f"{slug}-{count}cpu" if count else slug,
        name=f"{model}, {count} CPU{'' if count == 1 else 's'}" if count else model,
        kind="unknown",
        transport="local",
        cpu=Fact(value=machine.cpu_model, source=source) if machine.cpu_model else None,
        memory_bytes=Fact(value=machine.memory_bytes, source=source)
        if machine.memory_bytes
        else None,
        os=Fact(value=machine.os, source=source) if machine.os else None,
    )


def _identity(root: Path) -> str | None:
    """A digest of what the system and the board call themselves; cards of boards are copied."""
    if sys.platform == "linux":
        names = [
            linux.read(root / "etc/machine-id") or linux.read(root / "var/lib/dbus/machine-id"),
            linux.read(root / "proc/device-tree/serial-number"),
        ]
    elif sys.platform == "darwin":
        told = _said(["ioreg", "-rd1", "-c", "IOPlatformExpertDevice"], SYSCTL_TIMEOUT_S) or ""
        found = re.search(r'"IOPlatformUUID" = "([^"]+)"', told)
        names = [found[1] if found else None]
    else:
        names = []
    known = "\n".join(name for name in names if name)
    # The machine id is private to the machine (machine-id(5)): only a digest leaves it.
    return hashlib.sha256(f"latbench\n{known}".encode()).hexdigest()[:16] if known else None


def _usable(quota_milli: int | None) -> int:
    affinity = _affinity()
    cpus = len(affinity) if affinity is not None else os.cpu_count() or 1
    return cpus if quota_milli is None else max(1, min(cpus, quota_milli // 1000))


def _affinity() -> tuple[int, ...] | None:
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else None


def _os_name(root: Path) -> str | None:
    if sys.platform == "linux":
        return linux.os_name(root)
    if sys.platform == "darwin":
        return f"macOS {platform.mac_ver()[0]} ({_sysctl('kern.osversion')})"
    return platform.platform() or None


def _sysctl(name: str) -> str | None:
    return _said(["sysctl", "-n", name], SYSCTL_TIMEOUT_S) if sys.platform == "darwin" else None


def _commit_here() -> str | None:
    try:
        return commit(Path.cwd())
    except OSError:  # The working directory was deleted.
        return None


def _said(command: list[str], timeout_s: int) -> str | None:
    """Standard output of a command that succeeds, else ``None``."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
