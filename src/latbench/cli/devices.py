"""``latbench devices``."""

from __future__ import annotations

import click

from latbench.cli import completion
from latbench.cli.options import json_option
from latbench.cli.terminal import echo_lines, echo_result, list_width


@click.command("devices")
@click.argument("id", required=False, shell_complete=completion.devices)
@json_option
def command(*, id: str | None, as_json: bool) -> None:
    """List the known devices, this machine first, or describe one with the source of each fact.

    Add your own devices in a file like the shipped devices.yaml, in the configuration folder or
    named by LATBENCH_DEVICES.
    """
    from latbench.defaults import LOCAL
    from latbench.devices.catalog import find_device, load_devices, user_devices_path
    from latbench.devices.local import LocalDevice
    from latbench.report.json import to_json
    from latbench.report.text.device import device_lines
    from latbench.report.text.layout import table

    here = LocalDevice().row(LOCAL)
    devices = (here, *load_devices(user_devices_path()))
    if id is not None:
        device = here if id == "local" else find_device(devices, id)
        if as_json:
            click.echo(to_json(device))
            return
        echo_result(device_lines(device))
        return
    if as_json:
        click.echo(to_json(devices))
        return
    rows = (
        (
            device.id,
            device.name,
            device.kind,
            str(device.soc.value) if device.soc else "",
            "this machine" if device is here else device.transport or "",
        )
        for device in devices
    )
    echo_lines(table(("id", "name", "kind", "SoC", "reached by"), rows, list_width()))
