"""``latbench protocols``."""

from __future__ import annotations

import click

from latbench.cli import completion
from latbench.cli.options import json_option


@click.command("protocols")
@click.argument("name", required=False, shell_complete=completion.protocols)
@json_option
def command(*, name: str | None, as_json: bool) -> None:
    """List the measurement protocols, or describe one: NAME or NAME@VERSION."""
    from latbench.report.json import to_json
    from latbench.report.text.protocol import protocol_lines, protocol_table
    from latbench.schema.protocol_catalog import SHIPPED
    from latbench.schema.protocol_options import named_protocol

    if name is None:
        click.echo(to_json(SHIPPED) if as_json else "\n".join(protocol_table(SHIPPED)))
        return
    protocol = named_protocol(name)
    click.echo(to_json(protocol) if as_json else "\n".join(protocol_lines(protocol)))
