"""The one clock, and the one loop that is timed by it."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence

now_ns: Callable[[], int] = time.perf_counter_ns
"""Monotonic, system-wide, and the finest clock that Python offers."""


def time_calls(run: Callable[[], object], calls: int) -> Sequence[int]:
    """Call ``run`` back to back; integer nanoseconds of each call, in order.

    Two clock readings per call, nothing allocated that grows, and no garbage collection in between:
    ``benchmarks/loop.py`` compares it with a bare loop.
    """
    clock = now_ns
    elapsed = [0] * calls
    collecting = gc.isenabled()
    gc.disable()
    try:
        for i in range(calls):
            start = clock()
            run()
            elapsed[i] = clock() - start
    finally:
        if collecting:
            gc.enable()
    return elapsed
