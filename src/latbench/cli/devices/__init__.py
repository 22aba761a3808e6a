"""``latbench devices``: list and describe devices; subcommands add, install and prepare yours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from latbench.cli import completion
from latbench.cli.devices import connections, jobs, preparation, workers
from latbench.cli.options import json_option
from latbench.cli.terminal import echo_lines, echo_result, list_width

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from latbench.devices.connections import Connection
    from latbench.schema.environment import Device


class DevicesGroup(click.Group):
    """A group that lists without a subcommand, and describes a device by its id."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Take any other name than that of a subcommand for a device's."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["show", *args]
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Subcommands and devices."""
        named = completion.devices(ctx, self.params[0], incomplete)
        return [*super().shell_complete(ctx, incomplete), *named]


@click.group("devices", cls=DevicesGroup, invoke_without_command=True)
@json_option
@click.pass_context
def command(ctx: click.Context, *, as_json: bool) -> None:
    """List the devices: this machine, your own, and those that published latencies name.

    `latbench devices ID` describes one with the source of each fact. Your own devices are reached
    over ssh or adb, as `latbench devices add` stores. Measure on one: `latbench run --device ID`.
    """
    if ctx.invoked_subcommand is None:
        _list(as_json)


def _list(as_json: bool) -> None:
    from latbench.devices.catalog import load_devices, user_devices_path
    from latbench.devices.connections import load_connections
    from latbench.devices.local import LocalDevice
    from latbench.report.json import to_json
    from latbench.report.text.layout import table

    here = LocalDevice().row
    own = [_described(each) for each in load_connections()]
    rows = load_devices(user_devices_path())
    if as_json:
        click.echo(to_json((here, *own, *rows)))
        return
    reached = ["this machine", *(each.address for each in load_connections()), *("" for _ in rows)]
    lines = (
        (
            device.id,
            device.name,
            device.kind,
            str(device.soc.value) if device.soc else "",
            place or device.transport or "",
        )
        for device, place in zip((here, *own, *rows), reached, strict=True)
    )
    echo_lines(table(("id", "name", "kind", "SoC", "reached by"), lines, list_width()))


def _described(connection: Connection) -> Device:
    """The device without asking it."""
    from latbench.devices.unreachable import named_device

    return named_device(connection)


@command.command("show")
@click.argument("id", shell_complete=completion.devices)
@json_option
def show(*, id: str, as_json: bool) -> None:
    """Describe one device with the source of each fact."""
    from latbench.defaults import LOCAL
    from latbench.devices.catalog import find_device, load_devices, user_devices_path
    from latbench.devices.connections import find_connection, load_connections
    from latbench.devices.local import LocalDevice
    from latbench.report.json import to_json
    from latbench.report.text.device import connection_lines, device_lines

    here = LocalDevice().row
    connection = find_connection(id)
    if id in (LOCAL, here.id):
        device = here
    elif connection is not None:
        device = _described(connection)
    else:
        own = [_described(each) for each in load_connections()]
        device = find_device((*own, *load_devices(user_devices_path())), id)
    if as_json:
        click.echo(to_json(device if connection is None else (device, connection)))
        return
    echo_result(device_lines(device))
    if connection is not None:
        echo_lines(connection_lines(connection))


for each in (
    connections.add,
    connections.discover,
    connections.remove,
    workers.check,
    workers.install,
    workers.clean,
    preparation.prepare,
    preparation.restore,
    jobs.jobs,
    jobs.cancel,
):
    command.add_command(each)
