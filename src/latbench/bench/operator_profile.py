"""Times by operator, in a process of their own: profiling slows down what it measures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latbench.bench.executor import TIMEOUT_HINT
from latbench.bench.job import Job
from latbench.schema.trace import Profile
from latbench.worker import messages

if TYPE_CHECKING:
    from latbench.devices.measured import MeasuredDevice

WARMUP_CALLS = 10
CALLS = 50


def time_operators(
    job: Job, device: MeasuredDevice, *, timeout_s: float, pinned: bool = False
) -> Profile | None:
    """Return how long each operator of ``job`` takes, ``None`` if its runtime does not report it.

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
        return timed.profile
