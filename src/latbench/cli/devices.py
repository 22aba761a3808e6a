"""``latbench devices``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from latbench.cli import completion, device_jobs
from latbench.cli.options import json_option
from latbench.cli.streams import warn
from latbench.cli.terminal import echo_lines, echo_result, list_width

if TYPE_CHECKING:
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


@command.command("add")
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


@command.command("discover")
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


@command.command("check")
@click.argument("id", shell_complete=completion.connections)
@json_option
def check(*, id: str, as_json: bool) -> int:
    """Try each step of the way to a device.

    What fails is printed with how to fix it.

    The exit status is 3 if a step fails.
    """
    from latbench.devices.check import check_device
    from latbench.devices.connections import known_connection
    from latbench.report.json import to_json
    from latbench.report.text.device import step_lines

    steps = list(check_device(known_connection(id)))
    works = all(step.works is not False for step in steps)
    if as_json:
        click.echo(to_json({"device": id, "works": works, "steps": steps}))
    else:
        answer = "can be measured on" if works else "cannot be measured on"
        echo_lines([f"{id} {answer}", *(line for step in steps for line in step_lines(step))])
    return 0 if works else 3


@command.command("install")
@click.argument("id", shell_complete=completion.connections)
@click.option(
    "--backend",
    "backends",
    multiple=True,
    metavar="BACKEND",
    shell_complete=completion.backends,
    help="A backend to install; repeatable.  [default: those there, or onnxruntime]",
)
@click.option("--from-index", is_flag=True, help="Let the device's own pip fetch the packages.")
@click.option(
    "--worker",
    type=click.Choice(("python", "native")),
    help="native: a program that needs no Python there, for onnxruntime and tflite.  "
    "[default: that installed, or native for adb:// and python otherwise]",
)
@click.option(
    "--ndk",
    is_flag=False,
    flag_value="",
    metavar="PATH",
    help="Compile the native worker with Android's NDK, whose libraries come from --library.  "
    "[default without PATH: $ANDROID_NDK_HOME]",
)
@click.option(
    "--library",
    "libraries",
    multiple=True,
    metavar="BACKEND=FILE[@sha256:X]",
    help="An .aar or .so for the native worker, in place of PyPI's; repeatable.",
)
@click.option(
    "--glibc",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="A .deb or folder with libraries for the glibc bundle; repeatable.  "
    "[default: downloaded from Debian]",
)
@click.option("--team", metavar="TEAMID", help="The team that signs the app of an iPhone.")
def install(
    *,
    id: str,
    backends: tuple[str, ...],
    from_index: bool,
    worker: Literal["python", "native"] | None,
    ndk: str | None,
    libraries: tuple[str, ...],
    glibc: tuple[Path, ...],
    team: str | None,
) -> None:
    """Put the worker and its backends there.

    The packages are fetched here and sent: the device needs Python 3.11 or newer and no internet.
    What is there already is not sent again. For local:// only the native worker can be chosen.

    The native worker needs glibc 2.28. Where there is none, as on Android, libraries of glibc are
    sent with it: the glibc bundle.
    """
    from latbench.defaults import FALLBACK
    from latbench.devices.connections import known_connection
    from latbench.devices.native_installation import NativeOptions, ndk_folder
    from latbench.devices.runtime_libraries import read_named_library
    from latbench.devices.setup import default_worker, install_worker

    connection = known_connection(id)
    options = NativeOptions(
        ndk=None if ndk is None else ndk_folder(ndk),
        glibc=glibc,
        libraries=tuple(map(read_named_library, libraries)),
    )
    special = options != NativeOptions()
    if connection.address.startswith("apple:"):
        if backends or from_index or worker or special:
            raise click.UsageError("an iPhone gets its app, which runs coreml: only --team applies")
        _install_app(connection, team)
        return
    if team is not None:
        raise click.UsageError("--team applies to iPhones and iPads only")
    before = connection.installed
    named = tuple(each.backend for each in options.libraries)
    chosen_backends = backends or named or (before.backends if before else ()) or (FALLBACK,)
    wanted = tuple(dict.fromkeys(chosen_backends))
    chosen = worker or ("native" if special else default_worker(connection))
    if from_index and chosen == "native":
        raise click.UsageError("--from-index is for the Python worker")
    if special and chosen != "native":
        raise click.UsageError("--ndk, --library and --glibc are for the native worker")
    installed = install_worker(
        connection, wanted, worker=chosen, from_index=from_index, native=options, warn=warn
    )
    if before and before.worker == installed.worker and before.level != installed.level:
        warn(f"{id} had the level {before.level or 'system'} before")
    level = f" ({installed.level})" if installed.level else ""
    told = f"{installed.worker} worker {installed.sha256[:12]}{level}"
    click.echo(f"installed on {id}: {told} with {', '.join(wanted)}")


def _install_app(connection: Connection, team: str | None) -> None:
    from latbench.devices.apple_setup import install_phone_app

    installed = install_phone_app(connection, team, warn)
    named = f"app {installed.sha256[:12]} with {', '.join(installed.backends)}"
    click.echo(f"installed on {connection.id}: {named}, signed by {installed.variables['team']}")


@command.command("clean")
@click.argument("id", shell_complete=completion.connections)
def clean(*, id: str) -> None:
    """Delete models and older workers there.

    The worker in use stays, except on an iPhone: its app is deleted with all data.
    """
    from latbench.devices.connections import known_connection
    from latbench.devices.setup import clean_device

    clean_device(known_connection(id))
    click.echo(f"cleaned {id}")


@command.command("prepare")
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


@command.command("restore")
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


@command.command("remove")
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


command.add_command(device_jobs.jobs)
command.add_command(device_jobs.cancel)
