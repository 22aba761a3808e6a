"""How a number is taken."""

from __future__ import annotations

from latbench.core.records import TimingProtocol

FIXED = TimingProtocol(
    name="latbench-fixed",
    version=1,
    # Six is the fewest processes whose range covers the median with 95 %: see core.summary.
    processes=6,
    warmup_calls=20,
    blocks=10,
    block_calls=20,
    process_budget_ns=20_000_000_000,
    load_pattern="back to back",
    reload="each process",
    statistic="median of process medians",
    clock="perf_counter_ns",
    timed_region="one synchronous inference; inputs resident; ends when the outputs can be read",
)


def calls_that_fit(calls: int, call_ns: int, left_ns: int) -> int:
    """How many of ``calls`` calls of ``call_ns`` each fit into ``left_ns``, at least one.

    A model of seconds must not take an hour because the protocol was written for milliseconds.
    """
    return max(1, min(calls, left_ns // max(call_ns, 1)))
