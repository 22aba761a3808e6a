"""Records as JSON, samples as blobs: ``docs/FORMAT.md`` is this file in words."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from latbench.core.protocols import TimingProtocol, protocol_sha256
from latbench.core.records import SCHEMA, Record
from latbench.errors import LatbenchError

Migration = Callable[[dict[str, Any]], dict[str, Any]]


def _from_1(tree: dict[str, Any]) -> dict[str, Any]:
    """Schema 2 knows protocols of all kinds; schema 1 had one kind, with fixed counts."""
    old = tree["protocol"]
    calls = old["blocks"] * old["block_calls"]
    protocol = {
        "name": old["name"],
        "version": old["version"],
        "what": "the same number of calls whatever the samples say",
        "source": "latbench 0.1.0",
        "processes": old["processes"],
        "max_processes": old["processes"],
        "warmup": "fixed",
        "warmup_calls": old["warmup_calls"],
        "warmup_limit_ns": old["process_budget_ns"] // 4,
        "block_calls": old["block_calls"],
        "min_calls": calls,
        "max_ns": old["process_budget_ns"],
        "statistic": {"kind": "median"},
        "clock": old["clock"],
        "timed_region": old["timed_region"],
    }
    resolved = msgspec.convert(protocol, TimingProtocol)
    return {
        **tree,
        "schema": 2,
        "protocol": msgspec.to_builtins(resolved),
        "protocol_sha256": protocol_sha256(resolved),
        "sentinel": None,
        "interleaved": None,
    }


def _from_2(tree: dict[str, Any]) -> dict[str, Any]:
    """Schema 3 adds fields; here there was no such thing."""
    return {**tree, "schema": 3, "fallback": None, "sweep": None}


MIGRATIONS: Mapping[int, Migration] = {1: _from_1, 2: _from_2}
"""Schema -> how a record of it becomes one of the next schema. The first schema is 1."""

BLOB_VERSION = 1
LONGEST_NS = 2**62
"""Sums and medians of times below this fit into 64 bits: 146 years."""
HEADER_BYTES = 10
WIDTHS = {4: "I", 8: "Q"}


def encode_record(record: Record) -> bytes:
    """The whole record as one JSON object."""
    return msgspec.json.encode(record)


def decode_record(
    data: bytes, *, schema: int = SCHEMA, migrations: Mapping[int, Migration] = MIGRATIONS
) -> Record:
    """The record in ``data``, brought up to date a schema at a time.

    Raises :class:`LatbenchError` where it is of a newer schema, damaged, or has wrong fields.
    """
    try:
        tree = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise LatbenchError(
            f"this is not a record: {error}", hint="the file is damaged, or not a JSON record"
        ) from error
    return convert_record(tree, schema=schema, migrations=migrations)


def convert_record(
    tree: object, *, schema: int = SCHEMA, migrations: Mapping[int, Migration] = MIGRATIONS
) -> Record:
    """As :func:`decode_record`, from JSON that has been read already."""
    found = tree.get("schema") if isinstance(tree, dict) else None
    if not isinstance(tree, dict) or not isinstance(found, int) or found < 1:
        raise LatbenchError(
            "this is not a record: it has no schema number", hint="a record says `schema` first"
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
        missing = f"no field {error}" if isinstance(error, KeyError) else str(error)
        raise LatbenchError(
            f"the record has a wrong field: {missing}", hint="it is damaged or was edited by hand"
        ) from error
    _check_numbers(record)
    return record


def _check_numbers(record: Record) -> None:
    """Refuse what no clock gives and no registry can hold."""
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
                f"the record holds a number that cannot be: {value} in {name}",
                hint="the record was edited or damaged",
            )
    _check_times(record)


def _check_times(record: Record) -> None:
    """Refuse times that no clock gives."""
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
                        f"the record holds a time that cannot be: {worst} ns in "
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
                        f"outcome.{role}[{i}].blocks[{j}] lets {block.settle_calls} of "
                        f"{len(block.sample_ns)} samples settle",
                        hint="the record was edited or damaged",
                    )


def digest(value: object) -> str:
    """Hexadecimal SHA-256 of the canonical JSON of ``value`` (keys sorted, no spaces)."""
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()


def pack_ns(values: Sequence[int]) -> bytes:
    """Nanoseconds as a compressed blob.

    Header: version, bytes per value (4 where all values fit, else 8), count as unsigned 64-bit
    little-endian. Then the values, little-endian, the first bytes of all, then the second bytes and
    so on (which zlib packs 15 % tighter than one value after the other), through zlib.
    Raises :class:`ValueError` for a value below 0 or from 2**64.
    """
    width = 4 if max(values, default=0) < 2**32 else 8
    try:
        plain = struct.pack(f"<{len(values)}{WIDTHS[width]}", *values)
    except struct.error as error:
        raise ValueError(f"a time does not fit into 64 bits: {error}") from error
    shuffled = b"".join(plain[i::width] for i in range(width))
    return (
        bytes((BLOB_VERSION, width)) + len(values).to_bytes(8, "little") + zlib.compress(shuffled)
    )


def unpack_ns(blob: bytes) -> tuple[int, ...]:
    """What :func:`pack_ns` packed. Raises :class:`LatbenchError` for anything else."""
    if len(blob) < HEADER_BYTES or blob[0] != BLOB_VERSION or blob[1] not in WIDTHS:
        raise _damaged("its header is unknown")
    width, count = blob[1], int.from_bytes(blob[2:HEADER_BYTES], "little")
    size = count * width
    # The header bounds what is unpacked; zlib itself never packs tighter than about 1 : 1032.
    if size > (len(blob) + 64) * 1100:
        raise _damaged("its count is larger than its bytes can hold")
    unpacker = zlib.decompressobj()
    try:
        shuffled = unpacker.decompress(blob[HEADER_BYTES:], size + 1)
    except zlib.error as error:
        raise _damaged(str(error)) from error
    if len(shuffled) != size or not unpacker.eof or unpacker.unused_data:
        raise _damaged("its length is not what its header says")
    plain = bytearray(size)
    for i in range(width):
        plain[i::width] = shuffled[i * count : (i + 1) * count]
    return struct.unpack(f"<{count}{WIDTHS[width]}", plain)


def pack_json(value: object) -> bytes:
    """Any value as compressed JSON: the length as unsigned 64-bit little-endian, then zlib."""
    plain = msgspec.json.encode(value)
    return len(plain).to_bytes(8, "little") + zlib.compress(plain)


def unpack_json(blob: bytes) -> Any:
    """What :func:`pack_json` packed. Raises :class:`LatbenchError` for anything else."""
    size = int.from_bytes(blob[:8], "little")
    if len(blob) < 8 or size > (len(blob) + 64) * 1100:
        raise _damaged("its length is more than its bytes can hold")
    unpacker = zlib.decompressobj()
    try:
        plain = unpacker.decompress(blob[8:], size + 1)
        if len(plain) != size or not unpacker.eof:
            raise _damaged("its length is not what its header says")
        return msgspec.json.decode(plain)
    except (zlib.error, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _damaged(str(error)) from error


def _damaged(why: str) -> LatbenchError:
    return LatbenchError(
        f"a blob of samples is damaged: {why}", hint="restore the registry from a copy"
    )
