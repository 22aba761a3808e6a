"""The clock of all measurements, and the loop that it times."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence

now_ns: Callable[[], int] = time.perf_counter_ns
"""Monotonic and system-wide; the finest clock in Python."""


def time_calls(
    run: Callable[[], object], calls: int, period_ns: int | None = None
) -> Sequence[int]:
    """Call ``run`` ``calls`` times; return the duration of each call in ns, in order.

    Calls follow each other directly, or start every ``period_ns``: the process sleeps between
    calls, and a late call is followed by the next one immediately. The loop reads the clock twice
    per call, and neither allocates growing objects nor collects garbage; ``benchmarks/loop.py``
    compares it with a bare loop.
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
            # Wait before the first call too: it follows the previous block.
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
