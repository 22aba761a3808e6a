"""Times by operator, in a process of their own: a profile slows down what it looks at."""

from __future__ import annotations

from latbench.measure import wire
from latbench.measure.conversation import Conversation
from latbench.measure.execute import WORKER
from latbench.measure.timed import Job
from latbench.schema.trace import Profile

WARMUP_CALLS = 10
CALLS = 50


def time_operators(job: Job, deadline_s: float, *, pinned: bool = False) -> Profile | None:
    """How long each operator of ``job`` takes; ``None`` where its runtime cannot tell.

    Raises :class:`StageError`.
    """
    with Conversation.with_module(WORKER) as worker:
        request = job.request(process=0, pinned=pinned)
        worker.ask(request, wire.Opened, stage="open", deadline_s=deadline_s)
        warm = wire.Time(calls=WARMUP_CALLS)
        worker.ask(warm, wire.Timed, stage="warmup", deadline_s=deadline_s)
        asked = wire.TimeOperators(calls=CALLS)
        given = worker.ask(asked, wire.OperatorsTimed, stage="time", deadline_s=deadline_s)
        worker.ask(wire.Close(), wire.Closed, stage="outputs", deadline_s=deadline_s)
        return given.profile
