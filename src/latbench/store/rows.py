"""Convert a record to rows of the tables and back."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec
from sqlalchemy import RowMapping

from latbench.analysis.estimators import typical_ns
from latbench.analysis.settings import input_texts, own_options
from latbench.errors import RegistryError
from latbench.schema.blobs import (
    pack_json,
    pack_ns,
    unpack_json,
    unpack_ns,
)
from latbench.schema.codec import convert_record, digest
from latbench.schema.record import Record


def machine_row(record: Record) -> dict[str, Any]:
    """The row of ``machines``."""
    machine = record.environment.machine
    return {"digest": digest(machine), "body": msgspec.json.encode(machine).decode()}


def record_row(record: Record) -> dict[str, Any]:
    """The row of ``records``, including the columns of ``latest``."""
    tree = msgspec.to_builtins(record)
    threads = record.runtime.settings.get("threads", "") if record.runtime else ""
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
        "input": " + ".join(input_texts(record.artifact)) or None,
        "threads": int(threads) if re.fullmatch("[0-9]{1,9}", threads) else None,
        "protocol": f"{record.protocol.name}@{record.protocol.version}",
        "options": ",".join(f"{key}={value}" for key, value in own_options(record).items()) or None,
        "median_ns": typical_ns(record),
        "sample_count": sum(
            len(block.sample_ns) for trace in record.outcome.traces for block in trace.blocks
        ),
        "machine": digest(record.environment.machine),
        "body": msgspec.json.encode(tree).decode(),
        "sweep": record.sweep.sweep if record.sweep else None,
        "sweep_points": record.sweep.points_sha256 if record.sweep else None,
    }


def trace_rows(record: Record) -> Iterable[dict[str, Any]]:
    """The rows of ``traces``."""
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


def from_rows(row: RowMapping, trace_trees: list[tuple[str, dict[str, Any]]]) -> Record:
    """The record, from its row with that of its machine, and (role, trace) in order."""
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
    record = convert_record(tree)
    if record.id != row["id"]:
        raise RegistryError(
            f"record {row['id']} is damaged: it says that its id is {record.id}",
            hint="restore the registry from a copy",
        )
    return record


def trace_tree(row: RowMapping) -> dict[str, Any]:
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
