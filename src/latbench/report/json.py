"""Values as JSON for other programs."""

from __future__ import annotations

import msgspec

from latbench.analysis.summary import Summary
from latbench.schema.record import Record


def record_json(record: Record, summary: Summary | None) -> str:
    """``{"record": …, "summary": …}``: the stored facts, and what is computed from them today."""
    return to_json({"record": record, "summary": summary})


def to_json(value: object) -> str:
    """Any value made of structs, mappings and sequences, indented."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
