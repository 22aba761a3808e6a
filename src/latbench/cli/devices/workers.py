"""``latbench devices check``, ``install`` and ``clean``: the worker on a device."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from latbench.cli import completion
from latbench.cli.options import json_option
from latbench.cli.streams import warn
from latbench.cli.terminal import echo_lines

if TYPE_CHECKING:
    from latbench.devices.connections import Connection


@click.command("check")
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


@click.command("install")
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


@click.command("clean")
@click.argument("id", shell_complete=completion.connections)
def clean(*, id: str) -> None:
    """Delete models and older workers there.

    The worker in use stays, except on an iPhone: its app is deleted with all data.
    """
    from latbench.devices.connections import known_connection
    from latbench.devices.setup import clean_device

    clean_device(known_connection(id))
    click.echo(f"cleaned {id}")
