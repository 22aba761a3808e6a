"""A control group with a quota of CPU time, version 1 or 2."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

PERIOD_US = 20_000
"""Short, so that a slow device computes slowly rather than now and then."""


class ControlGroup:
    """The group of one device; without a hierarchy that can be written, it limits nothing."""

    def __init__(self, name: str) -> None:
        self._version, root = _hierarchy()
        self._folder: Path | None = root / name if root else None
        if self._folder is not None:
            try:
                self._folder.mkdir()
            except OSError:
                self._folder = None

    @property
    def available(self) -> bool:
        return self._folder is not None

    def joining(self, *command: str) -> list[str]:
        """``command`` as a member of the group."""
        if self._folder is None:
            return list(command)
        join = 'echo $$ > "$1"; shift; exec "$@"'
        return ["sh", "-c", join, "sh", str(self._folder / "cgroup.procs"), *command]

    def limit(self, cpus: float | None) -> None:
        """Set the quota; ``None``: no limit."""
        if self._folder is None:
            raise RuntimeError("no control group for CPU time can be made here")
        quota = None if cpus is None else round(cpus * PERIOD_US)
        if self._version == 2:
            (self._folder / "cpu.max").write_text(f"{quota or 'max'} {PERIOD_US}")
        else:
            (self._folder / "cpu.cfs_quota_us").write_text("-1")
            (self._folder / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (self._folder / "cpu.cfs_quota_us").write_text(str(quota or -1))

    def remove(self) -> None:
        """Remove it; killed members may take some milliseconds to leave."""
        if self._folder is not None:
            for _ in range(200):
                with suppress(OSError):
                    self._folder.rmdir()
                if not self._folder.exists():
                    return
                time.sleep(0.01)


def stale(prefix: str) -> list[Path]:
    """Groups whose names begin with ``prefix``."""
    _, root = _hierarchy()
    return list(root.glob(f"{prefix}*")) if root else []


def _hierarchy() -> tuple[int, Path | None]:
    """The version and the mounted root of the hierarchy that limits CPU time."""
    mount = Path("/sys/fs/cgroup")
    if (mount / "cgroup.controllers").exists():
        with suppress(OSError):
            (mount / "cgroup.subtree_control").write_text("+cpu")
        enabled = "cpu" in (mount / "cgroup.subtree_control").read_text().split()
        return 2, mount if enabled else None
    roots = (mount / "cpu", mount / "cpu,cpuacct")
    return 1, next((each for each in roots if (each / "cgroup.procs").exists()), None)
