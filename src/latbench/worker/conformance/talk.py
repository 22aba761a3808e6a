"""One conversation with a worker, line by line: nothing is taken on trust and every wait ends."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from queue import Empty, Queue
from types import TracebackType
from typing import TypeVar

import msgspec

from latbench.errors import UsageError
from latbench.worker import messages
from latbench.worker.process import NO_TELEMETRY, WITHHELD
from latbench.worker.process_tree import HARNESS_MARK, MARK, end_marked, new_mark
from latbench.worker.server import OWNER_TIMEOUT

R = TypeVar("R", bound="messages.Message | messages.Failed")
SHOWN = 400
"""Characters of a line that a result keeps."""
ARRIVAL_S = 0.003
"""After a response: what else was written with it has arrived by then."""
STRAY_S = 0.3
MOST_STRAYS = 200
UNREAD = 256
"""Lines that are kept for a reader; a worker that babbles blocks then."""
AT_ONCE_S = 5.0
"""The longest that "at once" may take on a loaded machine."""


class Broken(Exception):
    """A rule is broken; the text is what came instead of what the protocol says."""


class Skipped(Exception):
    """The rule does not apply to this worker or machine; the text is the reason."""


class Deadline:
    """The end of the check that runs. All waits of a check share it."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.renew()

    def renew(self) -> None:
        """Start a check."""
        self._until = time.monotonic() + self.seconds

    def left_s(self) -> float:
        """Seconds until the check must be done, at least 0."""
        return max(0.0, self._until - time.monotonic())


class Talk:
    """A worker with pipes to it, in a session and with a mark of its own.

    ``strays`` gets the lines that nobody asked for. Raises :class:`UsageError` if the command
    cannot be started. Leaving the ``with`` block ends the worker and what it started.
    """

    def __init__(
        self,
        command: Sequence[str],
        deadline: Deadline,
        strays: list[str],
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.sent = "nothing: the worker speaks first"
        self._deadline = deadline
        self._strays = strays
        self.mark = new_mark()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        unset = (*WITHHELD, HARNESS_MARK, OWNER_TIMEOUT)
        given = {name: value for name, value in os.environ.items() if name not in unset}
        self.process = _started(
            command,
            self._stderr.fileno(),
            {**given, **NO_TELEMETRY, **(variables or {})},
            self.mark,
        )
        self._lines: Queue[bytes] = Queue(UNREAD)
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> Talk:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if kind is None:
            self.look()
        self.end()

    @cached_property
    def hello(self) -> messages.Hello:
        """The first line."""
        return self._understood(self._line(), messages.Hello)

    def send(self, data: bytes) -> None:
        """Write bytes as they are. Raises :class:`Broken` if the worker does not read them."""
        self.sent = shown_line(data)
        self.look()
        writer = threading.Thread(target=self._write, args=(data,), daemon=True)
        writer.start()
        writer.join(self._deadline.left_s())
        if writer.is_alive():
            raise Broken("the worker does not read its standard input")

    def request(self, request: messages.RequestMessage, **more: object) -> None:
        """Send a request, with further fields ``more``."""
        self.send(msgspec.json.encode({**msgspec.to_builtins(request), **more}) + b"\n")

    def ask(self, request: messages.RequestMessage, expect: type[R], **more: object) -> R:
        """Send a request and read its response, which must be an ``expect``."""
        self.request(request, **more)
        return self.response(expect)

    def ask_optional(self, request: messages.RequestMessage, expect: type[R]) -> R:
        """The same of a request that a worker may answer with ``unavailable``.

        Raises :class:`Skipped` then.
        """
        self.request(request)
        line = self._line()
        response = self._decoded(line)
        if isinstance(response, messages.Failed) and response.kind == "unavailable":
            raise Skipped(f"unavailable: {response.message}")
        return self._understood(line, expect)

    def response(self, expect: type[R]) -> R:
        """Read the next response, which must be an ``expect``."""
        return self._understood(self._line(), expect)

    def any_response(self) -> messages.Response:
        """Read the next response, whatever it is."""
        return self._decoded(self._line())

    def no_answer(self, within_s: float) -> None:
        """Wait. Raises :class:`Broken` if a line comes."""
        with suppress(Empty):
            line = self._lines.get(timeout=min(within_s, self._deadline.left_s()))
            raise Broken(shown_line(line) if line else self._end_text())

    def ended(self, within_s: float | None = None) -> int:
        """The status with which it ends by itself. Raises :class:`Broken` if it does not."""
        wait_s = self._deadline.left_s() if within_s is None else within_s
        try:
            return self.process.wait(min(wait_s, self._deadline.left_s()))
        except subprocess.TimeoutExpired:
            raise Broken(f"the worker still runs after {wait_s:g} s") from None

    def ends_unanswered(self) -> None:
        """The conversation is over: no line, the end of the output, the end of the program."""
        until = time.monotonic() + AT_ONCE_S
        while time.monotonic() < until:
            with suppress(Empty):
                line = self._lines.get(timeout=0.05)
                if line:
                    raise Broken(shown_line(line))
                self.ended(AT_ONCE_S)
                return
        raise Broken(f"the worker waits for more, {AT_ONCE_S:g} s later")

    def hang_up(self) -> None:
        """End the worker's input."""
        self.sent += ", then the end of the input"
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()

    def end(self) -> None:
        """End the worker and whatever it started. It may be called again."""
        if self._stderr.closed:
            return
        # Killed first: another thread may still be blocked in writing to it.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        end_marked(self.mark)
        if self.process.stdin is not None:
            with suppress(OSError):
                self.process.stdin.close()
        self._stderr.close()

    def stderr(self) -> str:
        """The end of what the worker wrote to standard error."""
        end = os.fstat(self._stderr.fileno()).st_size
        tail = os.pread(self._stderr.fileno(), SHOWN, max(0, end - SHOWN))
        return tail.decode(errors="replace").strip()

    def _write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        with suppress(OSError, ValueError):  # It has ended, or its input has been closed.
            self.process.stdin.write(data)
            self.process.stdin.flush()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as source:
            while line := source.readline(messages.OutputsGiven.LONGEST_BYTES + 1):
                self._lines.put(line)
        self._lines.put(b"")

    def _line(self) -> bytes:
        """The next line that looks like a message; others are strays. Empty at the end."""
        for _ in range(MOST_STRAYS):
            try:
                line = self._lines.get(timeout=self._deadline.left_s())
            except Empty:
                raise Broken(f"no response within {self._deadline.seconds:g} s") from None
            if not line or line.startswith(b"{"):
                time.sleep(ARRIVAL_S)
                return line
            self._strays.append(shown_line(line))
        raise Broken(f"{MOST_STRAYS} lines that are not messages, such as {shown_line(line)}")

    def look(self) -> None:
        """Keep the lines that nobody asked for."""
        with suppress(Empty):
            while line := self._lines.get_nowait():
                self._strays.append(shown_line(line))
            self._lines.put(b"")

    def _decoded(self, line: bytes) -> messages.Response:
        if not line:
            raise Broken(self._end_text())
        if not line.endswith(b"\n"):
            raise Broken(f"a line without its end: {shown_line(line)}")
        try:
            response = messages.decode_response(line)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise Broken(f"{shown_line(line)} ({error})") from error
        if len(line) > response.LONGEST_BYTES if isinstance(response, messages.Message) else False:
            raise Broken(f"a line of {len(line):,} bytes")
        return response

    def _understood(self, line: bytes, expect: type[R]) -> R:
        response = self._decoded(line)
        if isinstance(response, expect):
            return response
        # A line that nobody asked for may have come too late to be seen before the request.
        with suppress(Empty):
            wait_s = min(STRAY_S, self._deadline.left_s())
            after = self._decoded(self._lines.get(timeout=wait_s))
            if isinstance(after, expect):
                self._strays.append(shown_line(line))
                return after
        raise Broken(shown_line(line))

    def _end_text(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(1)
        status = self.process.poll()
        text = "the end of the output" if status is None else f"the worker's end, status {status}"
        return f"{text}; standard error: {self.stderr() or 'empty'}"


def _started(
    command: Sequence[str], stderr: int, environment: Mapping[str, str], mark: str
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env={**environment, MARK: mark},
            start_new_session=True,
        )
    except OSError as error:
        raise UsageError(
            f"{command[0]} cannot be started: {error.strerror or error}",
            hint="give the worker's command line after --",
        ) from error


def shown_line(line: bytes) -> str:
    """A line for a result: its beginning, without its end."""
    text = line[: 4 * SHOWN].decode(errors="backslashreplace").strip("\n")
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}… ({len(line):,} bytes)"
