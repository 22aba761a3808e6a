"""The adb server that latbench uses: one of its own, unless the user names another.

The user's server is asked over its socket and never by the ``adb`` program, which would end a
server of another version. (Android Open Source Project, adb: SERVICES.TXT and OVERVIEW.TXT.)
"""

from __future__ import annotations

import getpass
import hashlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from latbench.errors import StageError

USUAL_PORT = 5037
FIRST_PORT, PORTS = 15037, 10_000
"""Below the ports that systems hand out."""
PORT_VARIABLE = "LATBENCH_ADB_PORT"
PROGRAM_VARIABLE = "LATBENCH_ADB"
_START_TIMEOUT_S = 20.0
ANSWER_TIMEOUT_S = 10.0
STARTED = b"started by latbench\n"
ITS_VARIABLES = (
    *("ANDROID_SERIAL", "ANDROID_ADB_SERVER_ADDRESS", "ANDROID_ADB_SERVER_PORT"),
    *("ADB_SERVER_SOCKET", "ADB_TRACE"),
)
"""Variables that would send adb to another server or device."""
NO_SERIAL = "(no serial number)"
"""What adb lists for a device that has none."""
_LISTED = re.compile(
    r"(?P<serial>\S.*?)\s+(?P<state>no permissions|[a-z]+)"
    r"(?P<rest>(?: ?\(.*\))?(?:; see \[\S*\])?(?:\s+\w+:\S*)*)\s*",
    re.IGNORECASE,
)
"""A serial may contain spaces: `adb-R5CT-x (2)._adb-tls-connect._tcp` is a phone's second name in
the network. What follows the state is in parentheses or has a colon."""


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A device in the list of a server."""

    serial: str
    state: str
    """Such as ``device``, ``offline``, ``unauthorized``, ``no permissions``."""
    path: str | None
    """Such as ``usb:1-2``; a serial too, for adb."""
    model: str | None


def find_adb() -> str:
    """The ``adb`` program. Raises :class:`StageError` (``unavailable``)."""
    name = "adb.exe" if sys.platform == "win32" else "adb"
    homes = [os.environ.get(each) for each in ("ANDROID_HOME", "ANDROID_SDK_ROOT")]
    named = os.environ.get(PROGRAM_VARIABLE)
    usual = (name, *(str(Path(home, "platform-tools", name)) for home in homes if home))
    for place in (named,) if named else usual:
        if found := shutil.which(place):
            return found
    raise StageError(
        "probe",
        f"{PROGRAM_VARIABLE} names {named}, which is not a program"
        if named
        else "phones are reached by the program adb, which was not found",
        hint="install Android's platform-tools (Debian: apt install adb; macOS: brew install "
        f"android-platform-tools), or name it: {PROGRAM_VARIABLE}=/path/to/adb",
        kind="unavailable",
    )


def usual_port() -> int:
    """The port of the server that the user's own ``adb`` talks to."""
    named = os.environ.get("ANDROID_ADB_SERVER_PORT", "")
    return int(named) if named.isdecimal() else USUAL_PORT


def chosen_port() -> int:
    """The port of latbench's server: the same for all processes of one user."""
    named = os.environ.get(PORT_VARIABLE, "")
    if named:
        if not named.isdecimal() or not 0 < int(named) < 2**16:
            raise StageError(
                "probe", f"{PORT_VARIABLE} is not the number of a port: {named}", kind="unavailable"
            )
        return int(named)
    if hasattr(os, "getuid"):
        return FIRST_PORT + int(os.getuid()) % PORTS
    digest = hashlib.sha256(getpass.getuser().encode()).digest()
    return FIRST_PORT + int.from_bytes(digest[:4], "big") % PORTS


def ask_server(port: int, service: str) -> str | None:
    """What the server at ``port`` of this machine says; ``None`` if none is there.

    Raises :class:`StageError` if something else is there, or if it refuses.
    """
    try:
        with socket.create_connection(("127.0.0.1", port), ANSWER_TIMEOUT_S) as connection:
            connection.sendall(f"{len(service):04x}{service}".encode())
            with connection.makefile("rb") as answer:
                status = answer.read(4)
                size = answer.read(4)
                text = answer.read(int(size, 16)) if re.fullmatch(rb"[0-9a-fA-F]{4}", size) else b""
    except ConnectionRefusedError:
        return None
    except OSError as error:
        raise StageError(
            "probe",
            f"the adb server at port {port} does not answer: {error.strerror or error}",
            hint=f"end it: adb -P {port} kill-server",
            kind="unavailable",
        ) from error
    if status == b"OKAY":
        return text.decode(errors="replace")
    if status == b"FAIL":
        raise StageError(
            "probe", f"the adb server at port {port} refuses: {text.decode(errors='replace')}"
        )
    raise StageError(
        "probe",
        f"what listens at port {port} is not an adb server",
        hint=f"choose another port for latbench's: {PORT_VARIABLE}=PORT",
        kind="unavailable",
    )


def listed_by(port: int) -> tuple[Listed, ...] | None:
    """The devices of the server at ``port``; ``None`` without a server."""
    text = ask_server(port, "host:devices-l")
    if text is None:
        return None
    matches = [_LISTED.fullmatch(line) for line in text.splitlines()]
    return tuple(
        Listed(
            serial=found["serial"],
            state=found["state"].lower(),
            path=path[1] if (path := re.search(r"\s(usb:\S+)", found["rest"])) else None,
            model=model[1] if (model := re.search(r"\smodel:(\S+)", found["rest"])) else None,
        )
        for found in matches
        if found
    )


class AdbServer:
    """A running server. ``close`` ends it if latbench has started it and uses it no longer.

    A server holds the USB devices that it has found, so that no other server can use them.
    """

    def __init__(self) -> None:
        self.program = find_adb()
        self.port = chosen_port()
        self._use = _opened_for_use(self.port)
        self.is_new = False
        """Whether it has just been started, and may still look for devices."""
        try:
            self._check_version()
            if ask_server(self.port, "host:version") is None:
                self._start()
        except BaseException:
            self._forget()
            raise

    def command(self, *arguments: str) -> list[str]:
        """The command line of a client of this server."""
        return [self.program, "-P", str(self.port), *arguments]

    def said(self, *arguments: str, timeout_s: float) -> str:
        """What ``adb`` prints, errors too. Raises :class:`StageError` (``timeout``)."""
        return _said(self.command(*arguments), timeout_s)

    def devices(self) -> tuple[Listed, ...]:
        """The devices that it sees."""
        return listed_by(self.port) or ()

    def close(self) -> None:
        """Leave it. It may be called again."""
        if self._use is None:
            return
        if self.port != usual_port() and _is_last(self._use):
            with suppress(StageError):
                self.said("kill-server", timeout_s=ANSWER_TIMEOUT_S)
            self._use.truncate(0)
        self._forget()

    def _forget(self) -> None:
        if self._use is not None:
            self._use.close()
            self._use = None

    def _check_version(self) -> None:
        """Raises :class:`StageError` for a server that a client of ours would end."""
        theirs = ask_server(self.port, "host:version")
        if theirs is None:
            return
        ours = re.search(r"version 1\.0\.(\d+)", _said([self.program, "version"], ANSWER_TIMEOUT_S))
        if ours is None or int(theirs, 16) != int(ours[1]):
            raise StageError(
                "probe",
                f"the adb server at port {self.port} is of version {int(theirs, 16)}, "
                f"{self.program} of version {ours[1] if ours else 'unknown'}",
                hint=f"use the adb that started it ({PROGRAM_VARIABLE}=/path/to/adb), or end it: "
                f"adb -P {self.port} kill-server",
                kind="unavailable",
            )

    def _start(self) -> None:
        said = self.said("start-server", timeout_s=_START_TIMEOUT_S)
        if ask_server(self.port, "host:version") is None:
            raise StageError(
                "probe",
                f"adb does not start a server at port {self.port}: {last_line(said)}",
                hint=f"try by hand: {self.program} -P {self.port} start-server",
                kind="unavailable",
            )
        self.is_new = True
        if self._use is not None:
            self._use.write(STARTED)
            self._use.flush()


def client_environment() -> dict[str, str]:
    """The environment of an ``adb`` of this server alone, without the variables of others."""
    return {name: value for name, value in os.environ.items() if name not in ITS_VARIABLES}


def last_line(text: str) -> str:
    """The last line that is not empty."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it says nothing"


def _said(command: Sequence[str], timeout_s: float) -> str:
    # A file and no pipe: a server that is started keeps what it inherits open.
    with tempfile.TemporaryFile() as output:
        try:
            subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=client_environment(),
                cwd=tempfile.gettempdir(),
                start_new_session=True,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise StageError(
                "probe", f"{' '.join(command)} did not end within {timeout_s:g} s", kind="timeout"
            ) from error
        except OSError as error:
            raise StageError(
                "probe", f"{command[0]} cannot be started: {error.strerror}", kind="unavailable"
            ) from error
        output.seek(0)
        return output.read().decode(errors="replace")


def _opened_for_use(port: int) -> IO[bytes] | None:
    """A file that every process of latbench that uses the server has locked with the others."""
    try:
        import fcntl
    except ImportError:  # Windows: the server is left running.
        return None
    # Not in a folder that a variable chooses: the same port is the same server.
    path = Path(tempfile.gettempdir(), f"latbench-adb-{os.getuid()}-{port}.lock")
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        file = os.fdopen(os.open(path, flags, 0o600), "r+b", buffering=0)
        fcntl.flock(file, fcntl.LOCK_SH)
    except OSError:
        return None
    return file


def _is_last(use: IO[bytes]) -> bool:
    """Whether latbench has started the server, and no other process of it is left."""
    import fcntl

    try:
        fcntl.flock(use, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    use.seek(0)
    return STARTED in use.read()
