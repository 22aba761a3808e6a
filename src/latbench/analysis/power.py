"""Estimate variance components, and the effort for a target precision or a smallest effect.

The levels at which repeated measurements vary are nested: an inference in a block, a block in a
process, a process in a build. Kalibera & Jones 2013 (*Rigorous benchmarking in reasonable time*,
ISMM) give the estimates and the optimal number of repetitions at each level.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, log, sqrt
from statistics import NormalDist, median, variance

from latbench.analysis.comparison import POWER, seconds_per_process
from latbench.analysis.estimators import SEQUENTIAL_CONFIDENCE
from latbench.analysis.segments import warm_blocks, warm_traces
from latbench.analysis.sizes import MEDIAN_COST
from latbench.analysis.stats import FEWEST
from latbench.defaults import MARGIN
from latbench.file_names import restored_name, shell_command, shell_word
from latbench.schema.protocol import TimingProtocol
from latbench.schema.protocol_catalog import COMPARE, WARM
from latbench.schema.record import Record
from latbench.schema.request_syntax import option_words
from latbench.schema.value import Value

MOST_PROCESSES = 1000
"""Most processes of one run."""


class Component(Value, frozen=True, kw_only=True):
    """Variation at one level, without that of the levels below."""

    level: str
    deviation: float | None
    """Standard deviation relative to the latency; ``None``: the pilot did not vary it."""
    note: str | None = None


class Estimate(Value, frozen=True, kw_only=True):
    """The effort for one goal."""

    goal: str
    processes: int
    """Number of processes; for a comparison, of pairs."""
    seconds: float
    how: str | None = None
    """The command that reaches the goal."""


class Plan(Value, frozen=True, kw_only=True):
    """A plan computed from a pilot. It is valid if later runs vary like the pilot."""

    processes: int
    blocks_per_process: int
    calls_per_block: int
    median_ns: int
    components: tuple[Component, ...]
    seconds_per_process: float
    best_blocks: int
    """Blocks per process that reach a given precision in the least time."""
    estimates: tuple[Estimate, ...]


def plan(
    pilots: Sequence[Record], *, precision: float, effect: float, same_build: bool
) -> Plan | None:
    """Compute a plan from pilot records, one per build; ``None`` if they have too few processes.

    ``precision`` is the target half-width of the interval and ``effect`` the smallest change that
    an interleaved comparison should detect, both relative. ``same_build``: whether exporting again
    gave an identical file.
    """
    builds = [_processes(record) for record in pilots]
    if not builds or min(len(processes) for processes in builds) < 3:
        return None
    blocks = [block for processes in builds for process in processes for block in process]
    calls = round(median(len(block) for block in blocks))
    per_process = round(median(len(process) for processes in builds for process in processes))
    iteration = _pooled([_within(block) for block in blocks if len(block) > 1])
    # Samples in a block are correlated, so the variance of a block's median is measured and not
    # derived from them; `block` contains both levels.
    block = _pooled(
        [variance([_log(b) for b in p]) for processes in builds for p in processes if len(p) > 1]
    )
    process = _pooled([variance([_center(p) for p in processes]) for processes in builds])
    between = max(0.0, process - MEDIAN_COST * block / max(per_process, 1))
    build = _build(builds, process, same_build)
    each_s = median(seconds_per_process(record.outcome.traces) or 0.0 for record in pilots)
    block_s = calls * median(ns for b in blocks for ns in b) / 1e9
    overhead_s = max(each_s - per_process * block_s, 0.01)
    best = 4 * per_process
    if between > 0:
        best = round(sqrt(MEDIAN_COST * block / between * overhead_s / block_s))
    best = min(max(best, 3), 1000)
    at_best = between + MEDIAN_COST * block / best
    best_s = overhead_s + best * block_s
    run_s, pair_s = _process_s(WARM, overhead_s), 2 * _process_s(COMPARE, overhead_s)
    of_run = between + MEDIAN_COST * block / max(WARM.min_ns / 1e9 / block_s, 1)
    of_side = between + MEDIAN_COST * block / max(COMPARE.min_ns / 1e9 / block_s, 1)
    typical = median(median(ns) for ns in blocks)
    request = pilots[0].request
    model = shell_word(restored_name(request.model), argument=True)
    options = shell_command(option_words(request, brief=True))
    asked = f"{model} {options}".rstrip()
    return Plan(
        processes=sum(len(processes) for processes in builds),
        blocks_per_process=per_process,
        calls_per_block=calls,
        median_ns=round(typical),
        components=(
            build,
            Component(level="process", deviation=sqrt(between)),
            Component(
                level="block", deviation=sqrt(max(0.0, block - _calls_variance(iteration, calls)))
            ),
            Component(level="iteration", deviation=sqrt(iteration)),
        ),
        seconds_per_process=each_s,
        best_blocks=best,
        estimates=(
            _estimate(
                f"±{100 * precision:g}%",
                of_run,
                precision,
                run_s,
                how=f"latbench run {asked} --target {100 * precision:g}",
            ),
            _estimate(
                f"±{100 * precision:g}% with {best} blocks per process",
                at_best,
                precision,
                best_s,
            ),
            # Variance of two independent sides; interleaving removes shared variation and does
            # better.
            _estimate(
                f"finding a change of {100 * effect:g}% by comparison",
                2 * of_side,
                effect,
                pair_s,
                power=POWER,
                # A change within the margin is reported as the same.
                how=f"latbench compare {model} OTHER {options}".rstrip()
                + (f" --margin {50 * effect:g}" if effect <= MARGIN else ""),
                exact=True,
            ),
        ),
    )


def _processes(record: Record) -> list[list[Sequence[int]]]:
    """Return the warm samples of each block, by process."""
    found: dict[int, list[Sequence[int]]] = {}
    for trace in warm_traces(record):
        kept = [block for block in warm_blocks(trace).values() if min(block) > 0]
        if kept:
            found.setdefault(trace.process, []).extend(kept)
    return list(found.values())


def _build(
    builds: Sequence[Sequence[Sequence[Sequence[int]]]], process: float, same: bool
) -> Component:
    if len(builds) < 2:
        return Component(level="build", deviation=None, note="one build: --builds 2 varies it")
    if same:
        return Component(level="build", deviation=0.0, note="exporting again gave the same file")
    centres = [median(_center(p) for p in processes) for processes in builds]
    fewest = min(len(processes) for processes in builds)
    left = max(0.0, variance(centres) - MEDIAN_COST * process / fewest)
    return Component(level="build", deviation=sqrt(left), note=f"{len(builds)} builds")


def _estimate(
    goal: str,
    process: float,
    half_width: float,
    each_s: float,
    *,
    power: float = 0.5,
    how: str | None = None,
    exact: bool = False,
) -> Estimate:
    """Estimate the processes and time for a goal.

    ``power`` is the probability of detecting a change of ``half_width``; 0.5 if that is only the
    half-width of the interval. If necessary, ``how`` is extended by a budget, and by the number of
    processes if ``exact``, because a comparison would stop when its interval is narrow.
    """
    z = NormalDist().inv_cdf(0.5 + SEQUENTIAL_CONFIDENCE / 2) + NormalDist().inv_cdf(power)
    needed = max(FEWEST, ceil(MEDIAN_COST * z**2 * process / half_width**2))
    seconds = needed * each_s
    if needed > MOST_PROCESSES:
        how = None
    if how is not None and (exact or needed > WARM.max_processes):
        how += f" --processes {needed}"
    if how is not None and seconds > (WARM.budget_ns or 0) / 1e9:
        how += f" --budget {ceil(1.2 * seconds)}"
    return Estimate(goal=goal, processes=needed, seconds=seconds, how=how)


def _process_s(protocol: TimingProtocol, overhead_s: float) -> float:
    """Return the seconds per process of the protocol, including its sentinel.

    ``overhead_s`` is the time to start a process, load and warm up.
    """
    timed_s = protocol.min_ns / 1e9
    if protocol.sentinel_ns is None:
        return overhead_s + timed_s
    share = protocol.sentinel_ns / (protocol.block_ns or protocol.min_ns)
    return 2 * overhead_s + timed_s * (1 + share)


def _calls_variance(iteration: float, calls: int) -> float:
    """Return the variance of a block's median if its calls were independent."""
    return MEDIAN_COST * iteration / max(calls, 1)


def _within(block: Sequence[int]) -> float:
    """Return the relative variance of a block's samples, robust against outliers."""
    import numpy as np

    values = np.asarray(block, dtype=np.float64)
    center = float(np.median(values))
    return (1.4826 * float(np.median(np.abs(values - center))) / center) ** 2


def _log(block: Sequence[int]) -> float:
    return log(median(block))


def _center(process: Sequence[Sequence[int]]) -> float:
    return median(_log(block) for block in process)


def _pooled(variances: Sequence[float]) -> float:
    return sum(variances) / len(variances) if variances else 0.0
