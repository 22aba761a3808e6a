"""Migrate a database to the schema of this version, or report why that is not possible."""

from __future__ import annotations

import time
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

from latbench.errors import RegistryError
from latbench.store.engine import LOCK_TIMEOUT_S, shown

HEAD = "0005"
"""The newest revision in ``migrations/versions``; known without importing Alembic (0.2 s)."""
KNOWN = ("0001", "0002", "0003", "0004", "0005")
READABLE = ("0004",)
"""Older revisions that commands can read as they are: a table that one does not have is empty."""
LOCK = 0x1A7B
"""PostgreSQL advisory lock under which migrations run."""


def require_current(engine: Engine, *, create: bool) -> None:
    """Return if the schema is current; create or migrate it with ``create``; otherwise raise."""
    with engine.connect() as connection:
        found = _revision(connection)
        if found == HEAD or (found in READABLE and not create):
            return
        _refuse_strangers(connection, found)
    if not create:
        raise RegistryError(
            f"there are no records in {shown(engine.url)} yet"
            if found is None
            else f"the registry {shown(engine.url)} has an older version ({found})",
            hint="`latbench doctor` or the first `latbench run` migrates or creates it",
        )
    _migrate(engine)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("latbench_version"):
        return None
    return connection.execute(text("select version_num from latbench_version")).scalar()


def _refuse_strangers(connection: Connection, found: str | None) -> None:
    where = shown(connection.engine.url)
    if found is not None and found not in KNOWN:
        raise RegistryError(
            f"the registry {where} was written by a newer latbench (revision {found})",
            hint="upgrade latbench",
        )
    if found is None and connection.dialect.name == "sqlite":
        tables = inspect(connection).get_table_names()
        if tables:
            raise RegistryError(
                f"{where} is not a latbench registry: it holds {', '.join(sorted(tables)[:5])}",
                hint="choose another file with --registry",
            )


def _migrate(engine: Engine) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    if engine.dialect.name == "sqlite":
        _write_ahead(engine)
    with (
        engine.connect().execution_options(latbench_writes=True) as connection,
        connection.begin(),
    ):
        if engine.dialect.name == "postgresql":
            connection.execute(text(f"select pg_advisory_xact_lock({LOCK})"))
        # If another process migrated first, nothing is left to do.
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _write_ahead(engine: Engine) -> None:
    """Switch the file to WAL permanently, so that readers never wait for a writer.

    SQLite does not wait for a lock here, whatever its timeout, so several processes that open a new
    file at once must retry.
    """
    connection = engine.raw_connection()
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    try:
        while True:
            try:
                connection.cursor().execute("PRAGMA journal_mode = WAL")
                return
            except engine.dialect.loaded_dbapi.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
    finally:
        connection.close()
