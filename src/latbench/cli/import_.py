"""``latbench import``."""

from __future__ import annotations

from pathlib import Path

import click

from latbench.cli.options import json_option, registry_option


@click.command("import")
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False)
)
@registry_option
@json_option
def command(*, files: tuple[Path, ...], registry: str | None, as_json: bool) -> None:
    """Import records from JSON files, for example of another machine, into the registry.

    Either all records are imported or, if one is damaged or already stored, none.
    """
    from latbench.report.json import to_json
    from latbench.schema.codec import decode_record
    from latbench.store.registry import Registry

    records = [decode_record(path.read_bytes()) for path in files]
    with Registry.open(registry) as store:
        store.add_many(records)
    ids = [record.id for record in records]
    click.echo(to_json(ids) if as_json else "\n".join(ids))
