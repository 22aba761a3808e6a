"""Storing a file on a device: its shell takes the bytes, complete or not at all."""

from __future__ import annotations

from latbench.devices.transport import COMMAND_TIMEOUT_S, Completed
from latbench.errors import StageError

_SLOW_BYTES_PER_S = 500_000
SHA256 = "sha256sum 2>/dev/null || shasum -a 256"
"""Linux and Android have the one, macOS the other; both print the digest first."""
RECEIVE = (
    'mkdir -p "$(dirname "$1")" && umask 077 && cat >"$1.part" && '
    f'({SHA256}) <"$1.part" && mv -f "$1.part" "$1" || {{ rm -f "$1.part"; exit 1; }}'
)
"""Shell program that stores its input at a path, complete or not at all, and prints its digest."""


def receiver(target: str) -> tuple[str, ...]:
    """The command that stores its input at ``target``."""
    return ("sh", "-c", RECEIVE, "sh", target)


def receive_timeout_s(size_bytes: int) -> float:
    """How long a slow link may take."""
    return COMMAND_TIMEOUT_S + size_bytes / _SLOW_BYTES_PER_S


def check_received(done: Completed, sent_sha256: str, target: str, device: str) -> None:
    """Raises :class:`StageError` if ``target`` is not what was sent."""
    if done.status != 0:
        raise StageError(
            "open",
            f"cannot write {target} on {device}: {done.said}",
            hint="free space there (latbench devices check), or choose another folder: "
            "latbench devices add --folder",
        )
    if sent_sha256.encode() not in done.stdout.split():
        raise StageError(
            "open",
            f"{target} on {device} is not what was sent",
            hint="a faulty disk or link; try again",
        )
