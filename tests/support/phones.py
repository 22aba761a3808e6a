"""Phones of the test bed as devices of the user's, with the native worker in place."""

from __future__ import annotations

import shutil
from pathlib import Path

from latbench.devices.adb import HOME
from latbench.devices.connections import PHONE_FOLDER, Connection, Installed, store_connection
from latbench.devices.wheels import own_sha256
from latbench.worker.native import PROGRAM, build_native, native_libraries
from support.hosts import Host

WORKER = PROGRAM
IN_PLACE = "built-here"
"""Name of the folder of the worker, instead of a digest."""


def add_with_native(host: Host, id: str, address: str | None = None) -> Connection:
    """Add a phone on which the native worker of this machine lies, as if it had been installed."""
    root = f"{HOME}/{PHONE_FOLDER}"
    place = f"{root}/native/{IN_PLACE}"
    folder = Path(f"{host.folder}{place}")
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / PROGRAM
    shutil.copy(build_native(), program)
    program.chmod(0o700)
    variables = {}
    for name, value in native_libraries().items():
        variables[name] = value
        if Path(value).is_file():
            if not (folder / Path(value).name).exists():
                shutil.copy(value, folder)
            variables[name] = f"{place}/{Path(value).name}"
    connection = Connection(
        id=id,
        address=address or f"adb://{host.serial}",
        folder=PHONE_FOLDER,
        installed=Installed(
            worker="native",
            sha256=IN_PLACE,
            latbench=own_sha256(),
            folder=root,
            backends=("onnxruntime",),
            variables=variables,
        ),
    )
    store_connection(connection)
    return connection
