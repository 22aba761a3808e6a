"""Results of other tools in the registry: their own table, apart from the records."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, inspect, select

from latbench.errors import LatbenchError, RegistryError
from latbench.schema.reported import ReportedResult, decode_reported, encode_reported
from latbench.store.engine import RESTORE
from latbench.store.tables import reported


def insert_reported(connection: Connection, new: Sequence[ReportedResult]) -> None:
    """Store results. Raise :class:`RegistryError` for one that is stored already."""
    for each in new:
        same = (reported.c.sha256 == each.sha256) | (reported.c.id == each.id)
        for body in connection.execute(select(reported.c.body).where(same)).scalars():
            stored = decode_reported(body)
            if stored.same_as(each):
                raise RegistryError(
                    f"already in the registry: {stored.id} is the same result of {each.file}"
                )
            if stored.id == each.id:
                raise RegistryError(f"another result is in the registry with the id {each.id}")
        row = {
            "id": each.id,
            "created_unix_ns": each.created_unix_ns,
            "sha256": each.sha256,
            "body": encode_reported(each).decode(),
        }
        connection.execute(reported.insert(), row)


def reported_ids(connection: Connection) -> list[str]:
    """The ids of all results."""
    if not inspect(connection).has_table(reported.name):
        return []
    return list(connection.execute(select(reported.c.id)).scalars())


def delete_reported(connection: Connection, id: str) -> None:
    """Delete the result of that id, which may be damaged."""
    connection.execute(reported.delete().where(reported.c.id == id))


def select_reported(connection: Connection, start: str = "") -> tuple[ReportedResult, ...]:
    """The results whose id begins with ``start``, the newest first.

    There are none in a registry from before this table. Raise :class:`RegistryError` for a damaged
    row.
    """
    if not inspect(connection).has_table(reported.name):
        return ()
    query = select(reported.c.id, reported.c.body).order_by(
        reported.c.created_unix_ns.desc(), reported.c.id.desc()
    )
    if start:
        query = query.where(reported.c.id.startswith(start, autoescape=True))
    found = []
    for id, body in connection.execute(query):
        try:
            found.append(decode_reported(body))
        except LatbenchError as error:
            raise RegistryError(
                f"result {id} is damaged: {error.message}", hint=error.hint or RESTORE
            ) from error
    return tuple(found)
