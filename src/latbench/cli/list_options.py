"""Options of the commands that list records: which columns, in which format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from latbench.cli.help_sections import option
from latbench.cli.options import json_option, registry_option, require_one_format
from latbench.cli.streams import warn
from latbench.cli.terminal import list_width

if TYPE_CHECKING:
    from latbench.report.tables import TableRow
    from latbench.schema.reported import ReportedResult
    from latbench.store.listing import Row
    from latbench.store.registry import Registry

F = TypeVar("F", bound=Callable[..., Any])
FORMATS = ("text", "markdown", "latex", "matrix", "csv", "json", "parquet")
CHOOSABLE = ("text", "markdown", "latex")
"""Formats with a choice of columns; the others have all, or cells of their own."""
SUMMARIZED = 100
"""Longest list as text whose records are read and summarized, at some milliseconds each; a longer
one shows what the registry's own columns hold."""


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

    def print(
        self, store: Registry, listed: Sequence[Row | ReportedResult], notes: Sequence[str] = ()
    ) -> None:
        """Print the records and results of the list; ``notes`` follow a text."""
        from latbench.files import write_beside
        from latbench.report.tables import write_parquet
        from latbench.report.text.columns import sorted_rows

        text = self._format == "text"
        if text and len(listed) > SUMMARIZED:
            rows = [_unread(each) for each in listed]
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


def _summarized(store: Registry, listed: Sequence[Row | ReportedResult]) -> list[TableRow]:
    from latbench.analysis.summary import summarize
    from latbench.report.tables import row
    from latbench.schema.reported import ReportedResult

    rows = []
    for each in listed:
        if isinstance(each, ReportedResult):
            rows.append(_unread(each))
            continue
        record = store.get(each.id)
        rows.append(row(record, summarize(record)))
    return rows


def _unread(each: Row | ReportedResult) -> TableRow:
    """The row of a result of another tool, or of a record that is not read."""
    from latbench.report.tables import listed_row, reported_row
    from latbench.schema.reported import ReportedResult

    return reported_row(each) if isinstance(each, ReportedResult) else listed_row(each)
