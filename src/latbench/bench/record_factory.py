"""Records from what was measured."""

from __future__ import annotations

import secrets
import time

from latbench.bench.prepare import PreparedJob, ResolvedRequest
from latbench.defaults import FALLBACK
from latbench.host.info import read_conditions
from latbench.schema.environment import (
    Conditions,
    Environment,
    Machine,
    Software,
)
from latbench.schema.protocol import TimingProtocol, protocol_sha256
from latbench.schema.record import (
    SCHEMA,
    Fallback,
    Interleaved,
    Outcome,
    Record,
    Runtime,
    Sentinel,
    SweepPoint,
)

PACKAGES = (
    "latbench",
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "coremltools",
    "openvino",
    "torch",
    "timm",
    "torchvision",
)
"""Packages whose versions matter for a number, as far as they are installed; an artifact and a
runtime name their own."""


def make_record(
    what: ResolvedRequest,
    *,
    created_unix_ns: int,
    machine: Machine,
    software: Software,
    before: Conditions,
    after: Conditions | None = None,
    protocol: TimingProtocol,
    prepared: PreparedJob | None,
    runtime: Runtime | None,
    outcome: Outcome,
    sentinel: Sentinel | None = None,
    interleaved: Interleaved | None = None,
    instead: Fallback | None = None,
    sweep: SweepPoint | None = None,
) -> Record:
    """The record; the conditions ``after`` the timing are read now where they were not then."""
    return Record(
        schema=SCHEMA,
        id=new_id(created_unix_ns),
        created_unix_ns=created_unix_ns,
        request=what.request,
        model=what.identity,
        backend=FALLBACK if instead else what.runner.name,
        device=what.device,
        artifact=prepared.cached.artifact if prepared else None,
        runtime=runtime,
        environment=Environment(
            machine=machine,
            software=software,
            before=before,
            after=after or read_conditions(),
        ),
        protocol=protocol,
        protocol_sha256=protocol_sha256(protocol),
        sentinel=sentinel,
        interleaved=interleaved,
        fallback=instead,
        sweep=sweep,
        outcome=outcome,
    )


def new_comparison_id() -> str:
    """Shared by the records of one comparison."""
    return new_id(time.time_ns())


def new_id(unix_ns: int) -> str:
    """Of a record or of what records share: 26 characters that sort by time, a ULID (48 bits of
    milliseconds, 80 random bits)."""
    number = (unix_ns // 1_000_000) << 80 | secrets.randbits(80)
    alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
    return "".join(alphabet[number >> shift & 31] for shift in range(125, -1, -5))
