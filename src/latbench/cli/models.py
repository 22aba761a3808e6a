"""``latbench models``."""

from __future__ import annotations

import click

from latbench.cli import completion
from latbench.cli.options import json_option
from latbench.cli.terminal import echo_lines, list_width


@click.command("models")
@click.argument("name", required=False, shell_complete=completion.models)
@json_option
def command(*, name: str | None, as_json: bool) -> None:
    """List the models of the zoo, or describe one.

    Other models: `timm:NAME` for any timm model, `package.module:factory` or
    `path/to/file.py:factory` for your own, and the path of a pre-exported file.
    """
    from latbench.report.json import to_json
    from latbench.report.text.layout import table
    from latbench.zoo.catalog import ZOO, find

    entries = (find(name),) if name else ZOO
    if as_json:
        click.echo(to_json(entries))
        return
    rows = (
        (
            entry.name,
            f"{entry.parameters:,}",
            f"{entry.macs:,}",
            "x".join(map(str, entry.input_shape)),
            entry.paper,
        )
        for entry in entries
    )
    echo_lines(table(("model", "parameters", "MACs", "input", "paper"), rows, list_width()))
