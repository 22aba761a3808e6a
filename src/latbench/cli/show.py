"""``latbench show``: one record in full, or the latest records."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from latbench.cli import completion
from latbench.cli.filter_options import filter_of, filter_options, nothing_found
from latbench.cli.help_sections import Command, GroupedOption
from latbench.cli.list_options import ListFormat, output_options
from latbench.cli.picture_options import picture_options, style_of
from latbench.cli.terminal import echo_result

if TYPE_CHECKING:
    from latbench.analysis.summary import Summary
    from latbench.report.plot.picture import Style
    from latbench.schema.record import Record
    from latbench.schema.reported import ReportedResult
    from latbench.store.listing import Row


@click.command("show", cls=Command)
@click.argument("id", required=False, shell_complete=completion.record_ids)
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Plot the record to a .png, .svg or .pdf file (extra: plot).",
)
@picture_options
@filter_options
@output_options
@click.pass_context
def command(
    ctx: click.Context,
    /,
    *,
    id: str | None,
    plot: Path | None,
    size: tuple[float, float] | None,
    font_size: float,
    title: str | None,
    no_title: bool,
    columns: str | None,
    sort: str | None,
    format: str,
    output: Path | None,
    registry: str | None,
    as_json: bool,
    **conditions: Any,
) -> None:
    """Show one record or reported result in full, or list the latest of each group.

    ID may be any unambiguous start of a record's ID. A group is one model on one device and
    backend. Conditions, columns and formats apply to the list.
    """
    from latbench.analysis.summary import summarize
    from latbench.report.json import record_json
    from latbench.report.text.columns import LISTED
    from latbench.report.text.record import record_lines
    from latbench.schema.reported import ReportedResult
    from latbench.store.registry import Registry

    if plot is not None and id is None:
        raise click.UsageError("--plot requires the ID of a record")
    if id is None:
        shape = ListFormat(
            LISTED, columns=columns, sort=sort, format=format, output=output, as_json=as_json
        )
        wanted = filter_of(**conditions)
        with Registry.open(registry, create=False) as store:
            found: tuple[Row | ReportedResult, ...] = (
                *store.newest(wanted),
                *store.newest_reported(wanted),
            )
            shape.print(store, found)
            if not found:
                nothing_found(store, wanted)
        return
    _refuse_list_options(ctx)
    with Registry.open(registry, create=False) as store:
        record = store.get(id) if plot is not None else store.entry(id)
        if isinstance(record, ReportedResult):
            print_reported(record, store.url, as_json=as_json)
            return
        summary = summarize(record)
        if plot is not None:
            style = style_of(size, font_size, title, no_title=no_title)
            _draw(record, summary, plot, style)
        if as_json:
            click.echo(record_json(record, summary))
            return
        echo_result(record_lines(record, summary, store.url))


def print_reported(entry: ReportedResult, registry: str, *, as_json: bool) -> None:
    """Print a result of another tool in full."""
    from latbench.report.json import to_json
    from latbench.report.text.reported import reported_lines

    if as_json:
        click.echo(to_json({"reported": entry}))
    else:
        echo_result(reported_lines(entry, registry))


def _refuse_list_options(ctx: click.Context) -> None:
    """Refuse options of the list together with the ID of one record."""
    for param in ctx.command.params:
        listed = isinstance(param, GroupedOption) and param.name is not None
        if listed and ctx.get_parameter_source(param.name) == ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{param.opts[0]} applies to the list, not to one record")


def _draw(record: Record, summary: Summary | None, path: Path, style: Style) -> None:
    from latbench.errors import UsageError
    from latbench.report.plot.record import save_plot

    if summary is None or not any(trace.blocks for trace in record.outcome.traces):
        raise UsageError(f"record {record.id} has no blocks of samples to plot")
    save_plot(record, summary, path, style)
