"""Android devices, by the ``adb`` program.

Every program on the device is an ``adb shell -T`` of its own. adb notices no cut cable, so that one
more shell echoes a line every two seconds; without three of them the connection is lost.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Literal

from latbench.devices.adb_server import AdbServer, client_environment
from latbench.devices.adb_state import HOST_AND_PORT, reach
from latbench.devices.addresses import AdbAddress
from latbench.devices.receiving import check_received, receive_timeout_s, receiver
from latbench.devices.transport import (
    Channel,
    Completed,
    lost_connection,
    signal_or_status,
)
from latbench.errors import StageError
from latbench.files import content_sha256

HOME = "/data/local/tmp"
"""The only folder in which the user of ``adb shell`` may write programs and execute them."""
PHONE_LOCK = f"{HOME}/latbench-device.lock"
BEAT_S, BEATS = 2.0, 3
"""The connection is lost when so many signs of life have been missed, one every ``BEAT_S``."""
END_TIMEOUT_S = 0.5
ERRORS_TIMEOUT_S = 1.0
_DETAIL_BYTES = 4000
ENDED = re.compile(rb"\n?latbench-ended (\d+)\n")
"""What the device's shell adds to standard error when the program has ended.

adb gives a lost connection the exit status 0 or 255, depending on its version."""


def adb_connection(address: AdbAddress, name: str) -> AdbTransport:
    """Connect to the device ``name``. Raises :class:`StageError` with what is wrong."""
    server = AdbServer()
    try:
        reach(server, address.serial, name)
        try:
            return AdbTransport(server, address.serial, name)
        except StageError as error:
            if error.kind != "disconnected" or not HOST_AND_PORT.fullmatch(address.serial):
                raise
            # The server still holds a connection that a cable or a power cut has ended.
            reach(server, address.serial, name, reconnect=True)
            return AdbTransport(server, address.serial, name)
    except BaseException:
        server.close()
        raise


class AdbTransport:
    """One device, watched by a thread. It closes the ``server`` once it has connected."""

    def __init__(self, server: AdbServer, serial: str, name: str) -> None:
        self._server = server
        self._serial = serial
        self._name = name
        self._clients: set[subprocess.Popen[bytes]] = set()
        self._guard = threading.Lock()
        self._lost = False
        self._closed = threading.Event()
        self._echoed = threading.Event()
        self._beating = self.spawned(("cat",), {})
        threading.Thread(target=self._listen, daemon=True, name="adb echo").start()
        _write(self._beating, b"\n")
        if not self._echoed.wait(BEAT_S * BEATS):
            self._lose()
            raise self.lost()
        threading.Thread(target=self._watch, daemon=True, name="adb watch").start()

    @property
    def kind(self) -> Literal["adb"]:
        """The word for it in records."""
        return "adb"

    @property
    def device_lock(self) -> str:
        """The file that reserves the device, for all its users."""
        return PHONE_LOCK

    def run(self, command: Sequence[str], *, timeout_s: float, stdin: bytes = b"") -> Completed:
        """Run a command to its end. Raises :class:`StageError`."""
        process = self.spawned(command, {})
        try:
            stdout, stderr = process.communicate(stdin, timeout_s)
        except subprocess.TimeoutExpired as error:
            raise self._late(command[0], timeout_s) from error
        finally:
            self.end(process)
        return self._completed(stdout, stderr)

    def start(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        alive_every_s: float | None = None,
    ) -> Channel:
        """Start a program. Raises :class:`StageError`."""
        channel = AdbChannel(self, self.spawned(command, environment))
        if alive_every_s is not None:
            channel.stay_alive(alive_every_s)
        return channel

    def push(self, source: Path, target: str) -> None:
        """Copy a file to an absolute path on the device. Raises :class:`StageError`."""
        timeout_s = receive_timeout_s(source.stat().st_size)
        with source.open("rb") as file:
            process = self.spawned(receiver(target), {}, stdin=file)
            try:
                stdout, stderr = process.communicate(timeout=timeout_s)
            except subprocess.TimeoutExpired as error:
                raise self._late(f"copying {source.name}", timeout_s) from error
            finally:
                self.end(process)
        done = self._completed(stdout, stderr)
        check_received(done, content_sha256(source), target, self._name)

    def close(self) -> None:
        """End the connection. It may be called again."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._end_all()
        self._server.close()

    def lost(self, detail: str | None = None) -> StageError:
        """What is raised once nothing can be asked of the device."""
        return lost_connection(self._name, detail)

    def is_lost(self) -> bool:
        """Whether the connection has ended."""
        return self._lost

    def spawned(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        stdin: int | IO[bytes] = subprocess.PIPE,
    ) -> subprocess.Popen[bytes]:
        """A client whose program starts on the device. Raises :class:`StageError`."""
        line = _shell_line(command, environment)
        with self._guard:
            if self._lost or self._closed.is_set():
                raise self.lost()
            try:
                process = subprocess.Popen(
                    self._server.command("-s", self._serial, "shell", "-T", line),
                    stdin=stdin,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    env=client_environment(),
                    # Ctrl-C is for latbench, which ends it in its turn.
                    start_new_session=True,
                )
            except OSError as error:
                raise StageError(
                    "open", f"{self._server.program} cannot be started: {error.strerror}"
                ) from error
            self._clients.add(process)
        return process

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """End a client, and with it the input of its program on the device."""
        process.kill()
        process.wait()
        with self._guard:
            self._clients.discard(process)

    def _completed(self, stdout: bytes, stderr: bytes) -> Completed:
        said, status = _parted(stderr)
        if status is None:
            raise self.lost(said.decode(errors="replace").strip() or None)
        return Completed(status=status, stdout=stdout, stderr=said)

    def _late(self, what: str, timeout_s: float) -> StageError:
        if self._lost:
            return self.lost()
        return StageError(
            "open",
            f"{what} did not end within {timeout_s:g} s on {self._name}",
            hint="the device or the link is busy; try again",
            kind="timeout",
        )

    def _listen(self) -> None:
        assert self._beating.stdout is not None
        while self._beating.stdout.readline():
            self._echoed.set()

    def _watch(self) -> None:
        """Count the beats without an echo: a process that was stopped itself misses none."""
        missed = 0
        while missed < BEATS and self._beating.poll() is None:
            self._echoed.clear()
            _write(self._beating, b"\n")
            if self._closed.wait(BEAT_S):
                return
            missed = 0 if self._echoed.is_set() else missed + 1
        if not self._closed.is_set():
            self._lose()

    def _lose(self) -> None:
        self._lost = True
        self._end_all()

    def _end_all(self) -> None:
        with self._guard:
            clients = tuple(self._clients)
        for each in clients:
            each.kill()


class AdbChannel:
    """The standard streams of a program on the device."""

    def __init__(self, transport: AdbTransport, process: subprocess.Popen[bytes]) -> None:
        self._transport = transport
        self._process = process
        self._errors = b""
        self._closed = False
        self._wanted: SimpleQueue[bytes | None] = SimpleQueue()
        """What is to be written: a device that takes nothing must not stop the harness."""
        self._gatherer = threading.Thread(target=self._gather_errors, daemon=True)
        self._gatherer.start()
        threading.Thread(target=self._write_wanted, daemon=True).start()

    def write(self, data: bytes) -> None:
        self._wanted.put(data)

    def read_line(self, longest: int) -> bytes:
        assert self._process.stdout is not None
        with suppress(ValueError):  # It has been closed.
            return self._process.stdout.readline(longest)
        return b""

    def status(self, timeout_s: float) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        if self._process.poll() is None:
            return None
        self._gatherer.join(ERRORS_TIMEOUT_S)
        found = _parted(self._errors)[1]
        # One that was closed here may have ended either way, but not where the connection is lost.
        if found is None and (self._transport.is_lost() or not self._closed):
            raise self._transport.lost(self.detail())
        return found

    def detail(self) -> str | None:
        return _parted(self._errors)[0].decode(errors="replace").strip() or None

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._wanted.put(None)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(END_TIMEOUT_S)
        self._transport.end(self._process)

    def stay_alive(self, every_s: float) -> None:
        """Write an empty line so often."""

        def write() -> None:
            while self._process.poll() is None and not self._closed:
                self.write(b"\n")
                time.sleep(every_s)

        threading.Thread(target=write, daemon=True).start()

    def _write_wanted(self) -> None:
        while (data := self._wanted.get()) is not None:
            _write(self._process, data)
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()

    def _gather_errors(self) -> None:
        assert self._process.stderr is not None
        while data := self._process.stderr.readline(_DETAIL_BYTES):
            self._errors = (self._errors + data)[-_DETAIL_BYTES:]


def _write(process: subprocess.Popen[bytes], data: bytes) -> None:
    """Write to its input; what it no longer reads is dropped."""
    assert process.stdin is not None
    with suppress(OSError, ValueError):
        process.stdin.write(data)
        process.stdin.flush()


def _shell_line(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """What the device's shell executes: every word is quoted.

    A session of its own keeps signals to the program's group from the shell that tells its end.
    """
    variables = {"HOME": HOME, "TMPDIR": HOME, **environment}
    words = ["setsid", "env", *(f"{name}={value}" for name, value in variables.items()), *command]
    return f"{shlex.join(words)}; printf '\\nlatbench-ended %d\\n' $? >&2"


def _parted(errors: bytes) -> tuple[bytes, int | None]:
    """What a program wrote to standard error, and how it ended, negative for a signal."""
    found = None
    for found in ENDED.finditer(errors):  # noqa: B007 - the last one
        pass
    if found is None:
        return errors, None
    return errors[: found.start()] + errors[found.end() :], signal_or_status(int(found[1]))
