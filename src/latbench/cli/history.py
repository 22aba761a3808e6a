"""``latbench history``: records over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from latbench.cli import completion
from latbench.cli.filter_options import filter_of, filter_options, nothing_found
from latbench.cli.help_sections import Command
from latbench.cli.list_options import ListFormat, output_options

if TYPE_CHECKING:
    from latbench.schema.reported import ReportedResult
    from latbench.store.listing import Row


@click.command("history", cls=Command)
@click.argument("model_arguments", nargs=-1, metavar="[MODEL]...", shell_complete=completion.models)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    default=50,
    show_default=True,
    help="Show at most this many records, the newest ones.",
)
@filter_options
@output_options
def command(
    *,
    model_arguments: tuple[str, ...],
    models: tuple[str, ...],
    limit: int,
    columns: str | None,
    sort: str | None,
    format: str,
    output: Any,
    registry: str | None,
    as_json: bool,
    **conditions: Any,
) -> None:
    """Show records over time, the newest first.

    Without MODEL, of all models. Settings in which the records differ have columns; what all of
    them share is printed once, below.
    """
    from latbench.report.text.columns import LISTED
    from latbench.store.registry import Registry

    shape = ListFormat(
        LISTED, columns=columns, sort=sort, format=format, output=output, as_json=as_json
    )
    wanted = filter_of(models=(*model_arguments, *models), **conditions)
    with Registry.open(registry, create=False) as store:
        found: list[Row | ReportedResult] = [
            *store.find(wanted, limit=limit + 1),
            *store.reported(wanted),
        ]
        found.sort(key=lambda each: each.created_unix_ns, reverse=True)
        older = ["older records are left out; --limit N shows more"] if len(found) > limit else []
        shape.print(store, found[:limit], older)
        if not found:
            nothing_found(store, wanted)
