"""``latbench import``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latbench.cli import completion
from latbench.cli.help_sections import Command, option
from latbench.cli.options import json_option, registry_option
from latbench.cli.parameter_types import Resolution
from latbench.report.writers import printable

if TYPE_CHECKING:
    from latbench.schema.record import Record
    from latbench.schema.reported import ReportedResult

FROM = (
    *("benchmark_model", "run_model", "executor_runner", "trtexec", "perf_test", "benchmark_app"),
    *("xcode", "aihub", "auto"),
)
_STATED = "What the file does not say (with --from)"


@click.command("import", cls=Command)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option(
    "--from",
    "tool",
    type=click.Choice(FROM),
    help="Read the output of another tool; auto looks at the content.",
)
@option("--model", metavar="NAME", shell_complete=completion.models, help="Model.", group=_STATED)
@option("--device", metavar="ID", shell_complete=completion.devices, help="Device.", group=_STATED)
@option(
    "--backend", metavar="NAME", shell_complete=completion.backends, help="Runtime.", group=_STATED
)
@option("--precision", metavar="NAME", help="Precision of the file.", group=_STATED)
@option("--threads", type=click.IntRange(min=1), metavar="N", help="CPU threads.", group=_STATED)
@option("--batch", type=click.IntRange(min=1), metavar="N", help="Batch size.", group=_STATED)
@option("--resolution", type=Resolution(), help="Input size, 224 or 480x640.", group=_STATED)
@option("--tool-version", metavar="VERSION", help="Version of the tool.", group=_STATED)
@option("--date", metavar="DATE", help="When it was taken: 2026-11-30.", group=_STATED)
@registry_option
@json_option
def command(
    *,
    files: tuple[Path, ...],
    tool: str | None,
    registry: str | None,
    as_json: bool,
    **stated: Any,
) -> None:
    """Import records from JSON files, or results of other tools, into the registry.

    A file contains a record, or what `latbench run --json` or `latbench show --json` prints. With
    --from it is the output of another tool, such as the log of trtexec. Such a result is listed as
    reported by that tool. It has no samples of latbench, so it is never compared or counted as
    evidence for a claim.

    Either everything is imported or, if one file is damaged or already stored, nothing.
    """
    from latbench.bench.import_reported import read_reported, stated_facts
    from latbench.report.json import to_json
    from latbench.schema.reported import StatedFacts
    from latbench.store.registry import Registry

    facts = {name: value for name, value in stated.items() if value is not None}
    if tool is not None:
        given = stated_facts(StatedFacts(**facts))
        found: list[Record | ReportedResult] = list(
            _different(read_reported(path, tool, given) for path in files)
        )
    elif facts:
        raise click.UsageError(f"--{next(iter(facts)).replace('_', '-')} requires --from")
    else:
        found = _unique((path, _read(path)) for path in files)
    records, reported = _by_kind(found)
    with Registry.open(registry) as store:
        store.add_many(records, reported)
    ids = [each.id for each in found]
    click.echo(to_json(ids) if as_json else "\n".join(map(printable, ids)))


def _by_kind(found: Iterable[Record | ReportedResult]) -> tuple[list[Record], list[ReportedResult]]:
    from latbench.schema.reported import ReportedResult

    records: list[Record] = []
    reported: list[ReportedResult] = []
    for each in found:
        if isinstance(each, ReportedResult):
            reported.append(each)
        else:
            records.append(each)
    return records, reported


def _different(results: Iterable[ReportedResult]) -> Iterable[ReportedResult]:
    """The results of different files: a file may be named twice."""
    return {each.sha256: each for each in results}.values()


def _content(path: Path) -> bytes:
    from latbench.errors import UsageError

    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error


def _read(path: Path) -> Record | ReportedResult:
    """The record or result in a file. Raises :class:`LatbenchError`, with the file's name."""
    from latbench.errors import LatbenchError
    from latbench.schema.codec import decode_output
    from latbench.schema.reported import reported_output

    content = _content(path)
    try:
        return reported_output(content) or decode_output(content)
    except LatbenchError as error:
        raise type(error)(f"{path}: {error.message}", hint=error.hint) from error


def _unique(found: Iterable[tuple[Path, Record | ReportedResult]]) -> list[Record | ReportedResult]:
    """Everything, each once. Raises :class:`UsageError` for different ones with the same id."""
    from latbench.errors import UsageError

    first: dict[str, tuple[Path, Record | ReportedResult]] = {}
    for path, record in found:
        before, same = first.setdefault(record.id, (path, record))
        if same != record:
            raise UsageError(
                f"{before} and {path} contain different records with the id {record.id}",
                hint="nothing was imported; one of them was edited or damaged",
            )
    return [record for _, record in first.values()]
