"""Options of the commands that list records: which records, which columns, in which format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from latbench.cli import completion
from latbench.cli.options import (
    KeyValue,
    json_option,
    option,
    registry_option,
    require_one_format,
    warn,
)
from latbench.cli.terminal import list_width
from latbench.defaults import LOCAL

if TYPE_CHECKING:
    from latbench.report.tables import TableRow
    from latbench.store.record_filter import RecordFilter
    from latbench.store.registry import Registry, Row

F = TypeVar("F", bound=Callable[..., Any])
FORMATS = ("text", "markdown", "latex", "matrix", "csv", "json", "parquet")
CHOOSABLE = ("text", "markdown", "latex")
"""Formats with a choice of columns; the others have all, or cells of their own."""
SUMMARIZED = 100
"""Longest list as text whose records are read and summarized, at some milliseconds each; a longer
one shows what the registry's own columns hold."""
SPANS = {"min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
"""Units of a span of time, in seconds."""


class Since(click.ParamType[int]):
    """``2026-11-30``, ``2026-11-30T09:00`` (UTC), or a span before now such as ``7d`` or ``12h``.

    Converted to nanoseconds since 1970.
    """

    name = "TIME"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """The time as nanoseconds since 1970."""
        import re
        import time
        from datetime import UTC, datetime

        text = str(value)
        if span := re.fullmatch(r"(\d+) ?(min|h|d|w)", text):
            return time.time_ns() - int(span[1]) * SPANS[span[2]] * 10**9
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            self.fail(
                f"{text!r} is not a date (2026-11-30), a time in UTC (2026-11-30T09:00) or a span "
                f"(30min, 12h, 7d, 2w)",
                param,
                ctx,
            )
        return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()) * 10**9


def filter_options(command: F) -> F:
    """Add ``--model``, ``--backend``, ``--device``, ``--precision``, ``--protocol``, ``--option``,
    ``--weights`` and ``--since``."""
    group = "Which records"
    for each in reversed(
        (
            option(
                "--model",
                "models",
                multiple=True,
                metavar="MODEL",
                shell_complete=completion.models,
                help="Only this model; repeatable.",
                group=group,
            ),
            option(
                "--backend",
                "backends",
                multiple=True,
                metavar="NAME",
                shell_complete=completion.backends,
                help="Only this requested backend; repeatable.",
                group=group,
            ),
            option(
                "--device",
                "devices",
                multiple=True,
                metavar="ID",
                shell_complete=completion.devices,
                help=f"Only this device; repeatable. `{LOCAL}` is this machine.",
                group=group,
            ),
            option(
                "--precision",
                "precisions",
                multiple=True,
                metavar="NAME",
                help="Only files of this precision; repeatable.",
                group=group,
            ),
            option(
                "--protocol",
                "protocols",
                multiple=True,
                metavar="NAME",
                shell_complete=completion.protocols,
                help="Only this protocol, of any version or NAME@VERSION; repeatable.",
                group=group,
            ),
            option(
                "--option",
                "settings",
                multiple=True,
                type=KeyValue(),
                help="Only with this option or setting of the backend; several must all be met.",
                group=group,
            ),
            option(
                "--weights",
                metavar="WEIGHTS",
                help="Only these weights: seed:N, the start of a digest, or the requested file.",
                group=group,
            ),
            option(
                "--since",
                "since_unix_ns",
                type=Since(),
                help="Only from this time on: 2026-11-30, or a span before now such as 12h or 7d.",
                group=group,
            ),
        )
    ):
        command = each(command)
    return command


def filter_of(
    *,
    models: tuple[str, ...],
    backends: tuple[str, ...],
    devices: tuple[str, ...],
    precisions: tuple[str, ...],
    protocols: tuple[str, ...],
    settings: tuple[tuple[str, str], ...],
    weights: str | None,
    since_unix_ns: int | None,
) -> RecordFilter:
    """The conditions that the options state."""
    from latbench.store.record_filter import RecordFilter

    if LOCAL in devices:
        from latbench.devices.local import LocalDevice

        here = LocalDevice().row(LOCAL).id
        devices = tuple(here if name == LOCAL else name for name in devices)
    return RecordFilter(
        models=models,
        backends=backends,
        devices=devices,
        precisions=precisions,
        protocols=protocols,
        options=settings,
        weights=weights,
        since_unix_ns=since_unix_ns,
    )


def output_options(command: F) -> F:
    """Add ``--columns``, ``--sort``, ``--format``, ``--output``, ``--registry`` and ``--json``."""
    group = "Output"
    for each in reversed(
        (
            option(
                "--columns",
                metavar="NAME,...",
                help="Columns to show, in order; a wrong name lists them all. "
                f"({', '.join(CHOOSABLE)})",
                group=group,
            ),
            option(
                "--sort",
                metavar="COLUMN",
                help="Sort by a column; -COLUMN for descending order.",
                group=group,
            ),
            option(
                "--format",
                type=click.Choice(FORMATS),
                default="text",
                show_default=True,
                help="Output format.",
                group=group,
            ),
            option(
                "--output",
                type=click.Path(dir_okay=False, path_type=Path),
                help="Write to a file; Parquet requires one.",
                group=group,
            ),
            registry_option,
            json_option,
        )
    ):
        command = each(command)
    return command


class ListFormat:
    """How to print a list, checked before records are read."""

    def __init__(
        self,
        usual: Sequence[str],
        *,
        columns: str | None,
        sort: str | None,
        format: str,
        output: Path | None,
        as_json: bool,
    ) -> None:
        """``usual``: the columns of text unless some are chosen. Raises
        :class:`click.UsageError` and :class:`UsageError`."""
        from latbench.report.text.columns import check_columns

        require_one_format(format, as_json=as_json)
        self._format = "json" if as_json else format
        if self._format == "parquet" and output is None:
            raise click.UsageError("Parquet is binary: name a file with --output")
        if columns is not None and self._format not in CHOOSABLE:
            raise click.UsageError(
                f"--columns applies to {', '.join(CHOOSABLE)}, not to {self._format}"
            )
        self._chosen = None if columns is None else [name.strip() for name in columns.split(",")]
        self._sort, self._output, self._usual = sort, output, usual
        check_columns([*(self._chosen or ()), *([sort.removeprefix("-")] if sort else [])])

    def print(self, store: Registry, listed: Sequence[Row], notes: Sequence[str] = ()) -> None:
        """Print the records of the list; ``notes`` follow a text."""
        from latbench.files import write_beside
        from latbench.report.tables import listed_row, write_parquet
        from latbench.report.text.columns import sorted_rows

        text = self._format == "text"
        if text and len(listed) > SUMMARIZED:
            rows = [listed_row(each) for each in listed]
            warn(f"intervals and reliability are shown in lists of up to {SUMMARIZED} records")
        else:
            rows = _summarized(store, listed)
        rows = sorted_rows(rows, self._sort) if self._sort else rows
        if self._format == "parquet":
            assert self._output is not None
            write_beside(self._output, lambda path: write_parquet(rows, path))
            return
        short = store.short_ids([row.id for row in rows]) if text else {}
        shown = self._shown(rows, short) + "".join(f"  {note}\n" for note in notes if text)
        if self._output is None:
            click.echo(shown, nl=False)
        else:
            write_beside(self._output, lambda path: path.write_text(shown))

    def _shown(self, rows: Sequence[TableRow], short: dict[str, str]) -> str:
        import msgspec

        from latbench.report.json import to_json
        from latbench.report.tables import to_csv
        from latbench.report.text.matrix import to_matrix
        from latbench.report.text.table import to_latex, to_markdown, to_text

        if self._format == "csv":
            return to_csv(rows)
        if self._format == "json":
            return to_json(rows) + "\n"
        if self._format == "text":
            width = list_width() if self._output is None else None
            rows = [msgspec.structs.replace(row, id=short[row.id]) for row in rows]
            lines = to_text(rows, self._chosen, width, usual=self._usual)
        elif self._format == "markdown":
            lines = to_markdown(rows, self._chosen or self._usual)
        elif self._format == "latex":
            lines = to_latex(rows, self._chosen)
        else:
            lines = to_matrix(rows)
        return "\n".join(lines) + "\n"


def _summarized(store: Registry, listed: Sequence[Row]) -> list[TableRow]:
    from latbench.analysis.summary import summarize
    from latbench.report.tables import row

    return [row(record, summarize(record)) for record in (store.get(each.id) for each in listed)]


def nothing_found(store: Registry, wanted: RecordFilter) -> None:
    """Report on standard error why a list is empty: no record at all, or an unknown name."""
    from latbench.errors import suggest
    from latbench.report.writers import printable

    known = store.latest()
    if not known:
        warn(f"there are no records in {store.url}")
        click.echo("  hint: `latbench run MODEL` measures one", err=True)
        return
    for what, asked, names in (
        ("model", wanted.models, {row.model for row in known}),
        ("backend", wanted.backends, {row.requested_backend for row in known}),
        ("device", wanted.devices, {row.device for row in known}),
    ):
        for name in asked:
            if name not in names:
                warn(f"no record of {what} {name!r}")
                if hint := suggest(name, names):
                    click.echo(f"  hint: {printable(hint)}", err=True)
