"""Conditions on records in a list, and the SQL that finds the records."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Table, or_

from latbench.schema.reported import ReportedResult
from latbench.schema.value import Value


class RecordFilter(Value, frozen=True, kw_only=True):
    """Conditions that a record must meet; an empty one is met by every record.

    Several values of one condition are alternatives, except those of ``options``.
    """

    models: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    """Requested ones."""
    precisions: tuple[str, ...] = ()
    """Of the file."""
    protocols: tuple[str, ...] = ()
    """``name``, of any version, or ``name@version``."""
    options: tuple[tuple[str, str], ...] = ()
    """Options of the backend and its exporter, or settings that were in effect."""
    weights: str | None = None
    """``seed:0``, ``file``, the start of a digest, or the file as it was requested."""
    since_unix_ns: int | None = None
    sweep: str | None = None
    """The start of its id."""

    def by_group(self) -> bool:
        """Whether the conditions hold for whole groups: all records of a model on one device and
        backend."""
        group = {"models", "devices", "backends"}
        return all(not getattr(self, name) for name in self.__struct_fields__ if name not in group)

    def where(self, table: Table) -> list[ColumnElement[bool]]:
        """The conditions on columns of ``table``: ``records``, or ``latest`` if ``by_group``."""
        found: list[ColumnElement[bool]] = []
        for name, values in (
            ("model", self.models),
            ("device", self.devices),
            ("requested_backend", self.backends),
            ("precision", self.precisions),
        ):
            if values:
                found.append(table.c[name].in_(values))
        if self.protocols:
            column = table.c.protocol
            found.append(
                or_(
                    *(
                        column == name
                        if "@" in name
                        else column.startswith(f"{name}@", autoescape=True)
                        for name in self.protocols
                    )
                )
            )
        if self.since_unix_ns is not None:
            found.append(table.c.created_unix_ns >= self.since_unix_ns)
        if self.sweep is not None:
            found.append(table.c.sweep.startswith(self.sweep, autoescape=True))
        return found

    def needs_body(self) -> bool:
        """Whether a condition is on a fact that has no column."""
        return bool(self.options) or self.weights is not None

    def matches_body(self, body: str) -> bool:
        """Whether a stored record meets the conditions on facts that have no column."""
        facts = msgspec.json.decode(body, type=_Facts)
        return self._has_options(facts) and self._has_weights(facts)

    def matches_reported(self, entry: ReportedResult) -> bool:
        """Whether a result of another tool meets the conditions.

        It has no protocol and no sweep, and nobody knows its weights.
        """
        if self.protocols or self.weights is not None or self.sweep is not None:
            return False
        found = (
            *((self.models, entry.model), (self.devices, entry.device)),
            *((self.backends, entry.backend), (self.precisions, entry.precision)),
        )
        return (
            all(not wanted or value in wanted for wanted, value in found)
            and all(entry.result.settings.get(key) == value for key, value in self.options)
            and (self.since_unix_ns is None or entry.created_unix_ns >= self.since_unix_ns)
        )

    def _has_options(self, facts: _Facts) -> bool:
        found: dict[str, Any] = {"form": "deploy"}
        found |= facts.artifact.details if facts.artifact else {}
        found |= facts.request.options
        found |= facts.runtime.settings if facts.runtime else {}
        return all(found.get(key) == value for key, value in self.options)

    def _has_weights(self, facts: _Facts) -> bool:
        if self.weights is None:
            return True
        stored = facts.model.weights
        digest = stored.removeprefix("sha256:")
        return (
            self.weights in (stored, facts.request.weights)
            or (stored != digest and digest.startswith(self.weights))
            or (self.weights.startswith("sha256:") and stored.startswith(self.weights))
        )


class _Model(msgspec.Struct):
    weights: str = ""


class _Request(msgspec.Struct):
    options: dict[str, str] = {}
    weights: str | None = None


class _Artifact(msgspec.Struct):
    details: dict[str, str] = {}


class _Runtime(msgspec.Struct):
    settings: dict[str, str] = {}


class _Facts(msgspec.Struct):
    """The part of a stored record, of any schema, that conditions look at."""

    model: _Model
    request: _Request
    artifact: _Artifact | None = None
    runtime: _Runtime | None = None
