"""What a terminal gets beyond plain text: emphasis, line breaks, and progress."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

import click

if TYPE_CHECKING:
    from latbench.events import Progress
    from latbench.store.registry import Registry

MARKS = {
    "FAILED": "red",
    "UNRELIABLE": "yellow",
    "INCONCLUSIVE": "yellow",
    "INTERRUPTED": "yellow",
    "FALLBACK": "yellow",
}
"""Words that change how a result is read, with their colors."""
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


def echo_result(lines: Iterable[str]) -> None:
    """Print a result: emphasized and broken to the width on a terminal, plain in a pipe."""
    from latbench.report.text.layout import wrapped

    columns, color = width(), colored(sys.stdout)
    for number, line in enumerate(lines):
        broken = wrapped(line, columns) if columns and columns >= NARROWEST else [line]
        for part in broken:
            click.echo(_painted(part, first=number == 0) if color else part, color=color)


def echo_list(store: Registry, ids: Sequence[str]) -> None:
    """Print a table of records with short ids, fitted to the terminal's width."""
    import msgspec

    from latbench.analysis.summary import summarize
    from latbench.report.tables import row
    from latbench.report.text.table import LISTED, to_text

    short = store.short_ids(ids)
    records = [store.get(id) for id in ids]
    rows = [
        msgspec.structs.replace(row(record, summarize(record)), record=short[record.id])
        for record in records
    ]
    click.echo("\n".join(to_text(rows, LISTED, width())))


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
def progress_bar() -> Iterator[Progress]:
    """A bar with the time left on a terminal, drawn between blocks only: while they run it would
    take a CPU."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True, auto_refresh=False) as bar:
        task = bar.add_task("getting the artifact", total=None)
        bar.refresh()

        def advance(done: int, total: int) -> None:
            bar.update(task, description="timing", completed=done, total=total, refresh=True)

        yield advance
