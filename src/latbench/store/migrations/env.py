"""Run by Alembic: migrates over the connection that it is handed."""

from __future__ import annotations

from alembic import context

from latbench.store.tables import metadata

VERSION_TABLE = "latbench_version"
"""Of our own, so that a database can be shared with another program that uses Alembic."""

if context.config.attributes.get("connection") is not None:
    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=metadata,
        version_table=VERSION_TABLE,
    )
    with context.begin_transaction():
        context.run_migrations()
