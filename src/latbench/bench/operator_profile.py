"""Times by operator, in a process of their own: profiling slows down what it measures.

A runtime that cannot time its operators may have a plan of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from latbench.bench.executor import TIMEOUT_HINT
from latbench.bench.job import Job
from latbench.events import Warn
from latbench.schema.record import Outcome
from latbench.worker import messages

if TYPE_CHECKING:
    from latbench.devices.measured import MeasuredDevice

WARMUP_CALLS = 10
CALLS = 50


def time_operators(
    job: Job, device: MeasuredDevice, *, timeout_s: float, pinned: bool = False
) -> messages.OperatorsTimed:
    """Return how long each operator of ``job`` takes, or what its runtime plans.

    Raises :class:`StageError`.
    """
    with device.start_worker(TIMEOUT_HINT) as worker:
        request = job.request(process=0, pinned=pinned)
        worker.ask(request, messages.SessionOpened, stage="open", timeout_s=timeout_s)
        warm = messages.Time(calls=WARMUP_CALLS)
        worker.ask(warm, messages.BlockTimed, stage="warmup", timeout_s=timeout_s)
        operators = messages.TimeOperators(calls=CALLS)
        timed = worker.ask(operators, messages.OperatorsTimed, stage="time", timeout_s=timeout_s)
        worker.ask(messages.Close(), messages.Closed, stage="outputs", timeout_s=timeout_s)
        return timed


def with_operators(
    outcome: Outcome, found: messages.OperatorsTimed, runner: str, warn: Warn
) -> Outcome:
    """``outcome`` with the times by operator, or with the plan of a runtime that has no more."""
    if found.profile is None and found.plan is None:
        warn(f"no times by operator: {runner} does not report them here")
    return msgspec.structs.replace(outcome, profile=found.profile, plan=found.plan)
