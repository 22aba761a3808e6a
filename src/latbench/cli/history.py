"""``latbench history``."""

from __future__ import annotations

import click

from latbench.cli.options import json_option, registry_option
from latbench.defaults import FALLBACK, LOCAL


@click.command("history")
@click.option("--model", required=True, metavar="MODEL")
@click.option("--backend", default=FALLBACK, show_default=True, metavar="NAME")
@click.option("--device", default=LOCAL, show_default=True, metavar="ID")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
@registry_option
@json_option
def command(
    *,
    model: str,
    backend: str,
    device: str,
    limit: int,
    registry: str | None,
    as_json: bool,
) -> None:
    """Show the records of one model on one device and backend, the newest first."""
    from latbench.report.json import to_json
    from latbench.report.text.record import row_lines
    from latbench.store.registry import Registry

    if device == "local":
        from latbench.host.info import read_machine, this_device

        device = this_device(read_machine()).id
    with Registry.open(registry, create=False) as store:
        rows = store.history(model, device, backend, limit=limit)
        short = {} if as_json else store.short_ids(row.id for row in rows)
    click.echo(to_json(rows) if as_json else "\n".join(row_lines(rows, short)))
