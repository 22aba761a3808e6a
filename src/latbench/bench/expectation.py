"""What a run will take, said after its first process, and what keeps its processes small."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from latbench.analysis.sizes import expected_half_width
from latbench.bench.job import JobRun
from latbench.bench.pace import FoundSizes
from latbench.events import Events
from latbench.schema.protocol import TimingProtocol

KEPT = 0.05
"""Share of the first load's peak memory by which two later loads in a row must raise it. A runtime
that returns what it took needs about as much for each load."""


def say_expected(found: FoundSizes, protocol: TimingProtocol, events: Events) -> None:
    """Report the expected duration, and warn of a target that the budget does not reach."""
    sizes, wall_ns, variances = found.sizes, found.expected_ns(), found.variances
    if sizes is None or wall_ns is None or variances is None:
        return
    target = f"±{(protocol.target_ppm or 0) / 1e4:g}%"
    budget_ns = protocol.budget_ns
    if sizes.processes > protocol.max_processes or (budget_ns is not None and wall_ns > budget_ns):
        each_ns = sizes.wall_ns / sizes.processes
        fitting = protocol.max_processes
        if budget_ns is not None:
            fitting = max(protocol.processes, min(fitting, int(budget_ns / each_ns)))
        deviation = variances.of_process(sizes.loads, sizes.blocks) ** 0.5
        reached = 100 * expected_half_width(fitting) * deviation
        more = f" --processes {sizes.processes}" if sizes.processes > protocol.max_processes else ""
        events.warn(
            f"{target} would take about {wall_ns / 1e9:.0f} s; expect about ±{reached:.2g}% in "
            f"the budget of {(budget_ns or wall_ns) / 1e9:g} s: a larger --target, or "
            f"--budget {ceil(1.2 * wall_ns / 1e9)}{more}"
        )
        return
    events.expected(
        f"{target} will take about {wall_ns / 1e9:.0f} s: {sizes.processes} processes, each "
        f"loading the model {sizes.loads} times"
    )


def memory_kept(parts: Sequence[JobRun], process: int) -> int | None:
    """Return the bytes that each further load of a part adds to its worker's peak memory, if two
    loads in a row have raised it by :data:`KEPT`; ``None`` otherwise."""
    for part in parts:
        peaks = [t.peak_rss_bytes for t in part.traces if t.process == process]
        known = [peak for peak in peaks if peak is not None]
        if len(known) < len(peaks) or len(known) < 3:
            continue
        more = min(known[-1] - known[-2], known[-2] - known[-3])
        if more > KEPT * known[0]:
            return more
    return None
