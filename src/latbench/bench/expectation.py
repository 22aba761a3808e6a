"""What a run will take, said after its first process, and what keeps its processes small."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from latbench.analysis.sizes import expected_half_width
from latbench.bench.job import JobRun
from latbench.bench.pace import FoundSizes
from latbench.events import Events
from latbench.schema.protocol import TimingProtocol

LONG_NS = 600_000_000_000
KEPT_SHARE = 0.05
"""Share of the first load's peak memory by which two later loads in a row must raise it. A runtime
that returns what it took needs about as much for each load."""


class Expectation:
    """Says after the first process what the run will take, and warns of a target that the budget
    does not reach once some processes have shown how they vary."""

    def __init__(self, found: FoundSizes, protocol: TimingProtocol, events: Events) -> None:
        self._found = found
        self._protocol = protocol
        self._events = events
        self._warned = False

    def say(self, done: int) -> None:
        """Say what there is to say after ``done`` processes."""
        sizes, expected = self._found.sizes, self._found.expected()
        if sizes is None or expected is None or self._warned:
            return
        (processes, wall_ns), protocol = expected, self._protocol
        target = f"±{(protocol.target_ppm or 0) / 1e4:g}%"
        budget_ns = protocol.budget_ns
        short = budget_ns is not None and wall_ns > budget_ns
        if done == 1 and short:
            # One process is too little to say by how much.
            budget = f"the budget of {(budget_ns or 0) / 1e9:g} s"
            self._events.expected(f"{target} will probably take longer than {budget}")
        elif done == 1:
            self._events.expected(
                f"{target} will take about {_about(wall_ns)}: {processes} processes, each loading "
                f"the model {sizes.loads} times"
            )
        elif self._found.deviation is not None and (short or processes > protocol.max_processes):
            self._warned = True
            fitting = min(protocol.max_processes, processes)
            if budget_ns is not None:
                fitting = min(fitting, processes * budget_ns // wall_ns)
            width = expected_half_width(max(fitting, protocol.processes))
            reached = width * self._found.deviation
            more = f" --processes {processes}" if processes > protocol.max_processes else ""
            self._events.warn(
                f"{target} would take about {_about(wall_ns)}; expect about ±{100 * reached:.2g}% "
                f"here: use --target {100 * reached:.2g}, or --budget "
                f"{ceil(1.2 * wall_ns / 1e9)}{more}"
            )


def _about(ns: int) -> str:
    return f"{ns / 1e9:.0f} s" if ns < LONG_NS else f"{ns / 60e9:.0f} min"


def memory_kept(parts: Sequence[JobRun], process: int) -> int | None:
    """Return the bytes that each further load of a part adds to its worker's peak memory, if two
    loads in a row have raised it by :data:`KEPT_SHARE`, and by half of the model's file; ``None``
    otherwise."""
    for part in parts:
        peaks = [t.peak_rss_bytes for t in part.traces if t.process == process]
        known = [peak for peak in peaks if peak is not None]
        if len(known) < len(peaks) or len(known) < 3:
            continue
        more = min(known[-1] - known[-2], known[-2] - known[-3])
        if more > max(KEPT_SHARE * known[0], part.job.artifact.size_bytes // 2):
            return more
    return None
