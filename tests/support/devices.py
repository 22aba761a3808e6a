"""The user's own devices in tests: a home folder whose ssh configuration knows the test bed."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from latbench.devices.connections import Connection, Installed, store_connection
from latbench.devices.wheels import own_sha256
from latbench.worker.native import PROGRAM
from support.environment import ROOT
from support.hosts import Host

PACKAGES = ("src/latbench", "runners/latbench_runners")
FOLDER = ".cache/latbench"
IN_CHECKOUT = "checkout"
"""Name of the environment that consists of links to this checkout."""


def use_home(home: Path, host: Host | None, monkeypatch: pytest.MonkeyPatch | None = None) -> None:
    """Make ``home`` the user's: ssh knows the test bed of ``host``, and nothing else is there.

    Without ``monkeypatch`` it stays so.
    """
    (home / ".ssh").mkdir(parents=True, exist_ok=True)
    if host is not None:
        shutil.copy(host.config, home / ".ssh" / "config")
    places = {
        "HOME": home,
        "XDG_CONFIG_HOME": home / ".config",
        "XDG_DATA_HOME": home / ".local",
    }
    for name, place in places.items():
        if monkeypatch is None:
            os.environ[name] = str(place)
        else:
            monkeypatch.setenv(name, str(place))


def add_with_checkout(host: Host, id: str | None = None) -> Connection:
    """Add a device that sees this checkout, as if the worker had been installed from it."""
    root = f"{host.spec.home}/{FOLDER}"
    links = " ".join(str(ROOT / package) for package in PACKAGES)
    place = f"{root}/environments/{IN_CHECKOUT}"
    host.ssh(f"mkdir -p {place} && ln -sfn -t {place} {links}", check=True)
    connection = Connection(
        id=id or host.name,
        address=f"ssh://{host.name}",
        installed=Installed(
            worker="python",
            sha256=IN_CHECKOUT,
            latbench=own_sha256(),
            folder=root,
            python=sys.executable,
            backends=("fake", "onnxruntime"),
        ),
    )
    store_connection(connection)
    return connection


def add_with_native(host: Host, program: Path, libraries: dict[str, str]) -> Connection:
    """Add a device that sees ``program``, as if the native worker had been installed there."""
    root = f"{host.spec.home}/{FOLDER}"
    place = f"{root}/native/{IN_CHECKOUT}"
    host.ssh(f"mkdir -p {place} && ln -sfn {program} {place}/{PROGRAM}", check=True)
    connection = Connection(
        id=host.name,
        address=f"ssh://{host.name}",
        installed=Installed(
            worker="native",
            sha256=IN_CHECKOUT,
            latbench=own_sha256(),
            folder=root,
            backends=("onnxruntime",),
            variables=libraries,
        ),
    )
    store_connection(connection)
    return connection
