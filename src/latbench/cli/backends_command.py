"""``latbench backends``."""

from __future__ import annotations

import click

from latbench.cli.options import json_option


@click.command("backends")
@click.argument("name", required=False)
@json_option
def command(*, name: str | None, as_json: bool) -> None:
    """List the backends and whether they can run here; with NAME, its options too."""
    from latbench.plugins import exporters_of, load_runner, runner_names
    from latbench.report.json import to_json
    from latbench.report.text import table

    runners = [load_runner(known) for known in ((name,) if name else runner_names())]
    found = [(runner, runner.probe()) for runner in runners]
    if as_json:
        click.echo(
            to_json(
                [
                    {
                        "name": runner.name,
                        "formats": runner.formats,
                        "options": runner.options,
                        "capability": capability,
                        "exporters": [
                            {
                                "format": exporter.format,
                                "precisions": exporter.precisions,
                                "options": exporter.options,
                                "reads": exporter.reads,
                            }
                            for exporter in exporters_of(runner)
                        ],
                    }
                    for runner, capability in found
                ]
            )
        )
        return
    rows = (
        (
            runner.name,
            "yes" if capability.available else "no",
            capability.version or "",
            ", ".join(runner.formats),
            ", ".join(capability.units) if capability.available else capability.reason or "",
        )
        for runner, capability in found
    )
    for line in table(("backend", "runs here", "version", "formats", "units"), rows):
        click.echo(line)
    if name:
        (runner,) = runners
        options = dict(runner.options)
        for exporter in exporters_of(runner):
            options |= exporter.options
            reads = f"; ready files: {', '.join(exporter.reads)}" if exporter.reads else ""
            click.echo(f"\n{exporter.format}: {', '.join(exporter.precisions)}{reads}")
        if options:
            click.echo("\noptions (--option NAME=VALUE):")
            for line in table(("  name", "meaning"), ((f"  {k}", v) for k, v in options.items())):
                click.echo(line)
