"""What a terminal gets beyond plain text: emphasis, line breaks, and progress."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from math import ceil
from time import monotonic
from typing import IO, TYPE_CHECKING

import click

from latbench.cli.streams import warn
from latbench.events import Events
from latbench.report.writers import printable

if TYPE_CHECKING:
    from latbench.schema.protocol import TimingProtocol
    from latbench.schema.trace import Trace

MARKS = {
    "FAILED": "red",
    "UNRELIABLE": "yellow",
    "INCONCLUSIVE": "yellow",
    "INTERRUPTED": "yellow",
    "FALLBACK": "yellow",
}
"""Words that change how a result is read, with their colors."""
WAITING_EVERY_S = 30.0
NARROWEST = 40
"""Below this width lines are not broken."""


def colored(stream: IO[str]) -> bool:
    """Whether to write colors: on a terminal that knows them, unless NO_COLOR is set; anywhere if
    FORCE_COLOR is set."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def width() -> int | None:
    """Columns of the terminal on standard output; ``None`` if it is not a terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def list_width() -> int | None:
    """Columns that a list may take: those of the terminal, or COLUMNS where that is set; ``None``
    in a pipe, so that programs get whole rows."""
    asked = os.environ.get("COLUMNS", "")
    columns = width() or (int(asked) if asked.isdecimal() else 0)
    return columns if columns >= NARROWEST else None


def echo_result(lines: Iterable[str]) -> None:
    """Print a result: emphasized and broken to the width on a terminal, plain in a pipe.

    Names and messages of others are in it, so control characters are shown as escapes.
    """
    from latbench.report.text.layout import wrapped

    columns, color = width(), colored(sys.stdout)
    for number, line in enumerate(printable(line.expandtabs()) for line in lines):
        broken = wrapped(line, columns) if columns and columns >= NARROWEST else [line]
        for part in broken:
            click.echo(_painted(part, first=number == 0) if color else part, color=color)


def echo_lines(lines: Iterable[str]) -> None:
    """Print lines. A line break or control character in a name is shown as an escape."""
    click.echo("\n".join(map(printable, lines)))


def _painted(line: str, *, first: bool) -> str:
    """The first line bold, labels dim, marks in their colors."""
    for mark, color in MARKS.items():
        if mark in line:
            head, _, tail = line.partition(mark)
            tail = click.style(tail, bold=True) if first else tail
            return _plain(head, first=first) + click.style(mark, fg=color, bold=True) + tail
    return _plain(line, first=first)


def _plain(line: str, *, first: bool) -> str:
    if first:
        return click.style(line, bold=True) if line else ""
    match = re.match(r"  (\S+(?: \S+)*)(?=  |$)", line)
    if match is None:
        return line
    return f"  {click.style(match[1], dim=True)}{line[match.end() :]}"


@contextmanager
def live_events(protocol: TimingProtocol | None = None) -> Iterator[Events]:
    """Events that warn on standard error and keep a live line there if it is a terminal.

    The line is drawn between blocks only: while a block runs, drawing would take a CPU. With
    ``protocol`` the time left considers its target precision and its budget.
    """
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield Events(warn=warn, waiting=waiting_lines(), expected=_echo_note)
        return
    line = _LiveLine(protocol)
    line.draw("preparing")
    try:
        yield Events(
            warn=line.warn,
            progress=line.progress,
            traces=line.traces,
            waiting=line.draw,
            expected=line.note,
        )
    finally:
        line.clear()


def _echo_note(text: str) -> None:
    click.echo(printable(text), err=True)


@contextmanager
def live_line() -> Iterator[Callable[[str], None]]:
    """Draw what is being done, on standard error if it is a terminal; nothing stays there."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield lambda text: None
        return
    line = _LiveLine(None)
    try:
        yield line.draw
    finally:
        line.clear()


def waiting_lines() -> Callable[[str], None]:
    """Print what is waited for to standard error, but not each second."""
    last = -WAITING_EVERY_S

    def show(text: str) -> None:
        nonlocal last
        if monotonic() - last >= WAITING_EVERY_S:
            last = monotonic()
            click.echo(printable(text), err=True)

    return show


class _LiveLine:
    """What is measured so far: ``timing 45% · 9.9 ms ±1.8% · 6 processes · about 12 s left``."""

    def __init__(self, protocol: TimingProtocol | None) -> None:
        self._protocol = protocol
        self._begun: tuple[float, int] | None = None
        self._estimate: str | None = None
        self._half_width: float | None = None
        self._processes = 0

    def progress(self, done: int, total: int) -> None:
        now = monotonic()
        self._begun = self._begun or (now, done)
        parts = [f"timing {done / total:.0%}"]
        if self._estimate is not None:
            parts.append(self._estimate)
        if self._processes:
            parts.append(f"{self._processes} process{'es' if self._processes > 1 else ''}")
        left_s = self._left_s(now, done, total)
        if left_s is not None:
            from latbench.report.units import seconds

            parts.append(f"about {seconds(left_s)} left")
        self.draw(" · ".join(parts))

    def traces(self, parts: Sequence[Sequence[Trace]]) -> None:
        self._processes += 1
        if len(parts) == 1:
            from latbench.analysis.estimators import estimate_so_far

            found = estimate_so_far(parts[0])
        else:
            from latbench.analysis.comparison import ratio_so_far

            found = ratio_so_far(parts[0], parts[1])
        if found is not None:
            value, self._half_width = found
            around = "" if self._half_width is None else f" ±{self._half_width:.1%}"
            shown = _duration(value) if len(parts) == 1 else f"B/A {value:.3g}x"
            self._estimate = f"{shown}{around}"

    def _left_s(self, now: float, done: int, total: int) -> float | None:
        """Seconds until all rounds are done, or until the target precision if that takes longer."""
        assert self._begun is not None
        spent, rounds = now - self._begun[0], done - self._begun[1]
        if rounds <= 0:
            return None
        left = spent * (total - done) / rounds
        protocol = self._protocol
        if protocol is None:
            return left or None
        target = (protocol.target_ppm or 0) / 1e6
        if target and self._half_width is not None:
            needed = ceil(self._processes * (self._half_width / target) ** 2)
            more = min(needed, protocol.max_processes) - self._processes
            left = max(left, spent / self._processes * more)
        if protocol.budget_ns is not None:
            left = min(left, protocol.budget_ns / 1e9 - spent)
        return left if left > 0 else None

    def warn(self, message: str) -> None:
        self.clear()
        warn(message)

    def note(self, text: str) -> None:
        self.clear()
        _echo_note(text)

    def draw(self, text: str) -> None:
        columns = shutil.get_terminal_size().columns
        click.echo(f"\r\x1b[K{text[: columns - 1]}", nl=False, err=True, color=True)

    def clear(self) -> None:
        click.echo("\r\x1b[K", nl=False, err=True, color=True)


def _duration(value_ns: float) -> str:
    from latbench.report.units import time

    return time(value_ns)
