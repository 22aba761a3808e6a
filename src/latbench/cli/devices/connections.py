"""``latbench devices add``, ``discover`` and ``remove``: how your devices are reached."""

from __future__ import annotations

import shlex

import click

from latbench.cli import completion
from latbench.cli.options import json_option
from latbench.cli.streams import warn
from latbench.cli.terminal import echo_lines


@click.command("add")
@click.argument("id")
@click.argument("address")
@click.option(
    "--same-as",
    metavar="ROW",
    shell_complete=completion.devices,
    help="Device of `latbench devices` whose hardware it is.",
)
@click.option("--python", metavar="PATH", help="Its Python 3.11 or newer.  [default: python3]")
@click.option("--folder", metavar="PATH", help="For latbench's files, below the home folder there.")
@click.option("--emulated", is_flag=True, help="Its processor is emulated: times mean nothing.")
def add(
    *,
    id: str,
    address: str,
    same_as: str | None,
    python: str | None,
    folder: str | None,
    emulated: bool,
) -> None:
    """Store how a device of yours is reached.

    ADDRESS is such as ssh://bench@pi5.local, or adb://SERIAL for an Android device.

    HOST in ssh://[USER@]HOST[:PORT] may be a name of ~/.ssh/config. local:// gives this machine a
    name of its own. apple://MAC/UDID is an iPhone or iPad: MAC is your device's id, or local. An ID
    that exists is changed.
    """
    import msgspec

    from latbench.devices.connections import (
        check_folder,
        find_connection,
        new_connection,
        store_connection,
    )

    made = new_connection(id, address, same_as=same_as)
    before = find_connection(id)
    if before is not None and before.address == made.address:
        made = msgspec.structs.replace(before, same_as=same_as or before.same_as)
    changes: dict[str, object] = {"emulated": emulated or made.emulated}
    if python is not None:
        changes["python"] = python
    if folder is not None:
        check_folder(folder)
        changes["folder"] = folder
    store_connection(msgspec.structs.replace(made, **changes))
    click.echo(f"{'changed' if before else 'added'} {id}: {address}")
    if made.installed is None and not address.startswith("local:"):
        click.echo(f"next: latbench devices check {id}; latbench devices install {id}")


@click.command("discover")
@click.option(
    "--on",
    "mac",
    metavar="MAC",
    shell_complete=completion.connections,
    help="List the iPhones and iPads of this Mac instead; local is this machine.",
)
@json_option
def discover(*, mac: str | None, as_json: bool) -> None:
    """List the hosts of ~/.ssh/config, and the phones that adb sees.

    Each with the command that adds it.
    """
    from latbench.devices.discovery import phones, ssh_hosts
    from latbench.errors import StageError
    from latbench.report.json import to_json
    from latbench.report.text.device import discovered_lines

    if mac is not None:
        _discover_phones(mac, as_json)
        return
    hosts = ssh_hosts()
    try:
        found = phones()
    except StageError as error:
        found = ()
        warn(f"phones are not listed: {error.message}")
        warn(f"  {error.hint}")
    if as_json:
        click.echo(to_json((*hosts, *found)))
        return
    echo_lines(
        discovered_lines(hosts, found)
        or ["no host is named in ~/.ssh/config, and adb sees no device"]
    )


def _discover_phones(mac: str, as_json: bool) -> None:
    from latbench.devices.apple_setup import find_phones
    from latbench.report.json import to_json

    found = find_phones(mac)
    if as_json:
        click.echo(to_json(found))
        return
    if not found:
        click.echo(f"{mac} knows no iPhone or iPad: connect one by cable, unlock it and tap Trust")
        return
    for each in found:
        row = ("--same-as", each.same_as) if each.same_as else ()
        line = shlex.join(("latbench", "devices", "add", each.id, each.address, *row))
        echo_lines([f"{line}  # {'added: ' if each.added else ''}{each.described}"])


@click.command("remove")
@click.argument("id", shell_complete=completion.connections)
@click.option("--purge", is_flag=True, help="Delete latbench's folder on the device too.")
def remove(*, id: str, purge: bool) -> None:
    """Forget your device ID. Its records stay."""
    from latbench.bench.left_jobs import left_jobs
    from latbench.devices.connections import known_connection, load_connections, save_connections
    from latbench.devices.setup import purge_device
    from latbench.errors import UsageError

    connection = known_connection(id)
    if waiting := [job.id for job in left_jobs() if job.device == id]:
        raise UsageError(
            f"{id} has jobs that were not collected: {', '.join(waiting)}",
            hint="latbench collect, or latbench devices cancel JOB --discard",
        )
    if purge:
        purge_device(connection)
    save_connections(each for each in load_connections() if each.id != id)
    click.echo(f"removed {id}")
