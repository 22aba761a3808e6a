"""Standard output and error of the command line.

Output that cannot be written is an error of its own, so that a full disk never looks like the "no"
of a gate. Messages on standard error are dropped if nobody can receive them: a measurement goes on
without them. On a terminal, control characters are shown as escapes.
"""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO

import click

from latbench.errors import LatbenchError
from latbench.file_names import shown_name
from latbench.report.writers import printable

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

OUT, ERR = 1, 2
OWN = r"\x1b\[[0-9;]*m|\r\x1b\[K"
"""Colors, and the beginning of the live line."""
STEERING = "\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
"""Characters that move the cursor, change colors or reorder text, and halves of surrogate pairs."""
ON_TERMINAL = re.compile(f"({OWN}|\r?\n)|([{STEERING}])")


class ClosedOutputError(Exception):
    """The reader of standard output has closed the pipe."""


def shown_lines(text: str) -> str:
    """``text`` with control characters as escapes; a message may have several lines."""
    return "\n".join(map(printable, text.split("\n")))


def warn(message: str) -> None:
    """Print a warning to standard error."""
    click.echo(f"latbench: {shown_lines(message)}", err=True)


def _escaped(found: re.Match[str]) -> str:
    return repr(found[0])[1:-1]


@contextmanager
def standard_streams() -> Iterator[None]:
    """Replace ``sys.stdout`` and ``sys.stderr`` by streams as described above."""
    _fill_closed_descriptors()
    kept = sys.stdout, sys.stderr
    sys.stdout = _replacement(sys.stdout, _Output(OUT, "w", closefd=False))
    sys.stderr = _replacement(sys.stderr, _Messages(ERR, "w", closefd=False))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = kept


def _fill_closed_descriptors() -> None:
    """Open what the caller has closed: otherwise the next file would become standard output.

    Writing to standard output stays an error.
    """
    for descriptor, mode in ((0, os.O_RDONLY), (OUT, os.O_RDONLY), (ERR, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, mode)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)


def _replacement(stream: TextIO | None, raw: io.FileIO) -> TextIO:
    """A text stream over ``raw`` like ``stream``, which is ``None`` if it was closed."""
    if stream is not None:
        try:
            if stream.fileno() != raw.fileno():
                return stream
        except (OSError, ValueError, AttributeError):
            return stream  # In memory: whoever calls from Python reads it.
        with suppress(OSError, ValueError):
            stream.flush()
    return _Text(
        io.BufferedWriter(raw),
        encoding=getattr(stream, "encoding", None) or "utf-8",
        errors="backslashreplace",
        line_buffering=True,
    )


class _Text(io.TextIOWrapper):
    """Shows control characters as escapes on a terminal; changes nothing in a file or pipe."""

    def write(self, text: str) -> int:
        text = shown_name(text)
        if self.isatty():
            text = ON_TERMINAL.sub(lambda found: found[1] or _escaped(found), text)
        return super().write(text)


class _Output(io.FileIO):
    """Standard output. After the first error it accepts everything and writes nothing."""

    _failed = False

    def write(self, data: ReadableBuffer) -> int:
        if self._failed:
            return memoryview(data).nbytes
        try:
            return super().write(data)
        except BrokenPipeError:
            self._failed = True
            raise ClosedOutputError from None
        except OSError as error:
            self._failed = True
            raise LatbenchError(
                f"cannot write to standard output: {error.strerror}",
                hint="records that were measured are stored: latbench show",
            ) from error


class _Messages(io.FileIO):
    """Standard error."""

    def write(self, data: ReadableBuffer) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes
