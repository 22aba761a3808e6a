"""The registry: records in, records out."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import msgspec
from sqlalchemy import URL, Column, Engine, Select, Table, func, select

from latbench.claims.verdict import StoredVerdict
from latbench.errors import RegistryError, UsageError
from latbench.schema.record import Record
from latbench.schema.value import Value
from latbench.store import migrate
from latbench.store.engine import LOCK_TIMEOUT_S, make_engine, registry_url, shown, translated
from latbench.store.rows import from_rows, machine_row, record_row, trace_rows, trace_tree
from latbench.store.tables import latest, machines, records, traces, verdicts


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
    options: str | None
    """Of the backend and its exporter, as they were asked for, e.g. ``form=trained``; ``None``
    where there were none, and in rows from before they were listed."""
    median_ns: int | None
    sample_count: int


GROUP = ("device", "model", "backend", "requested_backend")
"""What one group of the latest records shares. What was asked for is part of it: a fallback does
not displace a record of the backend that was used for its own sake."""
SHORT_ID = 7
"""Characters of a shortened id, at least."""
TRAINED = "form=trained"
"""Records of the trained form are never the latest of their model: it is not what is shipped."""


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
                migrate.require_current(engine, create=create)
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
        machine_rows = {row["digest"]: row for row in map(machine_row, new)}
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
            rows = [record_row(record) for record in new]
            stored = connection.execute(
                insert(records).on_conflict_do_nothing().returning(records.c.id), rows
            )
            if taken := {record.id for record in new} - set(stored.scalars()):
                # Leaving the block by an error takes the whole transaction back.
                raise RegistryError(f"already in {self.url}: {', '.join(sorted(taken)[:3])}")
            if of_traces := [row for record in new for row in trace_rows(record)]:
                connection.execute(traces.insert(), of_traces)
            deployed = [row for row in rows if TRAINED not in (row["options"] or "").split(",")]
            if deployed:
                listed = Row.__struct_fields__
                connection.execute(
                    newest, [{name: row[name] for name in listed} for row in deployed]
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
            return from_rows(found[0], [(part["role"], trace_tree(part)) for part in parts])

    def ids(self, start: str = "", *, limit: int = 20) -> tuple[str, ...]:
        """The newest ids that begin with ``start``, at most ``limit``, the newest first."""
        with translated(self._engine.url), self._engine.connect() as connection:
            found = connection.execute(
                select(records.c.id)
                .where(records.c.id.startswith(start, autoescape=True))
                .order_by(records.c.id.desc())
                .limit(limit)
            )
            return tuple(found.scalars())

    def short_ids(self, ids: Iterable[str], *, least: int = SHORT_ID) -> dict[str, str]:
        """The shortest start of each id, ``least`` characters or more, that no other record has."""
        found = {}
        with translated(self._engine.url), self._engine.connect() as connection:
            for id in ids:
                before = select(func.max(records.c.id)).where(records.c.id < id)
                after = select(func.min(records.c.id)).where(records.c.id > id)
                neighbors = [connection.execute(query).scalar() or "" for query in (before, after)]
                shared = max(_shared_start(id, other) for other in neighbors)
                found[id] = id[: max(least, shared + 1)]
        return found

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

    def add_verdicts(self, new: Sequence[StoredVerdict]) -> None:
        """Store verdicts in one transaction; of two on one claim at one time, the first.

        Raises :class:`RegistryError`.
        """
        if not new:
            return
        rows = [
            {
                "claim": each.claim.id,
                "created_unix_ns": each.created_unix_ns,
                "body": msgspec.json.encode(each).decode(),
            }
            for each in new
        ]
        with (
            translated(self._engine.url),
            self._engine.connect().execution_options(latbench_writes=True) as connection,
            connection.begin(),
        ):
            insert = _insert(self._engine.dialect.name)
            connection.execute(insert(verdicts).on_conflict_do_nothing(), rows)

    def verdicts_on(self, claim: str) -> tuple[list[StoredVerdict], list[str]]:
        """All that were stored on the claim of that id, the newest first; and why others cannot be
        read."""
        query = (
            select(verdicts.c.claim, verdicts.c.body)
            .where(verdicts.c.claim == claim)
            .order_by(verdicts.c.created_unix_ns.desc())
        )
        return self._verdicts(query)

    def newest_verdicts(self, claims: Collection[str]) -> tuple[list[StoredVerdict], list[str]]:
        """The newest on each of the claims of these ids; and why others cannot be read."""
        newest = (
            select(verdicts.c.claim, func.max(verdicts.c.created_unix_ns).label("at"))
            .where(verdicts.c.claim.in_(claims))
            .group_by(verdicts.c.claim)
            .subquery()
        )
        return self._verdicts(
            select(verdicts.c.claim, verdicts.c.body)
            .join(
                newest,
                (newest.c.claim == verdicts.c.claim) & (newest.c.at == verdicts.c.created_unix_ns),
            )
            .order_by(verdicts.c.claim)
        )

    def count(self) -> int:
        """How many records there are."""
        with translated(self._engine.url), self._engine.connect() as connection:
            return connection.execute(select(func.count()).select_from(records)).scalar_one()

    def _verdicts(self, query: Select[Any]) -> tuple[list[StoredVerdict], list[str]]:
        with translated(self._engine.url), self._engine.connect() as connection:
            rows = connection.execute(query).all()
        found, unread = [], []
        for claim, body in rows:
            try:
                found.append(msgspec.json.decode(body, type=StoredVerdict))
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                unread.append(
                    f"a verdict on {claim} in {self.url} cannot be read: a newer latbench wrote "
                    f"it, or the registry is damaged ({error})"
                )
        return found, unread

    def _rows(self, query: Select[Any]) -> tuple[Row, ...]:
        with translated(self._engine.url), self._engine.connect() as connection:
            return tuple(Row(**row) for row in connection.execute(query).mappings())


def _shared_start(one: str, two: str) -> int:
    """How many leading characters two ids share."""
    pairs = zip(one, two, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(two)))


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


def _none_or_many(id: str, found: list[str], where: str) -> UsageError:
    if found:
        return UsageError(
            f"several records begin with {id!r}: {', '.join(found[:3])}", hint="give more of the id"
        )
    return UsageError(
        f"no record {id!r} in {where}", hint="`latbench show` lists the latest of each group"
    )
