"""``latbench protocols``."""

from __future__ import annotations

import click

from latbench.cli import completion
from latbench.cli.options import json_option
from latbench.cli.terminal import echo_result, list_width


@click.command("protocols")
@click.argument("name", required=False, shell_complete=completion.protocols)
@json_option
def command(*, name: str | None, as_json: bool) -> None:
    """List the measurement protocols, or describe one: NAME or NAME@VERSION."""
    from latbench.report.json import to_json
    from latbench.report.text.protocol import protocol_lines, protocol_table
    from latbench.schema.protocol_catalog import SHIPPED
    from latbench.schema.protocol_options import named_protocol

    if as_json:
        click.echo(to_json(SHIPPED if name is None else named_protocol(name)))
    elif name is None:
        click.echo("\n".join(protocol_table(SHIPPED, list_width())))
    else:
        echo_result(protocol_lines(named_protocol(name)))
