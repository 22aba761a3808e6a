"""Encode and decode records as JSON. ``docs/FORMAT.md`` documents the format."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec

from latbench.errors import LatbenchError
from latbench.schema.migrations import MIGRATIONS, Migration
from latbench.schema.record import SCHEMA, Record

LONGEST_NS = 2**62
"""Sums and medians of times below this fit into 64 bits: 146 years."""


def encode_record(record: Record) -> bytes:
    """Encode the whole record as one JSON object."""
    return msgspec.json.encode(record)


def decode_record(
    data: bytes, *, schema: int = SCHEMA, migrations: Mapping[int, Migration] = MIGRATIONS
) -> Record:
    """Decode the record in ``data`` and migrate it to the current schema, one step at a time.

    Raise :class:`LatbenchError` if it has a newer schema, is damaged, or has wrong fields.
    """
    return convert_record(_tree(data), schema=schema, migrations=migrations)


def decode_output(data: bytes) -> Record:
    """Decode a record, or an object with one in ``record``: the output of a command with `--json`.

    Raise :class:`LatbenchError` as :func:`decode_record` does.
    """
    tree = _tree(data)
    if isinstance(tree, dict) and "schema" not in tree and "record" in tree:
        tree = tree["record"]
    return convert_record(tree)


def _tree(data: bytes) -> object:
    try:
        tree: object = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise LatbenchError(
            f"not a record: {error}", hint="the file is damaged, or is not a JSON record"
        ) from error
    return tree


def convert_record(
    tree: object, *, schema: int = SCHEMA, migrations: Mapping[int, Migration] = MIGRATIONS
) -> Record:
    """Convert decoded JSON to a record, as :func:`decode_record` does."""
    found = tree.get("schema") if isinstance(tree, dict) else None
    if not isinstance(tree, dict) or not isinstance(found, int) or found < 1:
        raise LatbenchError(
            "not a record: it has no schema number", hint="a record starts with the field `schema`"
        )
    if found > schema:
        raise LatbenchError(
            f"the record was written by a newer latbench (schema {found}; this one reads up to "
            f"{schema})",
            hint="upgrade latbench",
        )
    try:
        for step in range(found, schema):
            tree = migrations[step](tree)
        record = msgspec.convert(tree, Record)
    except (msgspec.ValidationError, KeyError, TypeError, AttributeError) as error:
        missing = f"missing field {error}" if isinstance(error, KeyError) else str(error)
        raise LatbenchError(
            f"the record has a wrong field: {missing}", hint="it is damaged or was edited by hand"
        ) from error
    _check_numbers(record)
    return record


def _check_numbers(record: Record) -> None:
    """Reject numbers that are impossible or that the registry cannot store."""
    traces = (*record.outcome.traces, *record.outcome.sentinel)
    share = record.protocol.statistic.quantile_milli
    numbers = (
        ("created_unix_ns", record.created_unix_ns, 2**63 - 1),
        ("protocol.statistic.quantile_milli", share or 0, 1000),
        *(("outcome trace's process", trace.process, 2**31 - 1) for trace in traces),
        *(("outcome trace's session", trace.session, 2**31 - 1) for trace in traces),
    )
    for name, value, most in numbers:
        if not 0 <= value <= most:
            raise LatbenchError(
                f"the record contains an impossible number: {value} in {name}",
                hint="the record was edited or damaged",
            )
    _check_sessions(record)
    _check_times(record)


def _check_sessions(record: Record) -> None:
    """Reject two traces of one session."""
    for role in ("traces", "sentinel"):
        sessions = [(trace.process, trace.session) for trace in getattr(record.outcome, role)]
        if len(set(sessions)) < len(sessions):
            raise LatbenchError(
                f"the record contains two traces of one session in outcome.{role}",
                hint="the record was edited or damaged",
            )


def _check_times(record: Record) -> None:
    """Reject impossible times and inconsistent numbers of samples."""
    for role in ("traces", "sentinel"):
        for i, trace in enumerate(getattr(record.outcome, role)):
            parts = (
                ("load_ns", (trace.load_ns,)),
                ("first_ns", (trace.first_ns or 0,)),
                ("opened_ns", (trace.opened_ns or 0,)),
                ("peak_rss_bytes", (trace.peak_rss_bytes or 0,)),
                ("blocks[*].start_ns", tuple(block.start_ns for block in trace.blocks)),
                ("warmup_ns", trace.warmup_ns),
                *((f"blocks[{j}]", block.sample_ns) for j, block in enumerate(trace.blocks)),
                *(
                    (f"blocks[{j}].beside_ns.{name}", values)
                    for j, block in enumerate(trace.blocks)
                    for name, values in block.beside_ns.items()
                ),
            )
            for name, values in parts:
                if values and not 0 <= min(values) <= max(values) < LONGEST_NS:
                    worst = min(values) if min(values) < 0 else max(values)
                    raise LatbenchError(
                        f"the record contains an impossible time: {worst} ns in "
                        f"outcome.{role}[{i}].{name}",
                        hint="the clock went backwards, or the record was edited or damaged",
                    )
            for j, block in enumerate(trace.blocks):
                for name, values in block.beside_ns.items():
                    if len(values) != len(block.sample_ns):
                        raise LatbenchError(
                            f"outcome.{role}[{i}].blocks[{j}].beside_ns.{name} has {len(values)} "
                            f"times for {len(block.sample_ns)} samples",
                            hint="the record was edited or damaged",
                        )
                if not 0 <= block.settle_calls <= len(block.sample_ns):
                    raise LatbenchError(
                        f"outcome.{role}[{i}].blocks[{j}] discards {block.settle_calls} of "
                        f"{len(block.sample_ns)} samples",
                        hint="the record was edited or damaged",
                    )


def digest(value: object) -> str:
    """Return the hexadecimal SHA-256 of the canonical JSON of ``value`` (keys sorted, no
    spaces)."""
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()
