"""The registry: store records and verdicts, and find them again."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import msgspec
from sqlalchemy import URL, Column, Connection, Engine, Select, Table, func, select

from latbench.claims.verdict import StoredVerdict
from latbench.errors import RegistryError, UsageError
from latbench.schema.record import Record
from latbench.schema.reported import ReportedResult
from latbench.schema.value import Value
from latbench.store import migrate
from latbench.store.engine import (
    LOCK_TIMEOUT_S,
    RESTORE,
    make_engine,
    registry_url,
    shown,
    translated,
)
from latbench.store.record_filter import RecordFilter
from latbench.store.reported_rows import (
    delete_reported,
    insert_reported,
    reported_ids,
    select_reported,
)
from latbench.store.rows import from_rows, machine_row, record_row, trace_rows, trace_tree
from latbench.store.tables import latest, machines, records, traces, verdicts


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
SHORT_ID = 7
"""Minimum length of a shortened id."""
EVERY = RecordFilter()
TRAINED = "form=trained"
"""Records of the trained form never count as the latest: that form is not deployed."""


class Registry:
    """Records in an SQLite file or a PostgreSQL database. Use it in a ``with`` block."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @classmethod
    def open(
        cls, url: str | None = None, *, create: bool = True, lock_timeout_s: float = LOCK_TIMEOUT_S
    ) -> Registry:
        """Open the registry at ``url`` (else ``LATBENCH_REGISTRY``, else the user's own).

        With ``create``, a missing registry is created and an older one migrated. Raises
        :class:`RegistryError` if it cannot be used, and :class:`UsageError` for an unknown URL.
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
        """Store one record completely or, on an error, not at all."""
        self.add_many((record,))

    def add_many(self, new: Sequence[Record], reported: Sequence[ReportedResult] = ()) -> None:
        """Store records in one transaction. When this returns, they survive a power cut.

        Of equal records one is stored. Raises :class:`RegistryError`, also for different records
        with the same id, and if a record with the same id exists. The same holds for results that
        other tools ``reported``.
        """
        if not new and not reported:
            return
        new = _once(new)
        with (
            translated(self._engine.url),
            self._engine.connect().execution_options(latbench_writes=True) as connection,
            connection.begin(),
        ):
            if new:
                self._insert_records(connection, new)
            insert_reported(connection, reported)

    def _insert_records(self, connection: Connection, new: Sequence[Record]) -> None:
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
        connection.execute(insert(machines).on_conflict_do_nothing(), list(machine_rows.values()))
        rows = [record_row(record) for record in new]
        stored = connection.execute(
            insert(records).on_conflict_do_nothing().returning(records.c.id), rows
        )
        if taken := {record.id for record in new} - set(stored.scalars()):
            # An error that leaves the block rolls back the whole transaction.
            raise RegistryError(f"already in {self.url}: {', '.join(sorted(taken)[:3])}")
        if of_traces := [row for record in new for row in trace_rows(record)]:
            connection.execute(traces.insert(), of_traces)
        deployed = [row for row in rows if TRAINED not in (row["options"] or "").split(",")]
        if deployed:
            listed = Row.__struct_fields__
            connection.execute(newest, [{name: row[name] for name in listed} for row in deployed])

    def reported(
        self, wanted: RecordFilter = EVERY, *, start: str = ""
    ) -> tuple[ReportedResult, ...]:
        """The results of other tools that meet the conditions, the newest first."""
        with translated(self._engine.url), self._engine.connect() as connection:
            found = select_reported(connection, start)
        return tuple(each for each in found if wanted.matches_reported(each))

    def newest_reported(self, wanted: RecordFilter) -> tuple[ReportedResult, ...]:
        """The newest of each model x device x backend x tool that meets the conditions."""
        groups: dict[tuple[str | None, ...], ReportedResult] = {}
        for each in self.reported(wanted):
            groups.setdefault((each.device, each.model, each.backend, each.result.tool), each)
        return tuple(groups.values())

    def remove_reported(self, ids: Iterable[str]) -> tuple[str, ...]:
        """Delete results of other tools, by the starts of their ids; return the whole ids.

        All or none are deleted. Records that latbench measured cannot be. Raises
        :class:`UsageError` if no result, or more than one, has such an id.
        """
        with (
            translated(self._engine.url),
            self._engine.connect().execution_options(latbench_writes=True) as connection,
            connection.begin(),
        ):
            known = reported_ids(connection)
            chosen = tuple(dict.fromkeys(self._one_reported(id, known) for id in ids))
            for id in chosen:
                delete_reported(connection, id)
        return chosen

    def _one_reported(self, id: str, known: Sequence[str]) -> str:
        found = [id] if id in known else [each for each in known if each.startswith(id)]
        if not found and self.ids(id, limit=1):
            raise UsageError(
                f"{id} is a record that latbench measured",
                hint="only results of other tools can be removed: latbench reported list",
            )
        if len(found) != 1:
            raise _none_or_many(id, found, self.url)
        return found[0]

    def entry(self, id: str) -> Record | ReportedResult:
        """The record or reported result with that id, or the only one whose id begins with it.

        Raises :class:`UsageError` if there is none or more than one.
        """
        reported = {each.id: each for each in self.reported(start=id)}
        found = [*self.ids(id, limit=4), *reported]
        found = [id] if id in found else found
        if len(found) != 1:
            raise _none_or_many(id, found, self.url)
        return reported.get(found[0]) or self.get(found[0])

    def get(self, id: str) -> Record:
        """The record with that id, or the only one whose id begins with it.

        Raises :class:`UsageError` if there is none or more than one, and for a result that latbench
        did not measure.
        """
        with translated(self._engine.url), self._engine.connect() as connection:
            found = connection.execute(_whole(records.c.id == id)).mappings().all()
            if not found:
                begins = records.c.id.startswith(id, autoescape=True)
                found = connection.execute(_whole(begins).limit(4)).mappings().all()
            if not found:
                for other in select_reported(connection, id):
                    raise _not_measured(other)
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
        """The shortest unique prefix of each id, of at least ``least`` characters."""
        found = {}
        with translated(self._engine.url), self._engine.connect() as connection:
            others = reported_ids(connection)
            for id in ids:
                before = select(func.max(records.c.id)).where(records.c.id < id)
                after = select(func.min(records.c.id)).where(records.c.id > id)
                neighbors = [connection.execute(query).scalar() or "" for query in (before, after)]
                neighbors += [other for other in others if other != id]
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

    def find(self, wanted: RecordFilter, *, limit: int | None = None) -> tuple[Row, ...]:
        """The records that meet the conditions, the newest first, at most ``limit``."""
        if not wanted.needs_body():
            query = select(*_listed(records)).where(*wanted.where(records))
            return self._rows(query.order_by(*NEWEST_FIRST).limit(limit))
        found: list[Row] = []
        query = select(*_listed(records), records.c.body).where(*wanted.where(records))
        with translated(self._engine.url), self._engine.connect() as connection:
            for row in connection.execute(query.order_by(*NEWEST_FIRST)).mappings():
                if wanted.matches_body(row["body"]):
                    found.append(Row(**{name: row[name] for name in Row.__struct_fields__}))
                if len(found) == limit:
                    break
        return tuple(found)

    def newest(self, wanted: RecordFilter) -> tuple[Row, ...]:
        """The newest record of each model x device x backend among those that meet the conditions.

        A record of the trained form counts only if the conditions name the form.
        """
        if wanted.by_group():
            query = select(*_listed(latest)).where(*wanted.where(latest))
            return self._rows(query.order_by(*(latest.c[name] for name in GROUP)))
        form = any(key == "form" for key, _ in wanted.options)
        groups: dict[tuple[str, ...], Row] = {}
        for row in self.find(wanted):
            if form or TRAINED not in (row.options or "").split(","):
                groups.setdefault(tuple(getattr(row, name) for name in GROUP), row)
        return tuple(groups[key] for key in sorted(groups))

    def latest(self, device: str | None = None) -> tuple[Row, ...]:
        """The newest record of each model x device x backend, whatever its status."""
        return self.newest(RecordFilter(devices=() if device is None else (device,)))

    def of_sweep(self, sweep: str) -> tuple[Record, ...]:
        """All records of the sweep whose id begins with ``sweep``, in the order of its points. A
        point that was interrupted and repeated has several."""
        with translated(self._engine.url), self._engine.connect() as connection:
            ids = connection.execute(
                select(records.c.id)
                .where(records.c.sweep.startswith(sweep, autoescape=True))
                .order_by(records.c.id)
            ).scalars()
            found = [self.get(id) for id in ids]
        return tuple(sorted(found, key=lambda record: record.sweep.point if record.sweep else 0))

    def latest_sweep(self, points_sha256: str | None = None) -> str | None:
        """The newest sweep, or the newest one with these points; ``None`` if there is none."""
        query = select(func.max(records.c.sweep))
        if points_sha256 is not None:
            query = query.where(records.c.sweep_points == points_sha256)
        with translated(self._engine.url), self._engine.connect() as connection:
            return connection.execute(query).scalar_one_or_none()

    def add_verdicts(self, new: Sequence[StoredVerdict]) -> None:
        """Store verdicts in one transaction; of two for one claim at the same time, the first.

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
        """All verdicts on the claim, the newest first, and why others cannot be read."""
        query = (
            select(verdicts.c.claim, verdicts.c.body)
            .where(verdicts.c.claim == claim)
            .order_by(verdicts.c.created_unix_ns.desc())
        )
        return self._verdicts(query)

    def newest_verdicts(self, claims: Collection[str]) -> tuple[list[StoredVerdict], list[str]]:
        """The newest verdict on each of the claims, and why others cannot be read."""
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
        """The number of records."""
        with translated(self._engine.url), self._engine.connect() as connection:
            return connection.execute(select(func.count()).select_from(records)).scalar_one()

    def _verdicts(self, query: Select[Any]) -> tuple[list[StoredVerdict], list[str]]:
        with translated(self._engine.url), self._engine.connect() as connection:
            rows = connection.execute(query).all()
        found, unread = [], []
        for claim, body in rows:
            try:
                found.append(msgspec.json.decode(body, type=StoredVerdict).migrated())
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                unread.append(
                    f"a verdict on {claim} in {self.url} cannot be read: a newer latbench wrote "
                    f"it, or the registry is damaged ({error})"
                )
        return found, unread

    def _rows(self, query: Select[Any]) -> tuple[Row, ...]:
        with translated(self._engine.url), self._engine.connect() as connection:
            # The driver's own keys are a subclass of str, which msgspec does not take.
            names = Row.__struct_fields__
            rows = [dict(zip(names, row, strict=True)) for row in connection.execute(query)]
        try:
            return msgspec.convert(rows, tuple[Row, ...])
        except msgspec.ValidationError as error:
            raise RegistryError(
                f"the registry {self.url} is damaged: {error}", hint=RESTORE
            ) from error


def _once(new: Sequence[Record]) -> list[Record]:
    """The records without repetitions."""
    found: dict[str, Record] = {}
    for record in new:
        if found.setdefault(record.id, record) != record:
            raise RegistryError(f"different records have the same id: {record.id}")
    return list(found.values())


def _shared_start(one: str, two: str) -> int:
    """The length of the common prefix of two ids."""
    pairs = zip(one, two, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(two)))


def _listed(table: Table) -> list[Column[Any]]:
    return [table.c[name] for name in Row.__struct_fields__]


def _insert(dialect: str) -> Any:
    """``insert`` with ON CONFLICT for the dialect in use; importing either takes 25 ms."""
    if dialect == "postgresql":
        from sqlalchemy.dialects import postgresql

        return postgresql.insert
    from sqlalchemy.dialects import sqlite

    return sqlite.insert


def _prepared(url: URL, *, create: bool) -> URL:
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


def _whole(where: Any) -> Select[Any]:
    return (
        select(records.c.id, records.c.body, machines.c.body.label("machine_body"))
        .join(machines, machines.c.digest == records.c.machine)
        .where(where)
    )


def _not_measured(result: ReportedResult) -> UsageError:
    return UsageError(
        f"{result.id} is reported by {result.tool}, not measured by latbench: without raw samples "
        "it cannot be compared, plotted, profiled or used as evidence",
        hint=f"`latbench show {result.id}` shows what the tool reports",
    )


def _none_or_many(id: str, found: list[str], where: str) -> UsageError:
    if found:
        return UsageError(
            f"several records begin with {id!r}: {', '.join(found[:3])}",
            hint="give more characters of the id",
        )
    return UsageError(
        f"no record {id!r} in {where}", hint="`latbench show` lists the latest of each group"
    )
