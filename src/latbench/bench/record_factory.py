"""Records from measurements."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from latbench.defaults import FALLBACK
from latbench.schema.artifact import Artifact
from latbench.schema.environment import Conditions, Environment, Link, Machine, Rest, Software
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

if TYPE_CHECKING:
    from latbench.bench.prepare import ResolvedRequest

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
"""Packages whose versions matter for a latency, as far as they are installed; artifacts and
runtimes report their own."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """All that one measurement found out about one request, read while it ran."""

    created_unix_ns: int
    machine: Machine
    software: Software
    before: Conditions
    after: Conditions | None
    protocol: TimingProtocol
    outcome: Outcome
    artifact: Artifact | None = None
    runtime: Runtime | None = None
    link: Link | None = None
    rest: Rest | None = None
    sentinel: Sentinel | None = None
    interleaved: Interleaved | None = None
    fallback: Fallback | None = None
    sweep: SweepPoint | None = None


def make_record(resolved: ResolvedRequest, measured: Measurement) -> Record:
    """Return the record of ``measured``; nothing is read from the machine here."""
    return Record(
        schema=SCHEMA,
        id=new_id(measured.created_unix_ns),
        created_unix_ns=measured.created_unix_ns,
        request=resolved.request,
        model=resolved.identity,
        backend=FALLBACK if measured.fallback else resolved.runner.name,
        device=resolved.device,
        artifact=measured.artifact,
        runtime=measured.runtime,
        environment=Environment(
            machine=measured.machine,
            software=measured.software,
            before=measured.before,
            after=measured.after,
            link=measured.link,
            rest=measured.rest,
        ),
        protocol=measured.protocol,
        protocol_sha256=protocol_sha256(measured.protocol),
        sentinel=measured.sentinel,
        interleaved=measured.interleaved,
        fallback=measured.fallback,
        sweep=measured.sweep,
        outcome=measured.outcome,
    )


def new_comparison_id() -> str:
    """Return an id that the records of one comparison share."""
    return new_id(time.time_ns())


def new_id(unix_ns: int) -> str:
    """Return a ULID: 26 characters that sort by time (48 bits of milliseconds, 80 random bits)."""
    number = (unix_ns // 1_000_000) << 80 | secrets.randbits(80)
    alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
    return "".join(alphabet[number >> shift & 31] for shift in range(125, -1, -5))
