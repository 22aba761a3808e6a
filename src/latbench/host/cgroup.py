"""The control group's CPU limits, version 1 and 2, nested groups included."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from latbench.host.linux import number, read

MOUNT = "sys/fs/cgroup"


def cpu_quota_milli(root: Path) -> int | None:
    """The tightest bandwidth limit of the group and its ancestors, in thousandths of a CPU."""
    return min((limit for limit in _limits(root) if limit is not None), default=None)


def throttled_ns(root: Path) -> int | None:
    """How long the group has been throttled since its creation; ``None`` if that is not counted."""
    for folder in (*_folders(root, "", MOUNT), *_folders(root, "cpu", f"{MOUNT}/cpu")):
        text = read(folder / "cpu.stat") or ""
        if found := re.search(r"^throttled_usec (\d+)$", text, re.M):
            return int(found[1]) * 1000
        if found := re.search(r"^throttled_time (\d+)$", text, re.M):
            return int(found[1])
    return None


def _limits(root: Path) -> Iterator[int | None]:
    for folder in _folders(root, "", MOUNT):
        found = re.fullmatch(r"(\d+) (\d+)", read(folder / "cpu.max") or "")
        if found and int(found[2]) > 0:
            yield int(found[1]) * 1000 // int(found[2])
    for controller in ("cpu", "cpu,cpuacct"):
        for folder in _folders(root, "cpu", f"{MOUNT}/{controller}"):
            # -1 stands for no limit and is not a number for `number`.
            quota, period = (
                number(folder / "cpu.cfs_quota_us"),
                number(folder / "cpu.cfs_period_us"),
            )
            if quota and period:
                yield quota * 1000 // period


def _folders(root: Path, controller: str, mount: str) -> Iterator[Path]:
    """The group's folder and those of its ancestors. Version 2 names no controller."""
    for line in (read(root / "proc/self/cgroup") or "").splitlines():
        parts = line.split(":", 2)
        if len(parts) != 3 or ".." in parts[2].split("/"):
            continue
        if (controller in parts[1].split(",")) if controller else parts[1] == "":
            path = Path(parts[2].lstrip("/"))
            for folder in (path, *path.parents):
                yield root / mount / folder
