"""``latbench devices prepare`` and ``restore``: clocks, and the state of a phone."""

from __future__ import annotations

from typing import Any, Literal

import click

from latbench.cli import completion
from latbench.cli.options import json_option
from latbench.cli.terminal import echo_lines


@click.command("prepare")
@click.argument("id", shell_complete=completion.devices)
@click.option("--governor", metavar="NAME", help="Of all CPUs.  [default: performance]")
@click.option(
    "--frequency",
    default="",
    metavar="max|KHZ",
    help="The only clock that is allowed.  [default: the limits stay]",
)
@click.option("--turbo", type=click.Choice(("off",)), help="Allow no clock above the nominal one.")
@click.option("--stay-awake", is_flag=True, help="Phone: the screen stays on while plugged in.")
@click.option("--airplane", is_flag=True, help="Phone: no radio; not over a network.")
@click.option(
    "--brightness", type=click.IntRange(0, 255), metavar="0-255", help="Phone: the screen's."
)
@click.option(
    "--fixed-performance", is_flag=True, help="Phone: clocks that it can hold, if it has that mode."
)
@json_option
def prepare(
    *,
    id: str,
    governor: str | None,
    frequency: str,
    turbo: Literal["off"] | None,
    as_json: bool,
    **phone: Any,
) -> None:
    """Fix the clocks or a phone's state until restore.

    ID is one of your devices, or local for this machine. Clocks need root there, or sudo without a
    password; a phone needs neither. Either everything is set, or nothing. The old values are kept
    on the device, so that `latbench devices restore ID` works after a lost connection and after a
    reboot too.
    """
    from latbench.devices.preparation import Clocks, prepare_device, prepare_phone, target_named
    from latbench.devices.preparation_android import PhoneState
    from latbench.report.json import to_json

    asked = PhoneState(**phone)
    clocked = bool(governor or frequency or turbo)
    if clocked and asked != PhoneState():
        raise click.UsageError("--governor, --frequency and --turbo are not for phones")
    clocks = Clocks(governor=governor or "performance", frequency=frequency, turbo=turbo or "")
    with target_named(id) as target:
        if asked != PhoneState() or (target.is_phone and not clocked):
            changed = prepare_phone(target, asked)
        else:
            changed = prepare_device(target, clocks)
    if as_json:
        click.echo(to_json({"device": id, "changed": changed}))
        return
    done = f"prepared {id}: {_counted(len(changed))} changed"
    undo = f"undo: latbench devices restore {id}"
    echo_lines([done, *(f"  {each.text}" for each in changed), undo])


@click.command("restore")
@click.argument("id", shell_complete=completion.devices)
@json_option
def restore(*, id: str, as_json: bool) -> None:
    """Put back what prepare has changed."""
    from latbench.devices.preparation import restore_device, target_named
    from latbench.report.json import to_json

    with target_named(id) as target:
        restored = restore_device(target)
    if as_json:
        click.echo(to_json({"device": id, "prepared": restored is not None, "restored": restored}))
    elif restored is None:
        click.echo(f"{id} has not been prepared: nothing to restore")
    else:
        lines = [f"  {each.path} {each.now} -> {each.before}" for each in restored]
        echo_lines([f"restored {id}: {_counted(len(restored))} changed back", *lines])


def _counted(files: int) -> str:
    return f"{files} setting{'' if files == 1 else 's'}"
