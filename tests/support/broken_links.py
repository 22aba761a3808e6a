"""What tests of links that break do, and look at afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable

from latbench.events import Events
from latbench.schema.record import Record
from support.hosts import Host

ORPHANS_END_S = 10


def at_round(number: int, action: Callable[[], object]) -> Events:
    """Do ``action`` once, after that many rounds of blocks."""
    left = [number]

    def progress(done: int, total: int) -> None:
        left[0] -= 1
        if left[0] == 0:
            action()

    return Events(progress=progress)


def no_orphans(host: Host, worker: str) -> None:
    """Wait for the end of every worker on the device, whose command contains ``worker``."""
    end = time.monotonic() + ORPHANS_END_S
    while host.processes(worker):
        assert time.monotonic() < end, host.processes(worker)
        time.sleep(0.05)


def disconnected(record: Record) -> None:
    """Check that a lost connection ended it, and that it holds what was measured until then."""
    failure = record.outcome.failure
    assert record.outcome.status == "failed"
    assert failure is not None
    assert (failure.kind, failure.stage) == ("disconnected", "time")
    assert f"the connection to {record.device.id} was lost" in failure.message
    assert record.outcome.traces[0].blocks
