"""``latbench show``: one record in full, or the latest records."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from latbench.cli import completion
from latbench.cli.options import json_option, registry_option
from latbench.cli.picture_options import picture_options, style_of
from latbench.cli.terminal import echo_list, echo_result

if TYPE_CHECKING:
    from latbench.analysis.summary import Summary
    from latbench.report.plot.picture import Style
    from latbench.schema.record import Record


@click.command("show")
@click.argument("id", required=False, shell_complete=completion.record_ids)
@click.option("--device", metavar="ID", help="List only this device (without an ID).")
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Plot the record to a .png, .svg or .pdf file (extra: plot).",
)
@picture_options
@registry_option
@json_option
def command(
    *,
    id: str | None,
    device: str | None,
    plot: Path | None,
    size: tuple[float, float] | None,
    font_size: float,
    title: str | None,
    no_title: bool,
    registry: str | None,
    as_json: bool,
) -> None:
    """Show one record in full, or list the latest record of each group.

    ID may be any unambiguous start of a record's ID. A group is one model on one device and
    backend.
    """
    from latbench.analysis.summary import summarize
    from latbench.report.json import record_json, to_json
    from latbench.report.text.record import record_lines
    from latbench.store.registry import Registry

    if plot is not None and id is None:
        raise click.UsageError("--plot requires the ID of a record")
    with Registry.open(registry, create=False) as store:
        if id is None:
            rows = store.latest(device)
            if as_json:
                click.echo(to_json(rows))
            else:
                echo_list(store, rows)
            return
        record = store.get(id)
        summary = summarize(record)
        if plot is not None:
            style = style_of(size, font_size, title, no_title=no_title)
            _draw(record, summary, plot, style)
        if as_json:
            click.echo(record_json(record, summary))
            return
        echo_result(record_lines(record, summary, store.url))


def _draw(record: Record, summary: Summary | None, path: Path, style: Style) -> None:
    from latbench.errors import UsageError
    from latbench.report.plot.record import save_plot

    if summary is None or not any(trace.blocks for trace in record.outcome.traces):
        raise UsageError(f"record {record.id} has no blocks of samples to plot")
    save_plot(record, summary, path, style)
