"""Connections to the registry: its location, its engine and its errors."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    NoSuchModuleError,
    OperationalError,
    SQLAlchemyError,
)

from latbench.errors import RegistryError, UsageError, first_line
from latbench.paths import data_folder

LOCK_TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 10
POSTGRESQL = "postgresql+psycopg"


def registry_url(named: str | None) -> URL:
    """``named``, else ``LATBENCH_REGISTRY``, else a file in the user's data folder.

    A text without ``://`` is the path of an SQLite file.
    """
    text = named or os.environ.get("LATBENCH_REGISTRY") or str(data_folder() / "registry.db")
    if "://" not in text:
        return URL.create("sqlite", database=str(Path(text).expanduser()))
    try:
        url = make_url(_encoded(text))
    except (ArgumentError, ValueError) as error:
        raise UsageError(
            "the registry's URL cannot be read", hint="e.g. postgresql://user@host/database"
        ) from error
    if url.get_backend_name() == "sqlite" and (url.username or url.password or url.host):
        raise UsageError(
            "the URL of a registry in SQLite has a user, a password or a host",
            hint="sqlite:///FILE, with three slashes, or just FILE",
        )
    if url.drivername in ("postgresql", "postgres"):
        return url.set(drivername=POSTGRESQL)
    return url


def prepare_file(url: URL, *, create: bool) -> URL:
    """Create the folder of an SQLite file. For a file without write permission, return a read-only
    URL."""
    path = Path(url.database or "")
    try:
        if create:
            path.parent.mkdir(parents=True, exist_ok=True)
        elif not path.exists():
            raise RegistryError(
                f"there is no registry at {path} yet", hint="the first `latbench run` creates it"
            )
    except OSError as error:
        raise RegistryError(
            f"cannot create the folder of the registry {path}: {error.strerror}",
            hint="permit writing there, or set another place: --registry or LATBENCH_REGISTRY",
        ) from error
    if create or (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
        return url
    # If SQLite cannot write its shared-memory file, it must know that nobody else writes.
    return url.set(
        database=f"file:{quote(str(path))}", query={"mode": "ro", "immutable": "1", "uri": "true"}
    )


def _encoded(text: str) -> str:
    """The URL with the user and password in it quoted: a password may contain ``@``, ``/``, ``?``.

    A URL without ``@`` before the parameters has neither.
    """
    scheme, _, rest = text.partition("://")
    before, question, after = rest.partition("?")
    in_password = "@" not in before and ":" in before and "/" not in before
    if "@" in after and (in_password or not re.match("[A-Za-z_]+=", after)):
        before, question, after = rest, "", ""
    if "@" not in before:
        return text
    account, _, place = before.rpartition("@")
    user, colon, password = account.partition(":")
    return (
        f"{scheme}://{quote(unquote(user), safe='')}{colon}{quote(unquote(password), safe='')}"
        f"@{place}{question}{after}"
    )


def make_engine(url: URL, *, lock_timeout_s: float = LOCK_TIMEOUT_S) -> Engine:
    """An engine for ``url`` with the settings that make a committed record durable."""
    try:
        if url.get_backend_name() == "sqlite":
            return _sqlite(url, lock_timeout_s)
        if url.get_backend_name() == "postgresql":
            if url.drivername != POSTGRESQL:
                raise UsageError(
                    f"a registry in PostgreSQL uses psycopg 3, not {url.get_driver_name()}",
                    hint="begin the URL with postgresql://",
                )
            return create_engine(url, connect_args={"connect_timeout": CONNECT_TIMEOUT_S})
    except ModuleNotFoundError as error:
        raise RegistryError(
            "a registry in PostgreSQL needs psycopg, which is not installed",
            hint="pip install 'latbench[postgresql]'",
        ) from error
    except NoSuchModuleError:
        pass
    except (ArgumentError, ValueError, TypeError) as error:
        raise UsageError(
            f"the URL of the registry {shown(url)} cannot be used", hint="a parameter is unknown"
        ) from error
    raise UsageError(
        f"a registry cannot be in {url.drivername!r}",
        hint="a path of an SQLite file, sqlite:///FILE, or postgresql://…",
    )


@contextmanager
def translated(url: URL) -> Iterator[None]:
    """Database errors as :class:`RegistryError`, without credentials."""
    try:
        yield
    except (DBAPIError, sqlite3.Error) as error:
        reason = _without_secrets(_first_line(error), url)
        hint = next(
            (hint for words, hint in HINTS if words in reason),
            "is the server running, and are the name and password right?"
            if isinstance(error, OperationalError) and url.get_backend_name() == "postgresql"
            else None,
        )
        raise RegistryError(f"registry {shown(url)}: {reason}", hint=hint) from error
    except UnicodeEncodeError as error:
        raise UsageError(
            f"no record has a text with bytes that are not UTF-8: {error.object}"
        ) from error
    except (SQLAlchemyError, ValueError, TypeError) as error:
        # A damaged file has types and bytes where the schema has others.
        reason = _without_secrets(f"{type(error).__name__}: {first_line(error)}", url)
        raise RegistryError(
            f"registry {shown(url)} is damaged, or has another schema: {reason}", hint=RESTORE
        ) from error


RESTORE = "restore it from a copy, or name another with --registry"
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


HARMLESS = frozenset(
    ("host", "hostaddr", "port", "dbname", "user", "sslmode", "connect_timeout", "application_name")
)
"""Parameters of a URL that are shown; any other one may be a secret."""


def shown(url: URL) -> str:
    """The name of the registry in messages: a path, or the URL without its credentials."""
    if url.get_backend_name() == "sqlite":
        return url.database or ":memory:"
    secret = {name: "***" for name in url.query if name.lower() not in HARMLESS}
    text = url.update_query_dict(secret).render_as_string(hide_password=True)
    return text.replace("+psycopg", "").replace("%2A%2A%2A", "***")


def without_credentials(text: str) -> str:
    """``text``, an argument of a command line, with the URL of a registry as in messages."""
    option, equals, value = text.partition("=") if text.startswith("--") else ("", "", text)
    if "://" not in value:
        return text
    try:
        return f"{option}{equals}{shown(registry_url(value))}"
    except UsageError:
        return f"{option}{equals}{value.partition('://')[0]}://***"


def _without_secrets(text: str, url: URL) -> str:
    """``text``, for example of a driver, without the values that :func:`shown` hides."""
    values = [url.password, *(v for name, v in url.query.items() if name.lower() not in HARMLESS)]
    for value in values:
        for each in (value,) if isinstance(value, str) else value or ():
            for secret in (each, quote(each, safe=""), quote(each)):
                text = text.replace(secret, "***") if secret else text
    return text


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


def _first_line(error: DBAPIError | sqlite3.Error) -> str:
    original = error.orig if isinstance(error, DBAPIError) else None
    return first_line(original or error, "no reason given")
