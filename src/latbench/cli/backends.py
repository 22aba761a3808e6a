"""``latbench backends``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from latbench.cli import completion
from latbench.cli.options import json_option
from latbench.cli.terminal import list_width

if TYPE_CHECKING:
    from latbench.api import Capability, Exporter, Runner
    from latbench.errors import UsageError


@click.command("backends")
@click.argument("name", required=False, shell_complete=completion.backends)
@json_option
def command(*, name: str | None, as_json: bool) -> None:
    """List the backends and whether they run here; with NAME, also its options.

    Backends that cannot be loaded are listed with the reason.
    """
    from latbench.errors import UsageError
    from latbench.plugins import load_runner, loaded_exporters, runner_names

    found: list[tuple[Runner, Capability]] = []
    broken: dict[str, UsageError] = {}
    for known in (name,) if name else runner_names():
        try:
            runner = load_runner(known)
        except UsageError as error:
            if name:
                raise
            broken[known] = error
            continue
        found.append((runner, runner.probe()))
    exporters, unloaded = loaded_exporters()
    by_format = {exporter.format: exporter for exporter in exporters}
    formats = found[0][0].formats if name else ()
    if name:
        unloaded = {format: why for format, why in unloaded.items() if format in formats}
    if as_json:
        _print_json(found, by_format, broken, unloaded)
        return
    _print_table(found, broken, unloaded)
    if name:
        _print_options(found[0][0], [by_format[each] for each in formats if each in by_format])


def _print_json(
    found: list[tuple[Runner, Capability]],
    exporters: dict[str, Exporter],
    broken: dict[str, UsageError],
    unloaded: dict[str, UsageError],
) -> None:
    from latbench.api import Capability
    from latbench.plugins import unit_names
    from latbench.report.json import to_json

    rows: list[dict[str, Any]] = [
        {
            "name": runner.name,
            "formats": runner.formats,
            "options": runner.options,
            "units": unit_names(runner),
            "capability": capability,
            "exporters": [
                _exporter_row(format, exporters.get(format), unloaded.get(format))
                for format in runner.formats
                if format in exporters or format in unloaded
            ],
        }
        for runner, capability in found
    ]
    rows += [
        {
            "name": name,
            "formats": (),
            "options": {},
            "units": {},
            "capability": Capability(available=False, reason=why.message, hint=why.hint),
            "exporters": [],
        }
        for name, why in broken.items()
    ]
    click.echo(to_json(rows))


def _exporter_row(
    format: str, exporter: Exporter | None, why: UsageError | None
) -> dict[str, object]:
    return {
        "format": format,
        "precisions": exporter.precisions if exporter else (),
        "options": exporter.options if exporter else {},
        "reads": exporter.reads if exporter else (),
        "broken": why.message if why else None,
    }


def _print_table(
    found: list[tuple[Runner, Capability]],
    broken: dict[str, UsageError],
    unloaded: dict[str, UsageError],
) -> None:
    from latbench.report.text.layout import table

    rows = [
        (
            runner.name,
            "yes" if capability.available else "no",
            capability.version or "",
            ", ".join(runner.formats),
            ", ".join(capability.units) if capability.available else capability.reason or "",
        )
        for runner, capability in found
    ]
    rows += [(name, "no", "", "", why.message) for name, why in broken.items()]
    rows += [("", "no", "", format, why.message) for format, why in unloaded.items()]
    for line in table(("backend", "runs here", "version", "formats", "units"), rows, list_width()):
        click.echo(line)


def _print_options(runner: Runner, exporters: list[Exporter]) -> None:
    from latbench.plugins import unit_names
    from latbench.report.text.layout import table

    options = dict(runner.options)
    for exporter in exporters:
        options |= exporter.options
        reads = f"; pre-exported files: {', '.join(exporter.reads)}" if exporter.reads else ""
        click.echo(f"\n{exporter.format}: {', '.join(exporter.precisions)}{reads}")
    if options:
        click.echo("\noptions (--option NAME=VALUE):")
        rows = ((f"  {name}", meaning) for name, meaning in options.items())
        for line in table(("  name", "meaning"), rows, list_width()):
            click.echo(line)
    if units := [_unit(unit, names) for unit, names in unit_names(runner).items()]:
        click.echo(f"\nunits (--require NAME): {'; '.join(units)}")


def _unit(unit: str, names: tuple[str, ...]) -> str:
    """A unit and its further names; one without a name of its own depends on the machine."""
    more = ", ".join(names)
    return f"{unit} ({more})" if unit and more else unit or more
