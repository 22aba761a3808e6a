"""``latbench show``."""

from __future__ import annotations

import click

from latbench.cli.options import json_option, registry_option


@click.command("show")
@click.argument("id", required=False)
@click.option("--device", metavar="ID", help="Without an ID of a record: of this device only.")
@registry_option
@json_option
def command(*, id: str | None, device: str | None, registry: str | None, as_json: bool) -> None:
    """Show one record (any unambiguous start of its ID), or the latest of each group.

    A group is one model on one device and backend.
    """
    from latbench.core.summary import summarise
    from latbench.report.json import record_json, to_json
    from latbench.report.text import record_lines, row_lines
    from latbench.store.registry import Registry

    with Registry.open(registry, create=False) as store:
        if id is None:
            rows = store.latest(device)
            click.echo(to_json(rows) if as_json else "\n".join(row_lines(rows)))
            return
        record = store.get(id)
        summary = summarise(record)
        if as_json:
            click.echo(record_json(record, summary))
            return
        for line in record_lines(record, summary, store.url):
            click.echo(line)
