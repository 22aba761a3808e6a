"""The record: what was asked for, what was timed, where, how, and what the clock said.

These structs are the stored format (``docs/FORMAT.md``). A record holds facts only; everything that
is computed from it (median, interval, trust) lives in :mod:`latbench.analysis.summary`.

Units are in the names: ``_ns`` nanoseconds, ``_bytes``, ``_mc`` millidegrees Celsius, ``_khz``,
``_milli`` thousandths. ``None`` means that a fact is not known; it never means zero.
"""

from __future__ import annotations

from typing import Literal

from latbench.errors import Failure
from latbench.schema.artifact import Artifact, ModelIdentity
from latbench.schema.environment import Device, Environment
from latbench.schema.protocol import TimingProtocol
from latbench.schema.request import Request
from latbench.schema.trace import OutputCheck, Placement, Profile, Trace
from latbench.schema.value import Value

SCHEMA = 3


class Outcome(Value, frozen=True, kw_only=True):
    """The traces, complete or up to where it ended, and why it ended early where it did."""

    status: Literal["measured", "failed", "interrupted"]
    stopped: Literal["complete", "precise", "budget", "processes"] | None = None
    """Why a measured run ended: all calls made, precise enough, budget spent, or as many processes
    as the protocol allows without being precise enough."""
    traces: tuple[Trace, ...] = ()
    sentinel: tuple[Trace, ...] = ()
    """Of the sentinel that alternated with the model, block by block."""
    checks: tuple[OutputCheck, ...] = ()
    profile: Profile | None = None
    """``None`` where none was asked for."""
    failure: Failure | None = None


class Runtime(Value, frozen=True, kw_only=True):
    """The program that executed the artifact, its settings as they really were, and placement."""

    name: str
    version: str | None
    settings: dict[str, str]
    placement: Placement | None


class Sentinel(Value, frozen=True, kw_only=True):
    """The fixed workload that alternated with the model, or why there was none."""

    name: str | None
    """With its version; latencies over sentinels of different names are not comparable."""
    sha256: str | None
    absent: str | None = None


class Fallback(Value, frozen=True, kw_only=True):
    """The backend that was asked for could not run here, and another one was used."""

    reason: str
    hint: str | None
    artifact: Artifact | None = None
    """What was exported and checked for the backend that was asked for, never executed by it."""
    failure: Failure | None = None
    """Why that artifact could not be had."""


class SweepPoint(Value, frozen=True, kw_only=True):
    """The record's place in a sweep."""

    sweep: str
    """Shared by the records of one sweep."""
    points_sha256: str
    """Of all its points and its protocol: equal where the same was asked for."""
    point: int
    """Which of the points, in the order in which they were given."""
    points: int
    order_seed: int
    """Seed of the random order in which they were measured."""


class Interleaved(Value, frozen=True, kw_only=True):
    """The record's part in a comparison whose parts were timed in turn, block by block.

    Block ``i`` of session ``j`` of process ``k`` was timed beside the same of the other parts.
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
    """Of the canonical JSON of ``protocol``: equal where numbers were taken alike."""
    sentinel: Sentinel | None
    """``None`` where the protocol asks for none."""
    interleaved: Interleaved | None
    """``None`` where nothing was compared."""
    fallback: Fallback | None
    """``None`` where the backend that was asked for is the one that was used."""
    sweep: SweepPoint | None
    """``None`` for a run of its own."""
    outcome: Outcome
