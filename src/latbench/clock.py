"""The one clock, and the one loop that is timed by it."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence

now_ns: Callable[[], int] = time.perf_counter_ns
"""Monotonic, system-wide, and the finest clock that Python offers."""


def time_calls(
    run: Callable[[], object], calls: int, period_ns: int | None = None
) -> Sequence[int]:
    """Call ``run`` back to back, or every ``period_ns``; integer nanoseconds of each, in order.

    Two clock readings per call, nothing allocated that grows, and no garbage collection in between:
    ``benchmarks/loop.py`` compares it with a bare loop. At a fixed rate the process sleeps between
    calls, and a call that is late is followed by the next one at once.
    """
    clock = now_ns
    elapsed = [0] * calls
    collecting = gc.isenabled()
    gc.disable()
    try:
        if period_ns is None:
            for i in range(calls):
                start = clock()
                run()
                elapsed[i] = clock() - start
        else:
            # The first call has its gap too: what went before was another block.
            due = clock() + period_ns
            for i in range(calls):
                idle = due - clock()
                if idle > 0:
                    time.sleep(idle / 1e9)
                start = clock()
                run()
                elapsed[i] = clock() - start
                due = max(due + period_ns, clock())
    finally:
        if collecting:
            gc.enable()
    return elapsed
