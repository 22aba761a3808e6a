"""``latbench history``: the records of one model over time."""

from __future__ import annotations

import click

from latbench.cli import completion
from latbench.cli.options import json_option, registry_option
from latbench.cli.terminal import echo_list
from latbench.defaults import FALLBACK, LOCAL


@click.command("history")
@click.option("--model", required=True, metavar="MODEL", shell_complete=completion.models)
@click.option(
    "--backend",
    default=FALLBACK,
    show_default=True,
    metavar="NAME",
    shell_complete=completion.backends,
)
@click.option(
    "--device", default=LOCAL, show_default=True, metavar="ID", shell_complete=completion.devices
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    help="Show at most this many records.",
)
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
    from latbench.store.registry import Registry

    if device == LOCAL:
        from latbench.devices.local import LocalDevice

        device = LocalDevice().row(LOCAL).id
    with Registry.open(registry, create=False) as store:
        rows = store.history(model, device, backend, limit=limit)
        if as_json:
            click.echo(to_json(rows))
        else:
            echo_list(store, rows)
