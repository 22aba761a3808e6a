"""What the harness needs of the way to a device: few verbs, whatever is behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from latbench.errors import StageError

COMMAND_TIMEOUT_S = 30.0
"""Seconds for a short command on a device."""
DEVICE_LOCK = "/tmp/latbench-device.lock"  # noqa: S108 - a lock for all users of the device


@dataclass(frozen=True, kw_only=True)
class Completed:
    """A command that has ended on the device."""

    status: int
    """Exit status, negative for a signal."""
    stdout: bytes
    stderr: bytes

    @property
    def said(self) -> str:
        """The last line of what it wrote to standard error, or else to standard output."""
        text = (self.stderr.strip() or self.stdout.strip()).decode(errors="replace")
        return text.splitlines()[-1] if text else f"status {self.status}"


class Channel(Protocol):
    """The standard streams of a program that runs on the device."""

    def write(self, data: bytes) -> None:
        """Write to its standard input. What it no longer reads is dropped."""
        ...

    def read_line(self, longest: int) -> bytes:
        """Wait for a line of its output, at most ``longest`` bytes; empty once it has ended."""
        ...

    def status(self, timeout_s: float) -> int | None:
        """The exit status, negative for a signal; ``None`` if it still runs after ``timeout_s``.

        Raises :class:`StageError` of kind ``disconnected`` if the connection is lost.
        """
        ...

    def detail(self) -> str | None:
        """The end of what it wrote to standard error."""
        ...

    def close(self) -> None:
        """End its input, and forget it. It may be called again."""
        ...


class Transport(Protocol):
    """A way to a device. A lost connection raises :class:`StageError` (``disconnected``)."""

    @property
    def kind(self) -> Literal["ssh", "adb"]:
        """The word for it in records."""
        ...

    @property
    def device_lock(self) -> str:
        """The file that reserves the device, for all its users."""
        ...

    def run(self, command: Sequence[str], *, timeout_s: float, stdin: bytes = b"") -> Completed:
        """Run a command to its end. Raises :class:`StageError` (``timeout``)."""
        ...

    def start(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        alive_every_s: float | None = None,
    ) -> Channel:
        """Start a program; with ``alive_every_s``, write an empty line to it so often."""
        ...

    def push(self, source: Path, target: str) -> None:
        """Copy a file to an absolute path on the device, complete or not at all.

        Raises :class:`StageError` if there is no room or no permission.
        """
        ...

    def close(self) -> None:
        """End the connection."""
        ...


def lost_connection(name: str, detail: str | None = None) -> StageError:
    """What is raised once nothing can be asked of the device ``name``."""
    return StageError(
        "open",
        f"the connection to {name} was lost",
        hint="is it still on? `latbench devices check` tries each step of the way",
        kind="disconnected",
        detail=detail,
    )


def signal_or_status(status: int) -> int:
    """An exit status, negative for a signal, which a shell reports as 128 + n."""
    return 128 - status if 128 < status < 192 else status
