"""Facts and readings from /proc and /sys. ``root`` is prepended to both, for tests.

Every function gives ``None`` where a file is missing, unreadable or holds something unexpected.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from latbench.schema.environment import Cache, Cluster

CPUS = "sys/devices/system/cpu"
NS_PER_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 10_000_000
FAMILIES = (
    {"x86", "x86_64", "i386", "i486", "i586", "i686"},
    {"aarch64", "arm64", "arm", "armv6l", "armv7l", "armv8l", "armv8b"},
    {"riscv64", "riscv32"},
)
"""Names of architectures whose programs one processor executes itself."""


def read(path: Path) -> str | None:
    """The text of a small file, stripped."""
    try:
        return path.read_bytes()[:1_000_000].decode().strip("\0\n \t")
    except (OSError, UnicodeDecodeError, ValueError):
        return None


def number(path: Path) -> int | None:
    """A file with one non-negative integer."""
    text = read(path)
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,19}", text) else None


def os_name(root: Path) -> str | None:
    """``PRETTY_NAME`` of /etc/os-release."""
    found = re.search(r'^PRETTY_NAME="?([^"\n]+)"?$', read(root / "etc/os-release") or "", re.M)
    return found[1] if found else None


def emulated(root: Path) -> bool:
    """Whether programs of another architecture than the kernel's are executed (QEMU, box64)."""
    with suppress(OSError):
        # QEMU answers for /proc/self/exe with the program, but not for this name of it.
        if "qemu" in (root / "proc/thread-self/exe").readlink().name:
            return True
    kernel = read(root / "proc/sys/kernel/arch") or ""
    told = re.match(r"cpu:type:([a-z0-9_]+)", read(root / CPUS / "modalias") or "")
    beneath = kernel or (told[1] if told else "")
    own = platform.machine()
    known = [family for family in FAMILIES if beneath in family]
    return bool(known) and not any(own in family for family in known)


def cpu_model(root: Path) -> str | None:
    """The model name of the CPU; on ARM, which has none, implementer and part numbers."""
    text = read(root / "proc/cpuinfo") or ""
    if name := _field(text, "model name"):
        return " ".join(name.split())
    if board := read(root / "proc/device-tree/model"):
        return board
    implementer, part = _field(text, "CPU implementer"), _field(text, "CPU part")
    return f"ARM implementer {implementer} part {part}" if implementer and part else None


def cpu_features(root: Path) -> tuple[str, ...] | None:
    """Instruction set extensions, sorted."""
    text = read(root / "proc/cpuinfo") or ""
    features = _field(text, "flags") or _field(text, "Features")
    return tuple(sorted(features.split())) if features else None


def caches(root: Path) -> tuple[Cache, ...] | None:
    """Caches of CPU 0, the innermost first."""
    found = []
    for index in sorted((root / CPUS / "cpu0/cache").glob("index*")):
        level, kind = number(index / "level"), read(index / "type")
        if level is None or kind is None:
            continue
        size = re.fullmatch(r"(\d+)K", read(index / "size") or "")
        found.append(
            Cache(
                level=level,
                type=kind.lower(),
                size_bytes=int(size[1]) * 1024 if size else None,
                shared_by=_listed(index / "shared_cpu_list"),
            )
        )
    return tuple(found) or None


def sockets(root: Path) -> int | None:
    """Distinct packages of all online CPUs."""
    packages = _topology(root, "physical_package_id")
    return len(set(packages)) if packages else None


def physical_cores(root: Path) -> int | None:
    """Distinct (package, core) pairs."""
    packages, cores = _topology(root, "physical_package_id"), _topology(root, "core_id")
    if not packages or not cores or len(packages) != len(cores):
        return None
    return len(set(zip(packages, cores, strict=True)))


def smt(root: Path) -> bool | None:
    """Whether several logical CPUs share a core now."""
    return {0: False, 1: True}.get(_or(number(root / CPUS / "smt/active"), -1))


def hypervisor(root: Path) -> str | None:
    """The hypervisor of this machine; ``None`` if there is none or it is not reported."""
    if name := read(root / "sys/hypervisor/type"):
        return name
    vendor = read(root / "sys/class/dmi/id/sys_vendor") or ""
    product = read(root / "sys/class/dmi/id/product_name") or ""
    dmi = f"{vendor} {product}".strip()
    flagged = "hypervisor" in (cpu_features(root) or ())
    if re.search(r"KVM|QEMU|VMware|VirtualBox|Xen|Virtual Machine|Amazon EC2|Google", dmi):
        return dmi if flagged or "metal" not in product else None
    return "unnamed hypervisor" if flagged else None


def governors(root: Path) -> tuple[str, ...] | None:
    """Frequency governor of each CPU."""
    found = [read(path) for path in cpu_files(root, "cpufreq/scaling_governor")]
    return tuple(name for name in found if name) or None


def frequencies_khz(root: Path) -> tuple[int, ...] | None:
    """Current frequency of each CPU according to cpufreq; empty without cpufreq."""
    found = [number(path) for path in cpu_files(root, "cpufreq/scaling_cur_freq")]
    return tuple(khz for khz in found if khz is not None) or None


def clusters(root: Path) -> tuple[Cluster, ...] | None:
    """CPUs of one kind, the slowest first: by capacity, then by the highest clock."""
    highest: dict[int, int] = {}
    for policy in (root / CPUS).glob("cpufreq/policy[0-9]*"):
        most = number(policy / "cpuinfo_max_freq")
        if most is not None:
            # Those that are offline too.
            cpus = (read(policy / "related_cpus") or "").split()
            highest.update((int(cpu), most) for cpu in cpus if cpu.isdecimal())
    found: dict[tuple[int, int], list[int]] = {}
    for capacity_file in cpu_files(root, "cpu_capacity"):
        cpu, capacity = int(capacity_file.parent.name[3:]), number(capacity_file)
        clock = highest.get(cpu, number(capacity_file.parent / "cpufreq/cpuinfo_max_freq"))
        if capacity is not None or clock is not None:
            # Capacity tells kinds with equal clocks apart.
            found.setdefault((_or(capacity, -1), _or(clock, -1)), []).append(cpu)
    kinds = sorted(found.items())
    return (
        tuple(
            Cluster(cpus=tuple(cpus), max_khz=None if clock < 0 else clock)
            for (_, clock), cpus in kinds
        )
        or None
    )


def turbo(root: Path) -> bool | None:
    """Whether frequencies above the nominal one are allowed."""
    disabled = number(root / CPUS / "intel_pstate/no_turbo")
    if disabled is not None:
        return disabled == 0
    boost = number(root / CPUS / "cpufreq/boost")
    return None if boost is None else boost == 1


def steal_ns(root: Path) -> int | None:
    """CPU time over all CPUs since boot that the hypervisor gave to other guests."""
    found = re.search(r"^cpu +(?:\d+ +){7}(\d+)", read(root / "proc/stat") or "", re.M)
    return int(found[1]) * NS_PER_TICK if found else None


def _field(cpuinfo: str, name: str) -> str | None:
    found = re.search(rf"^{re.escape(name)}\s*:[ \t]*(\S.*)$", cpuinfo, re.M)
    return found[1].strip() if found else None


def cpu_files(root: Path, name: str) -> Iterable[Path]:
    """The file ``name`` of each CPU, whether or not it exists."""
    folders = [path for path in (root / CPUS).glob("cpu*") if path.name[3:].isdecimal()]
    return [folder / name for folder in sorted(folders, key=lambda path: int(path.name[3:]))]


def existing(paths: Iterable[Path]) -> list[Path]:
    """Those that exist."""
    return [path for path in paths if path.exists()]


def _topology(root: Path, name: str) -> list[int]:
    found = [number(path) for path in cpu_files(root, f"topology/{name}")]
    return [value for value in found if value is not None]


def _listed(path: Path) -> int | None:
    """The number of CPUs in a list such as ``0-3,8``."""
    text = read(path)
    if not text or not re.fullmatch(r"\d{1,6}(-\d{1,6})?(,\d{1,6}(-\d{1,6})?)*", text):
        return None
    spans = [part.split("-") for part in text.split(",")]
    return sum(int(span[-1]) - int(span[0]) + 1 for span in spans)


def _or(value: int | None, otherwise: int) -> int:
    return otherwise if value is None else value
