"""The registry: store records and verdicts, and find them again."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from types import TracebackType
from typing import Any

from sqlalchemy import Engine, Select, func, select

from latbench.claims.verdict import StoredVerdict
from latbench.errors import RegistryError, UsageError
from latbench.schema.record import Record
from latbench.schema.reported import ReportedResult
from latbench.store import migrate
from latbench.store.engine import (
    LOCK_TIMEOUT_S,
    make_engine,
    prepare_file,
    registry_url,
    shown,
    translated,
)
from latbench.store.id_prefixes import (
    MOST_CANDIDATES,
    SHORT_ID,
    none_or_many,
    not_measured,
    shared_start,
)
from latbench.store.insertion import insert_records, insert_verdicts
from latbench.store.listing import GROUP, NEWEST_FIRST, TRAINED, Row, read_rows, row_columns
from latbench.store.record_filter import RecordFilter
from latbench.store.reported_rows import (
    delete_reported,
    insert_reported,
    reported_ids,
    select_reported,
)
from latbench.store.rows import from_rows, trace_tree
from latbench.store.tables import latest, machines, records, traces
from latbench.store.verdict_rows import newest_on_claims, read_verdicts, verdicts_on_claim

EVERY = RecordFilter()


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
            parsed = prepare_file(parsed, create=create)
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
        with (
            translated(self._engine.url),
            self._engine.connect().execution_options(latbench_writes=True) as connection,
            connection.begin(),
        ):
            if new:
                insert_records(connection, new)
            insert_reported(connection, reported)

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
            raise none_or_many(id, found, self.url)
        return found[0]

    def entry(self, id: str) -> Record | ReportedResult:
        """The record or reported result with that id, or the only one whose id begins with it.

        Raises :class:`UsageError` if there is none or more than one.
        """
        reported = {each.id: each for each in self.reported(start=id)}
        found = [*self.ids(id, limit=4), *reported]
        found = [id] if id in found else found
        if len(found) != 1:
            raise none_or_many(id, found, self.url)
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
                    raise not_measured(other)
            if len(found) != 1:
                raise none_or_many(id, [row["id"] for row in found], self.url)
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
                shared = max(shared_start(id, other) for other in neighbors)
                found[id] = id[: max(least, shared + 1)]
        return found

    def history(self, model: str, device: str, backend: str, *, limit: int = 50) -> tuple[Row, ...]:
        """The newest records of one model on one device and backend, the newest first."""
        return self._rows(
            select(*row_columns(records))
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
            query = select(*row_columns(records)).where(*wanted.where(records))
            return self._rows(query.order_by(*NEWEST_FIRST).limit(limit))
        found: list[Row] = []
        query = select(*row_columns(records), records.c.body).where(*wanted.where(records))
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
            query = select(*row_columns(latest)).where(*wanted.where(latest))
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
        """All records of the sweep whose id begins with ``sweep``, in the order of its points.

        A point that was interrupted and repeated has several. Raises :class:`UsageError` if the ids
        of several sweeps begin so.
        """
        named = (sweep,) if sweep in (several := self.sweeps(sweep)) else several
        if len(named) > 1:
            raise UsageError(
                f"several sweeps begin with {sweep!r}: {', '.join(named[:MOST_CANDIDATES])}",
                hint="give more characters of the id",
            )
        with translated(self._engine.url), self._engine.connect() as connection:
            ids = connection.execute(
                select(records.c.id).where(records.c.sweep.in_(named)).order_by(records.c.id)
            ).scalars()
            found = [self.get(id) for id in ids]
        return tuple(sorted(found, key=lambda record: record.sweep.point if record.sweep else 0))

    def sweeps(self, start: str = "", *, limit: int = 20) -> tuple[str, ...]:
        """The newest sweeps whose id begins with ``start``, at most ``limit``, the newest first."""
        query = select(records.c.sweep).where(records.c.sweep.startswith(start, autoescape=True))
        with translated(self._engine.url), self._engine.connect() as connection:
            newest = query.distinct().order_by(records.c.sweep.desc()).limit(limit)
            return tuple(connection.execute(newest).scalars())

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
        with (
            translated(self._engine.url),
            self._engine.connect().execution_options(latbench_writes=True) as connection,
            connection.begin(),
        ):
            insert_verdicts(connection, new)

    def verdicts_on(self, claim: str) -> tuple[list[StoredVerdict], list[str]]:
        """All verdicts on the claim, the newest first, and why others cannot be read."""
        return self._verdicts(verdicts_on_claim(claim))

    def newest_verdicts(self, claims: Collection[str]) -> tuple[list[StoredVerdict], list[str]]:
        """The newest verdict on each of the claims, and why others cannot be read."""
        return self._verdicts(newest_on_claims(claims))

    def count(self) -> int:
        """The number of records."""
        with translated(self._engine.url), self._engine.connect() as connection:
            return connection.execute(select(func.count()).select_from(records)).scalar_one()

    def _rows(self, query: Select[Any]) -> tuple[Row, ...]:
        with translated(self._engine.url), self._engine.connect() as connection:
            return read_rows(connection, query)

    def _verdicts(self, query: Select[Any]) -> tuple[list[StoredVerdict], list[str]]:
        with translated(self._engine.url), self._engine.connect() as connection:
            return read_verdicts(connection, query)


def _whole(where: Any) -> Select[Any]:
    return (
        select(records.c.id, records.c.body, machines.c.body.label("machine_body"))
        .join(machines, machines.c.digest == records.c.machine)
        .where(where)
    )
