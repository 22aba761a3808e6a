"""Connections to the registry: its location, its engine and its errors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    NoSuchModuleError,
    OperationalError,
)

from latbench.errors import RegistryError, UsageError, first_line
from latbench.paths import data_folder

LOCK_TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 10


def registry_url(named: str | None) -> URL:
    """``named``, else ``LATBENCH_REGISTRY``, else a file in the user's data folder.

    A text without ``://`` is the path of an SQLite file.
    """
    text = named or os.environ.get("LATBENCH_REGISTRY") or str(data_folder() / "registry.db")
    if "://" not in text:
        return URL.create("sqlite", database=str(Path(text).expanduser()))
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as error:
        raise UsageError(
            "the registry's URL cannot be read", hint="e.g. postgresql://user@host/database"
        ) from error
    if url.drivername in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    return url


def make_engine(url: URL, *, lock_timeout_s: float = LOCK_TIMEOUT_S) -> Engine:
    """An engine for ``url`` with the settings that make a committed record durable."""
    try:
        if url.get_backend_name() == "sqlite":
            return _sqlite(url, lock_timeout_s)
        if url.get_backend_name() == "postgresql":
            return create_engine(url, connect_args={"connect_timeout": CONNECT_TIMEOUT_S})
    except ModuleNotFoundError as error:
        raise RegistryError(
            "a registry in PostgreSQL needs psycopg, which is not installed",
            hint="pip install 'latbench[postgresql]'",
        ) from error
    except NoSuchModuleError:
        pass
    raise UsageError(
        f"a registry cannot be in {url.drivername!r}",
        hint="a path of an SQLite file, sqlite:///FILE, or postgresql://…",
    )


@contextmanager
def translated(url: URL) -> Iterator[None]:
    """Database errors as :class:`RegistryError`, without the password."""
    try:
        yield
    except DBAPIError as error:
        reason = _first_line(error)
        hint = next(
            (hint for words, hint in HINTS if words in reason),
            "is the server running, and are the name and password right?"
            if isinstance(error, OperationalError) and url.get_backend_name() == "postgresql"
            else None,
        )
        raise RegistryError(f"registry {shown(url)}: {reason}", hint=hint) from error


HINTS = (
    ("database is locked", "another program is writing to it; wait for it, or end it"),
    ("not a database", "it is another kind of file, or damaged; name another with --registry"),
    ("malformed", "the file is damaged: restore it from a copy"),
    ("readonly", "permit writing to the file and its folder, or name another with --registry"),
    ("read-only", "permit writing to the file and its folder, or name another with --registry"),
    ("disk is full", "make room on the disk, or name another place with --registry"),
    ("disk I/O", "make room on the disk, look at its health, or name another with --registry"),
    ("unable to open", "is the folder there and may it be written to? or name another place"),
)


def shown(url: URL) -> str:
    """The name of the registry in messages: a path, or the URL without its password."""
    if url.get_backend_name() == "sqlite":
        return url.database or ":memory:"
    if "password" in url.query:
        url = url.update_query_dict({"password": "***"})
    return url.render_as_string(hide_password=True).replace("+psycopg", "")


def _sqlite(url: URL, lock_timeout_s: float) -> Engine:
    engine = create_engine(url, connect_args={"timeout": lock_timeout_s})

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _: object) -> None:
        # The driver would begin transactions itself, and deferred ones: see `begin`.
        connection.isolation_level = None
        connection.execute("PRAGMA foreign_keys = ON")
        # An acknowledged record survives a power cut; NORMAL would lose it in WAL mode.
        connection.execute("PRAGMA synchronous = FULL")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A writer that begins deferred fails at once when another one was faster; an immediate one
        # waits (four writers: 75,000 lock errors against none). Readers never take the lock.
        writes = connection.get_execution_options().get("latbench_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _first_line(error: DBAPIError) -> str:
    return first_line(error.orig or error, "no reason given")
