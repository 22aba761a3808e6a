"""What a device is made of."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from support.environment import ROOT

LAB = "lab"
"""The network that this machine is connected to."""
BACK = "back"
"""A network behind a device."""

CHECKOUT = (ROOT, Path(sys.prefix), Path(sys.base_prefix))
"""What a device must see to run this checkout's programs with this interpreter."""


@dataclass(frozen=True, kw_only=True)
class HostSpec:
    """A device; the defaults describe a plain Debian board with Python 3."""

    name: str
    """Host name and alias in the ssh configuration."""
    user: str = "bench"
    """``bench`` (uid 1000) or ``root``."""
    shell: str = "/bin/bash"
    networks: tuple[str, ...] = (LAB,)
    jump: str | None = None
    """The device that leads to a device outside of the lab's network."""
    cpus: float | None = None
    """Quota of CPU time; 0.5 is half a CPU."""
    cpu: int | None = None
    """The CPU of this machine that is its only one, and that it has before everybody else."""
    python: bool = True
    sftp: bool = True
    files: Mapping[str, str] = field(default_factory=dict)
    """Path on the device -> text. Below /proc the file must exist; below /sys it may be new."""
    visible: tuple[Path, ...] = ()
    """Folders of this machine that the device also sees, read-only, at the same path."""
    disk_bytes: int | None = None
    """Size of the only disk, which holds the home folder too. Such a disk is lost at power-off."""
    banner: str | None = None
    """Printed by sshd before authentication; ssh shows it on standard error."""
    chatter: str | None = None
    """Printed on standard output by the start-up file of every shell, non-interactive ones too."""
    clock_offset_s: int = 0
    """How far the wall clock is ahead, for dynamically linked programs. Needs a C compiler."""
    adbd: Path | None = None
    """The unpacked adbd of :mod:`support.hosts.adbd`: a phone, which has no sshd and no Python.

    ``files`` in /system/bin are programs, before all others on the ``PATH`` of adbd's shells.
    """
    root: Path | None = None
    """A root folder of another architecture, whose programs run in an emulator."""

    @property
    def home(self) -> str:
        return "/root" if self.user == "root" else f"/home/{self.user}"
