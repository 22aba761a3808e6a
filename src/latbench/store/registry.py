"""The registry: records in, records out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import msgspec
from sqlalchemy import URL, Column, Engine, RowMapping, Select, Table, func, select

from latbench.core.codec import (
    convert_record,
    digest,
    pack_json,
    pack_ns,
    unpack_json,
    unpack_ns,
)
from latbench.core.errors import RegistryError, UsageError
from latbench.core.records import Record
from latbench.core.summary import typical_ns
from latbench.core.values import Value
from latbench.store import schema
from latbench.store.engine import LOCK_TIMEOUT_S, make_engine, registry_url, shown, translated
from latbench.store.tables import latest, machines, records, traces


class Row(Value, frozen=True, kw_only=True):
    """What a list shows of a record, without decoding it."""

    id: str
    created_unix_ns: int
    model: str
    device: str
    backend: str
    requested_backend: str
    status: str
    precision: str
    input: str | None
    """Shape of the first input, e.g. ``1x3x224x224``; ``None`` where there was no artifact."""
    threads: int | None
    """As they really were; ``None`` where no session was open, or its runtime has none."""
    protocol: str
    median_ns: int | None
    sample_count: int


GROUP = ("device", "model", "backend", "requested_backend")
"""What one group of the latest records shares. What was asked for is part of it: a fallback does
not displace a record of the backend that was used for its own sake."""


class Registry:
    """Records in an SQLite file or a PostgreSQL database. Use it in a ``with`` block."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @classmethod
    def open(
        cls, url: str | None = None, *, create: bool = True, lock_timeout_s: float = LOCK_TIMEOUT_S
    ) -> Registry:
        """Open the registry at ``url`` (else ``LATBENCH_REGISTRY``, else the user's own).

        With ``create`` a missing one is made and an older one migrated. Raises
        :class:`RegistryError` where it cannot be used and :class:`UsageError` for an unknown URL.
        """
        parsed = registry_url(url)
        if parsed.get_backend_name() == "sqlite":
            parsed = _prepared(parsed, create=create)
        engine = make_engine(parsed, lock_timeout_s=lock_timeout_s)
        try:
            with translated(parsed):
                schema.require_current(engine, create=create)
        except RegistryError:
            engine.dispose()
            raise
        return cls(engine)

    def __enter__(self) -> Registry:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._engine.dispose()

    @property
    def url(self) -> str:
        """The path of the file, or the URL without its password."""
        return shown(self._engine.url)

    def add(self, record: Record) -> None:
        """Store one record: all of it or, on an error, nothing."""
        self.add_many((record,))

    def add_many(self, new: Sequence[Record]) -> None:
        """Store records in one transaction. When it returns they survive a power cut.

        Raises :class:`RegistryError`, also where a record of the same id is there already.
        """
        if not new:
            return
        insert = _insert(self._engine.dialect.name)
        machine_rows = {row["digest"]: row for row in map(_machine_row, new)}
        newest = insert(latest)
        newest = newest.on_conflict_do_update(
            index_elements=list(latest.primary_key),
            set_={
                name: newest.excluded[name] for name in Row.__struct_fields__ if name not in GROUP
            },
            where=newest.excluded.created_unix_ns >= latest.c.created_unix_ns,
        )
        with (
            translated(self._engine.url),
            self._engine.connect().execution_options(latbench_writes=True) as connection,
            connection.begin(),
        ):
            connection.execute(
                insert(machines).on_conflict_do_nothing(), list(machine_rows.values())
            )
            rows = [_record_row(record) for record in new]
            stored = connection.execute(
                insert(records).on_conflict_do_nothing().returning(records.c.id), rows
            )
            if taken := {record.id for record in new} - set(stored.scalars()):
                # Leaving the block by an error takes the whole transaction back.
                raise RegistryError(f"already in {self.url}: {', '.join(sorted(taken)[:3])}")
            trace_rows = [row for record in new for row in _trace_rows(record)]
            if trace_rows:
                connection.execute(traces.insert(), trace_rows)
            connection.execute(
                newest, [{name: row[name] for name in Row.__struct_fields__} for row in rows]
            )

    def get(self, id: str) -> Record:
        """The record of that id, or of the only one that begins so.

        Raises :class:`UsageError` where there is none or more than one.
        """
        with translated(self._engine.url), self._engine.connect() as connection:
            found = connection.execute(_whole(records.c.id == id)).mappings().all()
            if not found:
                begins = records.c.id.startswith(id, autoescape=True)
                found = connection.execute(_whole(begins).limit(4)).mappings().all()
            if len(found) != 1:
                raise _none_or_many(id, [row["id"] for row in found], self.url)
            parts = connection.execute(
                select(traces)
                .where(traces.c.record_id == found[0]["id"])
                .order_by(traces.c.process, traces.c.session)
            ).mappings()
            return _record(found[0], [(part["role"], _trace_tree(part)) for part in parts])

    def history(self, model: str, device: str, backend: str, *, limit: int = 50) -> tuple[Row, ...]:
        """The newest records of one model on one device and backend, the newest first."""
        return self._rows(
            select(*_listed(records))
            .where(
                records.c.model == model,
                records.c.device == device,
                records.c.backend == backend,
            )
            .order_by(records.c.created_unix_ns.desc())
            .limit(limit)
        )

    def latest(self, device: str | None = None) -> tuple[Row, ...]:
        """The newest record of each model x device x backend, whatever its status."""
        query = select(*_listed(latest)).order_by(*(latest.c[name] for name in GROUP))
        return self._rows(query if device is None else query.where(latest.c.device == device))

    def of_sweep(self, sweep: str) -> tuple[Record, ...]:
        """All records of the sweep whose id begins so, in the order of its points; several of a
        point that was interrupted and then repeated."""
        with translated(self._engine.url), self._engine.connect() as connection:
            ids = connection.execute(
                select(records.c.id)
                .where(records.c.sweep.startswith(sweep, autoescape=True))
                .order_by(records.c.id)
            ).scalars()
            found = [self.get(id) for id in ids]
        return tuple(sorted(found, key=lambda record: record.sweep.point if record.sweep else 0))

    def latest_sweep(self, points_sha256: str | None = None) -> str | None:
        """The newest sweep, or the newest of just these points; ``None`` where there is none."""
        query = select(func.max(records.c.sweep))
        if points_sha256 is not None:
            query = query.where(records.c.sweep_points == points_sha256)
        with translated(self._engine.url), self._engine.connect() as connection:
            return connection.execute(query).scalar_one_or_none()

    def count(self) -> int:
        """How many records there are."""
        with translated(self._engine.url), self._engine.connect() as connection:
            return connection.execute(select(func.count()).select_from(records)).scalar_one()

    def _rows(self, query: Select[Any]) -> tuple[Row, ...]:
        with translated(self._engine.url), self._engine.connect() as connection:
            return tuple(Row(**row) for row in connection.execute(query).mappings())


def _listed(table: Table) -> list[Column[Any]]:
    return [table.c[name] for name in Row.__struct_fields__]


def _insert(dialect: str) -> Any:
    """``insert`` with ON CONFLICT; of the dialect in use alone, as either takes 25 ms to import."""
    if dialect == "postgresql":
        from sqlalchemy.dialects import postgresql

        return postgresql.insert
    from sqlalchemy.dialects import sqlite

    return sqlite.insert


def _prepared(url: URL, *, create: bool) -> URL:
    """The folder of an SQLite file made; for reading what may not be written, a read-only URL."""
    path = Path(url.database or "")
    try:
        if create:
            path.parent.mkdir(parents=True, exist_ok=True)
        elif not path.exists():
            raise RegistryError(
                f"there is no registry at {path} yet", hint="the first `latbench run` makes it"
            )
    except OSError as error:
        raise RegistryError(
            f"cannot make the folder of the registry {path}: {error.strerror}",
            hint="permit writing there, or name another place with --registry or LATBENCH_REGISTRY",
        ) from error
    if create or (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
        return url
    # Where SQLite may not write its shared-memory file, it must be told that nobody else does.
    return url.set(
        database=f"file:{quote(str(path))}", query={"mode": "ro", "immutable": "1", "uri": "true"}
    )


def _whole(where: Any) -> Select[Any]:
    return (
        select(records.c.id, records.c.body, machines.c.body.label("machine_body"))
        .join(machines, machines.c.digest == records.c.machine)
        .where(where)
    )


def _machine_row(record: Record) -> dict[str, Any]:
    machine = record.environment.machine
    return {"digest": digest(machine), "body": msgspec.json.encode(machine).decode()}


def _record_row(record: Record) -> dict[str, Any]:
    tree = msgspec.to_builtins(record)
    threads = record.runtime.settings.get("threads", "") if record.runtime else ""
    inputs = record.artifact.inputs if record.artifact else ()
    del tree["environment"]["machine"], tree["outcome"]["traces"], tree["outcome"]["sentinel"]
    return {
        "id": record.id,
        "schema": record.schema,
        "created_unix_ns": record.created_unix_ns,
        "model": record.model.name,
        "device": record.device.id,
        "backend": record.backend,
        "requested_backend": record.request.backend,
        "status": record.outcome.status,
        "precision": record.artifact.precision if record.artifact else record.request.precision,
        "input": "x".join(map(str, inputs[0].shape)) if inputs else None,
        "threads": int(threads) if threads.isdecimal() else None,
        "protocol": f"{record.protocol.name}@{record.protocol.version}",
        "median_ns": typical_ns(record),
        "sample_count": sum(
            len(block.sample_ns) for trace in record.outcome.traces for block in trace.blocks
        ),
        "machine": digest(record.environment.machine),
        "body": msgspec.json.encode(tree).decode(),
        "sweep": record.sweep.sweep if record.sweep else None,
        "sweep_points": record.sweep.points_sha256 if record.sweep else None,
    }


def _trace_rows(record: Record) -> Iterable[dict[str, Any]]:
    for role, sessions in (
        ("model", record.outcome.traces),
        ("sentinel", record.outcome.sentinel),
    ):
        for trace in sessions:
            blocks = trace.blocks
            yield {
                "record_id": record.id,
                "role": role,
                "process": trace.process,
                "session": trace.session,
                "opened_ns": trace.opened_ns,
                "load_ns": trace.load_ns,
                "first_ns": trace.first_ns,
                "warmup": pack_ns(trace.warmup_ns),
                "samples": pack_ns([ns for block in blocks for ns in block.sample_ns]),
                "block_starts": pack_ns([block.start_ns for block in blocks]),
                "block_calls": pack_ns([len(block.sample_ns) for block in blocks]),
                "block_settle_calls": pack_ns([block.settle_calls for block in blocks]),
                "readings": pack_json([block.readings for block in blocks]),
                "beside": pack_json([block.beside_ns for block in blocks])
                if any(block.beside_ns for block in blocks)
                else None,
                "peak_rss_bytes": trace.peak_rss_bytes,
            }


def _record(row: RowMapping, trace_trees: list[tuple[str, dict[str, Any]]]) -> Record:
    try:
        tree = msgspec.json.decode(row["body"])
        tree["environment"]["machine"] = msgspec.json.decode(row["machine_body"])
        tree["outcome"]["traces"] = [trace for role, trace in trace_trees if role == "model"]
        if beside := [trace for role, trace in trace_trees if role == "sentinel"]:
            tree["outcome"]["sentinel"] = beside
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise RegistryError(
            f"record {row['id']} is damaged: {error}", hint="restore the registry from a copy"
        ) from error
    return convert_record(tree)


def _trace_tree(row: RowMapping) -> dict[str, Any]:
    """The trace as JSON, because a record of an older schema is migrated as JSON."""
    values, blocks, start = unpack_ns(row["samples"]), [], 0
    begun, calls = unpack_ns(row["block_starts"]), unpack_ns(row["block_calls"])
    settle, readings, beside = row["block_settle_calls"], row["readings"], row["beside"]
    none = [None] * len(calls)
    for at, count, settled, read, other in zip(
        begun,
        calls,
        none if settle is None else unpack_ns(settle),
        none if readings is None else unpack_json(readings),
        none if beside is None else unpack_json(beside),
        strict=True,
    ):
        block = {"start_ns": at, "sample_ns": list(values[start : start + count])}
        # Only what was stored: a record of an older schema has no such fields.
        block |= {"settle_calls": settled} if settled is not None else {}
        block |= {"readings": read} if read is not None else {}
        blocks.append(block | ({"beside_ns": other} if other else {}))
        start += count
    newer = {} if settle is None else {"session": row["session"], "opened_ns": row["opened_ns"]}
    return newer | {
        "process": row["process"],
        "load_ns": row["load_ns"],
        "first_ns": row["first_ns"],
        "warmup_ns": list(unpack_ns(row["warmup"])),
        "blocks": blocks,
        "peak_rss_bytes": row["peak_rss_bytes"],
    }


def _none_or_many(id: str, found: list[str], where: str) -> UsageError:
    if found:
        return UsageError(
            f"several records begin with {id!r}: {', '.join(found[:3])}", hint="give more of the id"
        )
    return UsageError(
        f"no record {id!r} in {where}", hint="`latbench show` lists the latest of each group"
    )
