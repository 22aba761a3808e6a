"""Devices at the other end of an ssh connection, with asyncssh.

``~/.ssh/config``, the agent, jump hosts and known hosts are used as ``ssh`` uses them. Unknown and
changed host keys are refused. Every program of a device shares one connection.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import hashlib
import os
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from latbench.devices.addresses import SshAddress
from latbench.devices.login_shell import LONGEST_GREETING, after_greeting, login_shell_line
from latbench.devices.receiving import check_received, receive_timeout_s, receiver
from latbench.devices.transport import (
    COMMAND_TIMEOUT_S,
    DEVICE_LOCK,
    Channel,
    Completed,
    lost_connection,
    signal_or_status,
)
from latbench.errors import StageError

if TYPE_CHECKING:
    from asyncssh import SSHClientConnection, SSHClientProcess

T = TypeVar("T")

_CONNECT_TIMEOUT_S = 20.0
SSH_PORT = 22
KEEPALIVE_S, KEEPALIVES = 2.0, 2
"""A cut cable is noticed after some six seconds: that many signs of life may be missed."""
DISCONNECT_TIMEOUT_S = 2.0
CHUNK_BYTES = 2**18
WINDOW_BYTES = 2**23
"""Outputs of a model travel in one line, and each window takes a round trip."""
_DETAIL_BYTES = 4000


def ssh_connection(address: SshAddress, name: str) -> SshTransport:
    """Connect to the device ``name``. Raises :class:`StageError` with what is wrong."""
    return SshTransport(address, name)


class SshTransport:
    """One connection, served by a thread of its own."""

    def __init__(self, address: SshAddress, name: str) -> None:
        self._asyncssh = _asyncssh()
        self._name = name
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="ssh")
        self._thread.start()
        try:
            self._connection = self._connected(address)
        except BaseException:
            self._stop()
            raise

    @property
    def kind(self) -> Literal["ssh"]:
        """The word for it in records."""
        return "ssh"

    @property
    def device_lock(self) -> str:
        """The file that reserves the device, for all its users."""
        return DEVICE_LOCK

    def run(self, command: Sequence[str], *, timeout_s: float, stdin: bytes = b"") -> Completed:
        """Run a command to its end. Raises :class:`StageError`."""
        return self._waited(self._run(login_shell_line(command, {}), stdin), timeout_s, command[0])

    def start(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        alive_every_s: float | None = None,
    ) -> Channel:
        """Start a program. Raises :class:`StageError`."""
        line = login_shell_line(command, environment)
        process = self._waited(self._created(line), COMMAND_TIMEOUT_S, command[0])
        channel = SshChannel(self, process)
        if alive_every_s is not None:
            self.spawn(_stay_alive(process, alive_every_s))
        return channel

    def push(self, source: Path, target: str) -> None:
        """Copy a file to an absolute path on the device. Raises :class:`StageError`."""
        timeout_s = receive_timeout_s(source.stat().st_size)
        line = login_shell_line(receiver(target), {})
        done, sent = self._waited(self._sent(source, line), timeout_s, f"copying {source.name}")
        check_received(done, sent, target, self._name)

    def close(self) -> None:
        """End the connection."""
        if self._loop.is_closed():
            return
        with suppress(StageError):
            self._waited(self._disconnected(), DISCONNECT_TIMEOUT_S, "disconnecting")
        self._stop()

    def lost(self) -> StageError:
        """What is raised once nothing can be asked of the device."""
        return lost_connection(self._name)

    def is_lost(self) -> bool:
        """Whether the connection has ended."""
        return bool(self._connection.is_closed())

    def wait(self, task: Coroutine[Any, Any, T], timeout_s: float | None) -> T:
        """The result of ``task`` in the thread of the connection."""
        future = asyncio.run_coroutine_threadsafe(task, self._loop)
        try:
            return future.result(timeout_s)
        except BaseException:
            future.cancel()
            raise

    def call(self, action: Callable[[bytes], None], data: bytes) -> None:
        """Do ``action`` in the thread of the connection, without waiting."""
        with suppress(RuntimeError):  # The connection has been closed.
            self._loop.call_soon_threadsafe(action, data)

    def spawn(self, task: Coroutine[Any, Any, None]) -> None:
        """Run ``task`` in the thread of the connection, without waiting."""
        asyncio.run_coroutine_threadsafe(task, self._loop)

    def _waited(self, task: Coroutine[Any, Any, T], timeout_s: float, what: str) -> T:
        try:
            return self.wait(task, timeout_s)
        except (concurrent.futures.TimeoutError, TimeoutError) as error:
            if self.is_lost():
                raise self.lost() from error
            raise StageError(
                "open",
                f"{what} did not end within {timeout_s:g} s on {self._name}",
                hint="the device or the link is busy; try again",
                kind="timeout",
            ) from error
        except (self._asyncssh.Error, OSError, concurrent.futures.CancelledError) as error:
            raise self.lost() from error

    def _connected(self, address: SshAddress) -> SSHClientConnection:
        try:
            return self.wait(self._connect(address), _CONNECT_TIMEOUT_S + 5)
        except Exception as error:
            raise _explained(error, self._asyncssh, address, self._name) from error

    async def _connect(self, address: SshAddress) -> SSHClientConnection:
        options = {
            "username": address.user,
            "port": address.port,
            "connect_timeout": _CONNECT_TIMEOUT_S,
            "login_timeout": _CONNECT_TIMEOUT_S,
            "keepalive_interval": KEEPALIVE_S,
            "keepalive_count_max": KEEPALIVES,
        }
        known = {key: value for key, value in options.items() if value is not None}
        read = _read_config(self._asyncssh, address.host, **known)
        _check_keys_are_checked(self._asyncssh, address.host, read)
        connection: SSHClientConnection = await self._asyncssh.connect(address.host, options=read)
        return connection

    async def _disconnected(self) -> None:
        self._connection.close()
        await self._connection.wait_closed()

    async def _created(self, line: str) -> SSHClientProcess[bytes]:
        return await self._connection.create_process(
            line, encoding=None, window=WINDOW_BYTES, max_pktsize=2**15
        )

    async def _run(self, line: str, stdin: bytes) -> Completed:
        process = await self._created(line)
        try:
            return _completed(process, *await process.communicate(stdin))
        finally:
            process.close()

    async def _sent(self, source: Path, line: str) -> tuple[Completed, str]:
        process = await self._created(line)
        total = hashlib.sha256()
        try:
            with source.open("rb") as file, suppress(BrokenPipeError):
                while chunk := file.read(CHUNK_BYTES):
                    total.update(chunk)
                    process.stdin.write(chunk)
                    await process.stdin.drain()
            with suppress(BrokenPipeError):
                process.stdin.write_eof()
            return _completed(process, *await process.communicate()), total.hexdigest()
        finally:
            process.close()

    def _stop(self) -> None:
        """End the thread, and whatever still waits in it."""

        async def cancelled() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for each in others:
                each.cancel()
            await asyncio.wait(others, timeout=DISCONNECT_TIMEOUT_S) if others else None

        with suppress(concurrent.futures.TimeoutError):
            self.wait(cancelled(), DISCONNECT_TIMEOUT_S * 2)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DISCONNECT_TIMEOUT_S)
        if not self._thread.is_alive():
            self._loop.close()


class SshChannel:
    """The standard streams of a program on the device."""

    def __init__(self, transport: SshTransport, process: SSHClientProcess[bytes]) -> None:
        self._transport = transport
        self._process = process
        self._rest = bytearray()
        self._errors = bytearray()
        self._begun = False
        self._closed = False
        transport.spawn(self._gather_errors())

    def write(self, data: bytes) -> None:
        self._transport.call(self._write, data)

    def read_line(self, longest: int) -> bytes:
        with suppress(concurrent.futures.CancelledError, RuntimeError):
            return self._transport.wait(self._line(longest), None)
        return b""

    def status(self, timeout_s: float) -> int | None:
        until = time.monotonic() + timeout_s
        while True:
            if (found := _status(self._process)) is not None:
                return found
            if self._transport.is_lost():
                raise self._transport.lost()
            if time.monotonic() >= until:
                return None
            time.sleep(0.01)

    def detail(self) -> str | None:
        return bytes(self._errors).decode(errors="replace").strip() or None

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        with suppress(concurrent.futures.TimeoutError, RuntimeError):
            self._transport.wait(self._ended(), 1.0)

    async def _ended(self) -> None:
        with suppress(OSError):
            self._process.stdin.write_eof()
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._process.wait_closed(), 0.5)
        self._process.close()

    def _write(self, data: bytes) -> None:
        with suppress(OSError):
            self._process.stdin.write(data)

    async def _begin(self) -> None:
        """Drop what the login shell prints before the program."""
        self._begun = True
        while (rest := after_greeting(self._rest)) is None and len(self._rest) < LONGEST_GREETING:
            data = await self._read(self._process.stdout)
            if not data:
                return
            self._rest += data
        if rest is not None:
            self._rest = bytearray(rest)

    async def _line(self, longest: int) -> bytes:
        if not self._begun:
            await self._begin()
        while (end := self._rest.find(b"\n")) < 0 and len(self._rest) < longest:
            data = await self._read(self._process.stdout)
            if not data:
                break
            self._rest += data
        size = min(longest, end + 1 if end >= 0 else len(self._rest))
        line = bytes(self._rest[:size])
        del self._rest[:size]
        return line

    async def _gather_errors(self) -> None:
        while data := await self._read(self._process.stderr):
            self._errors += data
            del self._errors[:-_DETAIL_BYTES]

    async def _read(self, stream: Any) -> bytes:
        try:
            data: bytes = await stream.read(CHUNK_BYTES)
        except (self._transport._asyncssh.Error, OSError):
            return b""
        return data


async def _stay_alive(process: SSHClientProcess[bytes], every_s: float) -> None:
    while not process.is_closing():
        with suppress(OSError):
            process.stdin.write(b"\n")
        await asyncio.sleep(every_s)


def _completed(
    process: SSHClientProcess[bytes], stdout: bytes | None, stderr: bytes | None
) -> Completed:
    """How a command has ended. Raises :class:`ConnectionError`."""
    status, output = _status(process), stdout or b""
    if status is None:
        raise ConnectionError
    found = after_greeting(output)
    return Completed(status=status, stdout=output if found is None else found, stderr=stderr or b"")


def _status(process: SSHClientProcess[bytes]) -> int | None:
    """The exit status, negative for a signal."""
    found = process.returncode
    return None if found is None else signal_or_status(found)


def _asyncssh() -> ModuleType:
    try:
        import asyncssh
    except ImportError as error:
        raise StageError(
            "probe",
            "devices at the end of an ssh connection need asyncssh",
            hint="pip install 'latbench[ssh]'",
            kind="unavailable",
        ) from error
    asyncssh.set_log_level("CRITICAL")
    return asyncssh


def _explained(
    error: BaseException, asyncssh: ModuleType, address: SshAddress, name: str
) -> StageError:
    """What kept the connection from being made, and what to do."""
    host = address.host
    by_hand = f"ssh {f'-p {address.port} ' if address.port else ''}{_login(address)}"
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        if _has_other_key(asyncssh, address):
            message = f"the host key of {host} has changed since it was first seen"
            hint = (
                "someone may be answering in its place. If it was reinstalled: "
                f"ssh-keygen -R {host}, then {by_hand}"
            )
        else:
            message = f"the host key of {host} is unknown"
            hint = f"connect once by hand, compare its fingerprint and accept it: {by_hand}"
    elif isinstance(error, asyncssh.PermissionDenied):
        message = f"{host} accepts none of the keys for {address.user or 'this user'}"
        hint = f"ssh-copy-id {_login(address)}; a key with a passphrase must be in the agent"
    elif isinstance(error, (concurrent.futures.TimeoutError, asyncio.TimeoutError)):
        message = f"{host} does not answer within {_CONNECT_TIMEOUT_S:g} s"
        hint = "is it on, and in the same network?"
    elif isinstance(error, _UncheckedHostError):
        message = f"the check of host keys is turned off for {error}"
        hint = "remove `UserKnownHostsFile none` from ~/.ssh/config, then connect once by hand"
    elif isinstance(error, _JumpLoopError):
        message = f"~/.ssh/config leads to {error} through {error} itself"
        hint = "exclude the jump host from what jumps (`Host * !NAME`), or give it `ProxyJump none`"
    elif isinstance(error, OSError) and error.filename is not None and error.errno:
        message = f"~/.ssh/config names {error.filename}, which cannot be read: {error.strerror}"
        hint = "remove that line from ~/.ssh/config, or put the file there"
    elif isinstance(error, asyncssh.ConfigParseError):
        message, hint = f"~/.ssh/config cannot be read: {error}", f"see what ssh says: {by_hand}"
    elif isinstance(error, OSError):
        message = f"{host} cannot be reached: {error.strerror or error}"
        hint = "is it on, and is the name right?"
    elif isinstance(error, (asyncssh.Error, ValueError)):
        message, hint = f"{host} refuses the connection: {error}", f"try by hand: {by_hand}"
    else:
        raise error
    return StageError("probe", f"{name}: {message}", hint=hint, kind="unavailable")


def _login(address: SshAddress) -> str:
    return f"{address.user}@{address.host}" if address.user else address.host


def _read_config(asyncssh: ModuleType, host: str, **options: object) -> Any:
    """What ``~/.ssh/config`` says of ``host``, with ``options`` before it."""
    config = Path.home() / ".ssh" / "config"
    # Without the argument, the constructor reads no file; `connect` does.
    files = [str(config)] if os.access(config, os.R_OK) else []
    return asyncssh.SSHClientConnectionOptions(host=host, config=files, **options)


class _UncheckedHostError(Exception):
    """The configuration accepts any host key."""


class _JumpLoopError(Exception):
    """A jump host is reached through itself."""


def _check_keys_are_checked(
    asyncssh: ModuleType, host: str, options: Any, behind: tuple[str, ...] = ()
) -> None:
    """Refuse a configuration by which any host key is accepted, also that of a jump host.

    ``behind`` are the hosts that are reached through this one.
    """
    if options.known_hosts is None:
        raise _UncheckedHostError(host)
    way = (*behind, host)
    for jump in options.tunnel.split(",") if isinstance(options.tunnel, str) else ():
        place = jump.rpartition("@")[2]
        name = place[1:].partition("]")[0] if place[:1] == "[" else place.partition(":")[0]
        if name in way:
            raise _JumpLoopError(name)
        _check_keys_are_checked(asyncssh, name, _read_config(asyncssh, name), way)


def _has_other_key(asyncssh: ModuleType, address: SshAddress) -> bool:
    """Whether another key of this host is known."""
    options = _read_config(asyncssh, address.host)
    files = options.known_hosts or [str(Path.home() / ".ssh" / "known_hosts")]
    host = options.host_key_alias or options.host
    port = address.port or options.port or SSH_PORT
    for file in files:
        with suppress(OSError, ValueError):
            other = None if port == SSH_PORT else port
            if asyncssh.match_known_hosts(str(file), host, "", other)[0]:
                return True
    return False
