"""The record: the request, the measured artifact, device and protocol, and the raw times.

These structs are the stored format (``docs/FORMAT.md``). A record holds facts only; everything that
is computed from it (median, interval, reliability) is in :mod:`latbench.analysis.summary`.

Units are in the names: ``_ns`` nanoseconds, ``_bytes``, ``_mc`` millidegrees Celsius, ``_khz``,
``_milli`` thousandths. ``None`` means that a fact is not known; it never means zero.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from latbench.errors import Failure
from latbench.schema.artifact import Artifact, ModelIdentity
from latbench.schema.environment import Device, Environment
from latbench.schema.protocol import TimingProtocol
from latbench.schema.request import Request
from latbench.schema.trace import OperatorPlan, OutputCheck, Placement, Profile, Trace
from latbench.schema.value import Value

SCHEMA = 3


class Outcome(Value, frozen=True, kw_only=True):
    """The traces, complete or up to the end of the run, and why it ended early if it did."""

    status: Literal["measured", "failed", "interrupted"]
    stopped: Literal["complete", "precise", "budget", "processes"] | None = None
    """Why a measured run ended: all calls done, target precision reached, budget spent, or largest
    number of processes reached before the target precision."""
    traces: tuple[Trace, ...] = ()
    sentinel: tuple[Trace, ...] = ()
    """Traces of the sentinel, whose blocks alternated with the model's."""
    checks: tuple[OutputCheck, ...] = ()
    profile: Profile | None = None
    """``None`` if no profile was requested."""
    plan: OperatorPlan | None = None
    """In place of a profile, from a runtime that only plans."""
    failure: Failure | None = None
    loads_limited: str | msgspec.UnsetType = msgspec.UNSET
    """Why processes loaded the model fewer times than the protocol allows, if the runtime was the
    reason."""


class Runtime(Value, frozen=True, kw_only=True):
    """The program that executed the artifact, its effective settings, and placement."""

    name: str
    version: str | None
    settings: dict[str, str]
    placement: Placement | None


class Sentinel(Value, frozen=True, kw_only=True):
    """The fixed workload that alternated with the model, or why it is missing."""

    name: str | None
    """Name with version. Latencies normalized by different sentinels are not comparable."""
    sha256: str | None
    absent: str | None = None


class Fallback(Value, frozen=True, kw_only=True):
    """The requested backend could not run here, and another one was used."""

    reason: str
    hint: str | None
    artifact: Artifact | None = None
    """Artifact that was exported and checked for the requested backend but not executed by it."""
    failure: Failure | None = None
    """Why that artifact could not be exported."""


class SweepPoint(Value, frozen=True, kw_only=True):
    """The record's place in a sweep."""

    sweep: str
    """Shared by the records of one sweep."""
    points_sha256: str
    """Digest of all points and the protocol; equal for equal sweeps."""
    point: int
    """Index of the point, in the given order."""
    points: int
    order_seed: int
    """Seed of the random order in which they were measured."""


class Interleaved(Value, frozen=True, kw_only=True):
    """The record's part in an interleaved comparison.

    Block ``i`` of session ``j`` of process ``k`` was timed next to the same block of the other
    parts.
    """

    comparison: str
    """Shared by the records of one comparison."""
    part: int
    parts: int
    order_seed: int
    """Seed of the random order of the parts in each round."""


class Record(Value, frozen=True, kw_only=True):
    """The unit of storage."""

    schema: int
    id: str
    created_unix_ns: int
    request: Request
    model: ModelIdentity
    backend: str
    """The backend that was used; ``request.backend`` differs from it after a fallback."""
    device: Device
    artifact: Artifact | None
    runtime: Runtime | None
    environment: Environment
    protocol: TimingProtocol
    protocol_sha256: str
    """Digest of the canonical JSON of ``protocol``; equal for equal protocols."""
    sentinel: Sentinel | None
    """``None`` if the protocol has no sentinel."""
    interleaved: Interleaved | None
    """``None`` if the record is not part of a comparison."""
    fallback: Fallback | None
    """``None`` if the requested backend was used."""
    sweep: SweepPoint | None
    """``None`` if the record is not part of a sweep."""
    outcome: Outcome
