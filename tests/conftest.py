"""Fixtures of all tests: isolation from the user's files, and a PostgreSQL server."""

from __future__ import annotations

import compileall
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from latbench.worker import process
from support.zygote import Zygotes

pytest_plugins = ["support.hosts.fixtures", "support.native_build"]

# PyTorch's threads spin while they wait. Two tests side by side, each with a thread for each CPU,
# took ten times as long as with one thread each. Runners set the number that a test asks for.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A busy machine makes drawing slow; that says nothing about the code under test.
settings.register_profile("latbench", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("latbench")

USER = "nobody"
"""initdb refuses to run as root."""


def programs() -> Path | None:
    """The folder of initdb and pg_ctl."""
    found = shutil.which("initdb")
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return Path(found).resolve().parent if found else next(iter(folders), None)


def server_command(*command: str | Path) -> None:
    prefix = ("runuser", "-u", USER, "--") if os.getuid() == 0 else ()
    subprocess.run([*prefix, *map(str, command)], check=True, capture_output=True, cwd="/")


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a fresh server on a Unix socket, without a password."""
    pytest.importorskip("psycopg", reason="needs the `postgresql` extra")
    folder = programs()
    if folder is None:
        pytest.skip("PostgreSQL is not installed here: no initdb was found")
    # A short path outside of pytest's: a socket's name has 107 bytes at most, and `nobody` must
    # be able to enter every folder above it.
    place = Path(tempfile.mkdtemp())
    if os.getuid() == 0:
        shutil.chown(place, USER)
    data = place / "data"
    try:
        server_command(
            folder / "initdb",
            "-D",
            data,
            "-U",
            "tester",
            "--auth=trust",
            "-E",
            "UTF8",
            "--locale=C",
        )
        server_command(
            *(folder / "pg_ctl", "-D", data, "-w", "-l", place / "log"),
            *("-o", f"-k {place} -c listen_addresses=''", "start"),
        )
        yield f"postgresql://tester@/postgres?host={place}"
    finally:
        if data.exists():
            server_command(folder / "pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(place, ignore_errors=True)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Compile latbench where PYTHONDONTWRITEBYTECODE is set: else each program compiles it anew."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        for package in ("latbench", "latbench_exporters", "latbench_runners"):
            for folder in import_module(package).__path__:
                compileall.compile_dir(folder, quiet=2)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the modules of slow tests: at the end, no worker is left alone with a long one.

    Modules stay whole, for their fixtures, and in order.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session", autouse=True)
def _apart_from_the_user(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Registry, devices and cache below a folder of this test run; a cache may be kept by name.

    Exports take most of the time, so parallel workers share one cache, as programs of a user do.
    """
    home = tmp_path_factory.mktemp("home")
    parallel = "PYTEST_XDIST_WORKER" in os.environ
    shared = tmp_path_factory.getbasetemp().parent if parallel else home
    os.environ["LATBENCH_REGISTRY"] = str(home / "registry.db")
    os.environ["XDG_CONFIG_HOME"] = str(home / "config")
    os.environ["XDG_DATA_HOME"] = str(home / "data")
    os.environ["LATBENCH_CACHE"] = os.environ.get("LATBENCH_TEST_CACHE") or str(shared / "cache")
    os.environ.pop("LATBENCH_DEVICES", None)


@pytest.fixture(scope="session")
def zygotes(_apart_from_the_user: None) -> Iterator[Zygotes]:
    """The parents of forked workers; each imports what it needs when the first worker asks."""
    started = Zygotes()
    yield started
    started.close()


@pytest.fixture(autouse=True)
def _fast_workers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork the workers that a test's own process starts, where the system can."""
    if sys.platform == "linux":
        monkeypatch.setattr(process, "subprocess", request.getfixturevalue("zygotes"))
