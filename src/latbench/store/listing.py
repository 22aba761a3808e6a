"""Rows of a list of records, read without decoding the records."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Column, Connection, Select, Table

from latbench.errors import RegistryError
from latbench.schema.value import Value
from latbench.store.engine import RESTORE, shown
from latbench.store.tables import records


class Row(Value, frozen=True, kw_only=True):
    """The columns of a record in a list, without decoding the record."""

    id: str
    created_unix_ns: int
    model: str
    device: str
    backend: str
    requested_backend: str
    status: str
    precision: str
    input: str | None
    """Shape of the first input, e.g. ``1x3x224x224``; ``None`` if there was no artifact."""
    threads: int | None
    """Actual number; ``None`` if no session was opened or the runtime reports none."""
    protocol: str
    options: str | None
    """Requested options of the backend and its exporter, e.g. ``form=trained``; ``None`` if there
    were none, and in rows from before this column existed."""
    median_ns: int | None
    sample_count: int


GROUP = ("device", "model", "backend", "requested_backend")
"""Columns that identify a group of which the latest record is kept. The requested backend is one:
a fallback does not replace a record of the backend that was requested itself."""
NEWEST_FIRST = (records.c.created_unix_ns.desc(), records.c.id.desc())
TRAINED = "form=trained"
"""Records of the trained form never count as the latest: that form is not deployed."""


def row_columns(table: Table) -> list[Column[Any]]:
    """The columns of ``table`` that a :class:`Row` has."""
    return [table.c[name] for name in Row.__struct_fields__]


def read_rows(connection: Connection, query: Select[Any]) -> tuple[Row, ...]:
    """The rows of a query for the columns :func:`row_columns`. Raises :class:`RegistryError`."""
    # The driver's own keys are a subclass of str, which msgspec does not take.
    names = Row.__struct_fields__
    rows = [dict(zip(names, row, strict=True)) for row in connection.execute(query)]
    try:
        return msgspec.convert(rows, tuple[Row, ...])
    except msgspec.ValidationError as error:
        raise RegistryError(
            f"the registry {shown(connection.engine.url)} is damaged: {error}", hint=RESTORE
        ) from error
