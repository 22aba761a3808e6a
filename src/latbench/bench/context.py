"""The context of a measurement: everything but what is measured and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from latbench.defaults import TIMEOUT_S
from latbench.events import SILENT, Events
from latbench.schema.record import SweepPoint

if TYPE_CHECKING:
    from latbench.bench.rest import Cooldown
    from latbench.devices.measured import MeasuredDevice
    from latbench.store.registry import Registry


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """Where a measurement takes place, where its record goes, and what it may do.

    None of it changes what a record means.
    """

    device: MeasuredDevice
    registry: Registry
    """Open; every record is stored in it."""
    events: Events = SILENT
    timeout_s: float = TIMEOUT_S
    """Seconds to wait for each response of a worker."""
    strict: bool = False
    """Fail where the backend cannot run, instead of timing the fallback backend."""
    no_cache: bool = False
    """Export again even if the cache has the artifact."""
    profile: bool = False
    """Measure times by operator too, apart from the samples."""
    cooldown: Cooldown | None = None
    """What to wait for before the timing."""
    sweep: SweepPoint | None = None
    """The point of a sweep that is measured."""
