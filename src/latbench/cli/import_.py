"""``latbench import``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from latbench.cli.options import json_option, registry_option
from latbench.report.writers import printable

if TYPE_CHECKING:
    from latbench.schema.record import Record


@click.command("import")
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False)
)
@registry_option
@json_option
def command(*, files: tuple[Path, ...], registry: str | None, as_json: bool) -> None:
    """Import records from JSON files, for example of another machine, into the registry.

    A file contains a record, or what `latbench run --json` or `latbench show --json` prints. Either
    all records are imported or, if one is damaged or already stored, none.
    """
    from latbench.report.json import to_json
    from latbench.store.registry import Registry

    records = _unique((path, _read(path)) for path in files)
    with Registry.open(registry) as store:
        store.add_many(records)
    ids = [record.id for record in records]
    click.echo(to_json(ids) if as_json else "\n".join(map(printable, ids)))


def _read(path: Path) -> Record:
    """The record in a file. Raises :class:`LatbenchError`, with the file's name."""
    from latbench.errors import LatbenchError, UsageError
    from latbench.schema.codec import decode_output

    try:
        return decode_output(path.read_bytes())
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except LatbenchError as error:
        raise type(error)(f"{path}: {error.message}", hint=error.hint) from error


def _unique(found: Iterable[tuple[Path, Record]]) -> list[Record]:
    """The records, each once. Raises :class:`UsageError` for different ones with the same id."""
    from latbench.errors import UsageError

    first: dict[str, tuple[Path, Record]] = {}
    for path, record in found:
        before, same = first.setdefault(record.id, (path, record))
        if same != record:
            raise UsageError(
                f"{before} and {path} contain different records with the id {record.id}",
                hint="nothing was imported; one of them was edited or damaged",
            )
    return [record for _, record in first.values()]
