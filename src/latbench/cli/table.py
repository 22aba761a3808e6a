"""``latbench table``: records as one table, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from latbench.cli import completion
from latbench.cli.options import json_option, registry_option, require_one_format
from latbench.cli.terminal import width

if TYPE_CHECKING:
    from latbench.report.tables import TableRow
    from latbench.schema.record import Record

FORMATS = ("text", "markdown", "latex", "matrix", "csv", "json", "parquet")
CHOOSABLE = ("text", "markdown", "latex")
"""Formats with a choice of columns; the others have all, or cells of their own."""


@click.command("table")
@click.option(
    "--sweep", metavar="ID", help="Show a sweep; `latest` is the newest. [default: latest records]"
)
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="MODEL",
    shell_complete=completion.models,
    help="Only this model; repeatable.",
)
@click.option(
    "--backend",
    "backends",
    multiple=True,
    metavar="NAME",
    shell_complete=completion.backends,
    help="Only this backend; repeatable.",
)
@click.option("--device", metavar="ID", help="Only this device.")
@click.option(
    "--columns",
    metavar="NAME,...",
    help="Columns to show, in order; a wrong name lists them all. (text, markdown, latex)",
)
@click.option("--sort", metavar="COLUMN", help="Sort by a column; -COLUMN for descending order.")
@click.option("--format", type=click.Choice(FORMATS), default="text", show_default=True)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to a file; Parquet requires one.",
)
@registry_option
@json_option
def command(
    *,
    sweep: str | None,
    models: tuple[str, ...],
    backends: tuple[str, ...],
    device: str | None,
    columns: str | None,
    sort: str | None,
    format: str,
    output: Path | None,
    registry: str | None,
    as_json: bool,
) -> None:
    """Show records as a table: text, Markdown, LaTeX, CSV, JSON or Parquet.

    Shows the latest record of each model, device and backend, or a sweep. On a terminal, columns
    are dropped until the text fits. `matrix` is Markdown with a row for each model and a column for
    each backend; `latex` is a tabular for the package booktabs.
    """
    from latbench.analysis.summary import summarize
    from latbench.files import write_beside
    from latbench.report.tables import row, write_parquet
    from latbench.report.text.table import check_columns, sorted_rows

    require_one_format(format, as_json=as_json)
    format = "json" if as_json else format
    if format == "parquet" and output is None:
        raise click.UsageError("Parquet is binary: name a file with --output")
    if columns is not None and format not in CHOOSABLE:
        raise click.UsageError(f"--columns applies to {', '.join(CHOOSABLE)}, not to {format}")
    chosen = None if columns is None else [name.strip() for name in columns.split(",")]
    check_columns([*(chosen or ()), *([sort.removeprefix("-")] if sort else [])])
    rows = [
        row(record, summarize(record))
        for record in _records(sweep, device, registry)
        if (device is None or record.device.id == device)
        and (not models or record.model.name in models)
        and (not backends or record.request.backend in backends)
    ]
    rows = sorted_rows(rows, sort) if sort else rows
    if format == "parquet":
        assert output is not None
        write_beside(output, lambda path: write_parquet(rows, path))
        return
    text = _text(rows, format, chosen, None if output is not None else width())
    if output is None:
        click.echo(text, nl=False)
    else:
        write_beside(output, lambda path: path.write_text(text))


def _records(sweep: str | None, device: str | None, registry: str | None) -> Sequence[Record]:
    from latbench.errors import UsageError
    from latbench.store.registry import Registry

    with Registry.open(registry, create=False) as store:
        if sweep is None:
            return [store.get(found.id) for found in store.latest(device)]
        id = store.latest_sweep() if sweep == "latest" else sweep
        records = store.of_sweep(id) if id is not None else ()
        if not records:
            raise UsageError(
                f"there is no sweep {sweep!r} in {store.url}",
                hint="run one: `latbench run --sweep FILE`, or with several --model or --backend",
            )
        return records


def _text(
    rows: Sequence[TableRow], format: str, columns: Sequence[str] | None, width: int | None
) -> str:
    from latbench.report.json import to_json
    from latbench.report.tables import to_csv
    from latbench.report.text.matrix import to_matrix
    from latbench.report.text.table import DEFAULT, LATEX, to_latex, to_markdown, to_text

    if format == "csv":
        return to_csv(rows)
    if format == "json":
        return to_json(rows) + "\n"
    lines = {
        "text": lambda: to_text(rows, columns, width),
        "markdown": lambda: to_markdown(rows, columns or DEFAULT),
        "latex": lambda: to_latex(rows, columns or LATEX),
        "matrix": lambda: to_matrix(rows),
    }[format]()
    return "\n".join(lines) + "\n"
