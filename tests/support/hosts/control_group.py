"""A control group with a quota or a share of CPU time, version 1 or 2.

A quota limits what its members get in each period, and everything that runs on the device uses it
up: processes of sshd too. How much slower a model is then depends on them, and on who else
computes on this machine.

A share makes a device slower by a known factor. The group comes before everybody else's programs
on one CPU, and holds the device and a rival: one program that computes all the time. Both have the
same weight, so the scheduler gives each half of that CPU whenever the device computes. The two
take turns of some milliseconds, of which a call must hold many: one that fits into a turn is either
not slowed down at all or waits for one, and the median of such calls says nothing. The mean of calls
much longer than a turn is twice that without the rival, plus what the caches lose in a change.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

PERIOD_US = 20_000
"""Short, so that a slow device computes slowly rather than now and then."""


WEIGHTS = {1: ("cpu.shares", "262144"), 2: ("cpu.weight", "10000")}
"""Version -> file and the largest weight, hundreds of times the usual one."""
RIVAL = ("setpriv", "--pdeathsig", "KILL", "sh", "-c", "while :; do :; done")
"""It ends with the process that started it."""


class ControlGroup:
    """The group of one device; without a hierarchy that can be written, it limits nothing.

    With ``cpu``, its members have that CPU alone, and it before everybody else.
    """

    def __init__(self, name: str, cpu: int | None = None) -> None:
        self._version, root = _hierarchy()
        self._folder: Path | None = root / name if root else None
        if self._folder is not None:
            try:
                self._folder.mkdir()
            except OSError:
                self._folder = None
        self._pin = () if cpu is None else ("taskset", "--cpu-list", str(cpu))
        self._shares = tuple(self._shared()) if self._folder and cpu is not None else ()
        self._rival: subprocess.Popen[bytes] | None = None

    def _shared(self) -> Iterator[Path]:
        """The groups of equal weight of the device and of its rival."""
        assert self._folder is not None
        file, largest = WEIGHTS[self._version]
        (self._folder / file).write_text(largest)
        if self._version == 2:
            (self._folder / "cgroup.subtree_control").write_text("+cpu")
        for name in ("device", "rival"):
            (self._folder / name).mkdir()
            yield self._folder / name

    @property
    def available(self) -> bool:
        return self._folder is not None

    def joining(self, *command: str) -> list[str]:
        """``command`` as a member of the group."""
        if self._folder is None:
            return [*self._pin, *command]
        return _in_group(self._shares[0] if self._shares else self._folder, *self._pin, *command)

    def compete(self, on: bool) -> None:
        """Let the rival of the device compute, or end it."""
        if not self._shares:
            raise RuntimeError("no control group for shares of a CPU can be made here")
        if self._rival is not None:
            self._rival.kill()
            self._rival.wait()
        command = _in_group(self._shares[1], *self._pin, *RIVAL)
        null = subprocess.DEVNULL
        self._rival = subprocess.Popen(command, stdin=null, stdout=null) if on else None

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
        if self._rival is not None:
            self.compete(False)
        for folder in (*self._shares, *([self._folder] if self._folder else ())):
            for _ in range(200):
                with suppress(OSError):
                    folder.rmdir()
                if not folder.exists():
                    break
                time.sleep(0.01)


def _in_group(folder: Path, *command: str) -> list[str]:
    join = 'echo $$ > "$1"; shift; exec "$@"'
    return ["sh", "-c", join, "sh", str(folder / "cgroup.procs"), *command]


def stale(prefix: str) -> list[Path]:
    """Groups whose names begin with ``prefix``."""
    _, root = _hierarchy()
    return [*root.glob(f"{prefix}*/*/"), *root.glob(f"{prefix}*")] if root else []


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
