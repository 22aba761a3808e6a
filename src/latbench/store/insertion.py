"""Insert records and verdicts into the tables of the registry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection

from latbench.claims.verdict import StoredVerdict
from latbench.errors import RegistryError
from latbench.schema.record import Record
from latbench.store.engine import shown
from latbench.store.listing import GROUP, TRAINED, Row
from latbench.store.rows import machine_row, record_row, trace_rows
from latbench.store.tables import latest, machines, records, traces, verdicts


def insert_records(connection: Connection, new: Sequence[Record]) -> None:
    """Store records, and the newest of each group as the latest; of equal records, one.

    Raises :class:`RegistryError` for different records with one id and for one that is stored.
    """
    new = _once(new)
    insert = _insert(connection.dialect.name)
    machine_rows = {row["digest"]: row for row in map(machine_row, new)}
    newest = insert(latest)
    newest = newest.on_conflict_do_update(
        index_elements=list(latest.primary_key),
        set_={name: newest.excluded[name] for name in Row.__struct_fields__ if name not in GROUP},
        where=newest.excluded.created_unix_ns >= latest.c.created_unix_ns,
    )
    connection.execute(insert(machines).on_conflict_do_nothing(), list(machine_rows.values()))
    rows = [record_row(record) for record in new]
    stored = connection.execute(
        insert(records).on_conflict_do_nothing().returning(records.c.id), rows
    )
    if taken := {record.id for record in new} - set(stored.scalars()):
        # An error that leaves the block rolls back the whole transaction.
        raise RegistryError(
            f"already in {shown(connection.engine.url)}: {', '.join(sorted(taken)[:3])}"
        )
    if of_traces := [row for record in new for row in trace_rows(record)]:
        connection.execute(traces.insert(), of_traces)
    deployed = [row for row in rows if TRAINED not in (row["options"] or "").split(",")]
    if deployed:
        listed = Row.__struct_fields__
        connection.execute(newest, [{name: row[name] for name in listed} for row in deployed])


def insert_verdicts(connection: Connection, new: Sequence[StoredVerdict]) -> None:
    """Store verdicts; of two on one claim at the same time, the first."""
    rows = [
        {
            "claim": each.claim.id,
            "created_unix_ns": each.created_unix_ns,
            "body": msgspec.json.encode(each).decode(),
        }
        for each in new
    ]
    insert = _insert(connection.dialect.name)
    connection.execute(insert(verdicts).on_conflict_do_nothing(), rows)


def _once(new: Sequence[Record]) -> list[Record]:
    """The records without repetitions."""
    found: dict[str, Record] = {}
    for record in new:
        if found.setdefault(record.id, record) != record:
            raise RegistryError(f"different records have the same id: {record.id}")
    return list(found.values())


def _insert(dialect: str) -> Any:
    """``insert`` with ON CONFLICT for the dialect in use; importing either takes 25 ms."""
    if dialect == "postgresql":
        from sqlalchemy.dialects import postgresql

        return postgresql.insert
    from sqlalchemy.dialects import sqlite

    return sqlite.insert
