"""Times by operator, in a process of their own: a profile slows down what it looks at."""

from __future__ import annotations

from latbench.bench.executor import WORKER
from latbench.bench.job import Job
from latbench.schema.trace import Profile
from latbench.worker import messages
from latbench.worker.client import WorkerClient

WARMUP_CALLS = 10
CALLS = 50


def time_operators(job: Job, deadline_s: float, *, pinned: bool = False) -> Profile | None:
    """How long each operator of ``job`` takes; ``None`` where its runtime cannot tell.

    Raises :class:`StageError`.
    """
    with WorkerClient.with_module(WORKER) as worker:
        request = job.request(process=0, pinned=pinned)
        worker.ask(request, messages.SessionOpened, stage="open", deadline_s=deadline_s)
        warm = messages.Time(calls=WARMUP_CALLS)
        worker.ask(warm, messages.BlockTimed, stage="warmup", deadline_s=deadline_s)
        asked = messages.TimeOperators(calls=CALLS)
        given = worker.ask(asked, messages.OperatorsTimed, stage="time", deadline_s=deadline_s)
        worker.ask(messages.Close(), messages.Closed, stage="outputs", deadline_s=deadline_s)
        return given.profile
