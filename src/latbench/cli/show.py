"""``latbench show``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from latbench.cli import completion
from latbench.cli.options import json_option, registry_option
from latbench.cli.terminal import echo_result

if TYPE_CHECKING:
    from latbench.analysis.summary import Summary
    from latbench.schema.record import Record


@click.command("show")
@click.argument("id", required=False, shell_complete=completion.records)
@click.option("--device", metavar="ID", help="Without an ID of a record: of this device only.")
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Draw the record to a .png, .svg or .pdf (extra: plot).",
)
@registry_option
@json_option
def command(
    *,
    id: str | None,
    device: str | None,
    plot: Path | None,
    registry: str | None,
    as_json: bool,
) -> None:
    """Show one record (any unambiguous start of its ID), or the latest of each group.

    A group is one model on one device and backend.
    """
    from latbench.analysis.summary import summarize
    from latbench.report.json import record_json, to_json
    from latbench.report.text.record import record_lines, row_lines
    from latbench.store.registry import Registry

    if plot is not None and id is None:
        raise click.UsageError("--plot draws one record: name its ID")
    with Registry.open(registry, create=False) as store:
        if id is None:
            rows = store.latest(device)
            short = {} if as_json else store.short_ids(row.id for row in rows)
            click.echo(to_json(rows) if as_json else "\n".join(row_lines(rows, short)))
            return
        record = store.get(id)
        summary = summarize(record)
        if plot is not None:
            _draw(record, summary, plot)
        if as_json:
            click.echo(record_json(record, summary))
            return
        echo_result(record_lines(record, summary, store.url))


def _draw(record: Record, summary: Summary | None, path: Path) -> None:
    from latbench.errors import UsageError
    from latbench.report.plot.record import save_plot

    if summary is None or not any(trace.blocks for trace in record.outcome.traces):
        raise UsageError(f"record {record.id} holds no blocks of samples to draw")
    save_plot(record, summary, path)
