"""Why a program gave no result, in words: from its exit status and what it wrote."""

from __future__ import annotations

import re
from dataclasses import dataclass

from latbench.errors import StageError

_LAST_LINES = 12
_LIBRARY = re.compile(
    r"error while loading shared libraries: (?P<linux>[^\s:]+)"
    r"|CANNOT LINK EXECUTABLE .*library \"(?P<android>[^\"]+)\" not found"
    r"|Library not loaded: (?P<macos>\S+)"
)
_LIBC = re.compile(r"version [`'](\w+_[\d.]+)' not found")
_ABI = re.compile(
    r"exec format error|cannot execute binary file|bad cpu type|not executable: \d+-bit|"
    r"syntax error",
    re.IGNORECASE,
)
_NOT_EXECUTABLE, _NOT_FOUND = 126, 127
_SIGKILL = 9
_SIGNALS = {4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", _SIGKILL: "SIGKILL", 11: "SIGSEGV"}
"""Numbers on Linux."""


@dataclass(frozen=True, kw_only=True)
class EndedProgram:
    """A program that was run on a device."""

    name: str
    place: str
    """The device in words: ``on board``."""
    status: int
    """Exit status, negative for a signal."""
    output: str
    limit_s: float
    timed_out: bool = False
    architecture: str | None = None
    """What the program was built for, as ``uname -m`` names it."""
    machine: str | None = None
    """What the device is."""


def program_failure(ended: EndedProgram) -> StageError | None:
    """The failure; ``None`` if it ended as a program does that succeeds."""
    name, place, status = ended.name, ended.place, ended.status
    said = last_lines(ended.output)
    if ended.timed_out:
        return StageError(
            "time",
            f"{name} did not end within {ended.limit_s:g} s {place} and was ended",
            hint="raise --timeout, or give it fewer runs (its own options stand after --)",
            kind="timeout",
            detail=said,
        )
    if status == 0:
        return None
    if _wrong_abi(ended):
        return StageError(
            "open",
            f"{name} is a program for {ended.architecture}, and the device is {ended.machine}",
            hint="take the build for the device's ABI",
            kind="unavailable",
            detail=said,
        )
    if library := _LIBRARY.search(ended.output):
        missing = next(each for each in library.groups() if each)
        return StageError(
            "open",
            f"{name} needs the library {missing}, which is not {place}",
            hint="give it with --library PATH",
            kind="unavailable",
            detail=said,
        )
    if libc := _LIBC.search(ended.output):
        return StageError(
            "open",
            f"{name} needs {libc[1]}, and the C library {place} is older",
            hint="take a build for an older system",
            kind="unavailable",
            detail=said,
        )
    return _by_status(ended, said)


def _by_status(ended: EndedProgram, said: str | None) -> StageError:
    name, place, status = ended.name, ended.place, ended.status
    if status < 0:
        killed = status == -_SIGKILL
        return StageError(
            "time",
            f"{name} was ended {place} by {_SIGNALS.get(-status, f'signal {-status}')}",
            hint="did the device run out of memory?" if killed else None,
            kind="crash",
            detail=said,
        )
    if status == _NOT_EXECUTABLE:
        message = f"{name} may not be executed {place}"
        hint = "its folder may forbid it (mounted noexec); devices add --folder names another"
    elif status == _NOT_FOUND:
        message = f"{name}, or the loader that it names, is not {place}"
        hint = "a build for Android does not run on Linux, nor the other way round"
    else:
        return StageError(
            "time",
            f"{name} ended with status {status} {place}"
            + (f": {said.splitlines()[-1].strip()}" if said else ""),
            kind="error",
            detail=said,
        )
    return StageError("open", message, hint=hint, kind="unavailable", detail=said)


def last_lines(output: str) -> str | None:
    """The last lines that say something; ``None`` if nothing does."""
    lines = [line for line in output.splitlines() if line.strip()]
    return "\n".join(lines[-_LAST_LINES:]) or None


def _wrong_abi(ended: EndedProgram) -> bool:
    other = ended.architecture and ended.machine and ended.architecture != ended.machine
    refused = ended.status in (_NOT_EXECUTABLE, _NOT_FOUND) or _ABI.search(ended.output)
    return bool(other and refused)
