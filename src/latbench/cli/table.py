"""``latbench table``: records as one table, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from latbench.cli import completion
from latbench.cli.filter_options import filter_of, filter_options, nothing_found
from latbench.cli.help_sections import Command
from latbench.cli.list_options import ListFormat, output_options

if TYPE_CHECKING:
    from latbench.schema.reported import ReportedResult
    from latbench.store.listing import Row
    from latbench.store.record_filter import RecordFilter
    from latbench.store.registry import Registry


@click.command("table", cls=Command)
@click.option(
    "--sweep",
    metavar="ID",
    shell_complete=completion.sweeps,
    help="Show a sweep; `latest` is the newest. [default: latest records]",
)
@filter_options
@output_options
def command(
    *,
    sweep: str | None,
    columns: str | None,
    sort: str | None,
    format: str,
    output: Any,
    registry: str | None,
    as_json: bool,
    **conditions: Any,
) -> None:
    """Show records as a table: text, Markdown, LaTeX, CSV, JSON or Parquet.

    Shows the latest record of each model, device and backend, or a sweep. As text, settings that
    all records share are printed once, below, and columns are dropped until a line fits the
    terminal. `matrix` is Markdown with a row for each model and a column for each backend; `latex`
    is a tabular for the package booktabs.
    """
    from latbench.report.text.columns import TABLE
    from latbench.store.registry import Registry

    shape = ListFormat(
        TABLE, columns=columns, sort=sort, format=format, output=output, as_json=as_json
    )
    wanted = filter_of(**conditions)
    with Registry.open(registry, create=False) as store:
        found: list[Row | ReportedResult]
        if sweep is None:
            found = [*store.newest(wanted), *store.newest_reported(wanted)]
        else:
            found = [*_of_sweep(store, sweep, wanted)]
        shape.print(store, found)
        if not found:
            nothing_found(store, wanted)


def _of_sweep(store: Registry, sweep: str, wanted: RecordFilter) -> Sequence[Row]:
    """The sweep's records that meet the conditions, in the order of its points."""
    import msgspec

    from latbench.errors import UsageError

    id = store.latest_sweep() if sweep == "latest" else sweep
    records = store.of_sweep(id) if id is not None else ()
    if not records:
        raise UsageError(
            f"there is no sweep {sweep!r} in {store.url}",
            hint="run one: `latbench run --sweep FILE`, or with several --model or --backend",
        )
    found = store.find(msgspec.structs.replace(wanted, sweep=id))
    rows = {row.id: row for row in found}
    return [rows[record.id] for record in records if record.id in rows]
