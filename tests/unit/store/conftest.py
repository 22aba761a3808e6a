"""A registry in SQLite and one in a PostgreSQL server that the tests start themselves."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

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
    place = Path(
        subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip()
    )
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


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place for a registry, of each kind in turn."""
    if request.param == "sqlite":
        return str(tmp_path / "registry.db")
    server: str = request.getfixturevalue("postgresql")
    name = f"test_{abs(hash(str(tmp_path))):x}"
    import psycopg

    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'create database "{name}"')
    return server.replace("/postgres?", f"/{name}?")
