"""When a run loads, starts another process, and ends: by shares of its budget, or by sizes that it
finds from its own costs and variances."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import ceil
from statistics import median
from typing import Protocol

import msgspec

from latbench.analysis.segments import Nested, burst_ns
from latbench.analysis.sizes import (
    Costs,
    Limits,
    Sizes,
    Variances,
    cheapest,
    process_deviation,
    processes_needed,
    variances,
)
from latbench.schema.protocol import TimingProtocol, block_calls
from latbench.schema.trace import Trace

FIRST_LOOK_NS = 1_000_000_000
"""How long the first load of a run is timed: a burst of a phone takes half a second."""
SURE = 3
"""Processes of chosen sizes from which it is known how processes vary."""
SEEN_BURST = 4
"""Every load is timed for so many times the burst that the run has found at the start of loads."""

RoundValues = Callable[[Sequence[Sequence[Trace]]], Nested[float]]
"""The value of each round that the target precision is about, from the traces of each part."""


class Pace(Protocol):
    """Decides how much of the run's time each step may take."""

    def start_process(self, process: int) -> None:
        """Note that a process is started."""
        ...

    def warmup_left_ns(self) -> int | None:
        """Nanoseconds for the rest of this load, for its warm-up; ``None`` without a budget."""
        ...

    def start_rounds(self, typical_ns: int) -> int:
        """Note that a load is warm; return how long it is timed at least."""
        ...

    def rounds_left_ns(self) -> int | None:
        """Nanoseconds for the rounds of this load; ``None`` without a budget."""
        ...

    def end_load(self, rounds: int) -> None:
        """Note that a load has had so many rounds."""
        ...

    def loads_again(self) -> bool:
        """Whether this process loads the model again."""
        ...

    def end_process(self, traces: Sequence[Sequence[Trace]]) -> None:
        """Note that a process has ended, with the traces of each part so far."""
        ...

    def starts_again(self) -> bool:
        """Whether the budget has room for another process."""
        ...

    def expected_rounds(self, rounds_per_load: int) -> int:
        """Rounds of the whole run, about."""
        ...


class SharedBudget:
    """Sizes as the protocol states them. The least number of processes share the budget, so that a
    slow model gets fewer samples in each instead of too few processes."""

    def __init__(self, protocol: TimingProtocol, now: Callable[[], int]) -> None:
        self._protocol = protocol
        self._now = now
        self._begun_ns = now()
        self._started_ns = self._begun_ns
        self._process = 0
        self._loads = 0

    def start_process(self, process: int) -> None:
        """Note that a process is started."""
        self._process, self._loads, self._started_ns = process, 0, self._now()

    def warmup_left_ns(self) -> int | None:
        """What the load has left of its share of the budget."""
        protocol = self._protocol
        if protocol.budget_ns is None:
            return None
        loads = self._process * protocol.sessions + self._loads + 1
        share = min(1.0, loads / (protocol.processes * protocol.sessions))
        return round(protocol.budget_ns * share) - (self._now() - self._begun_ns)

    def start_rounds(self, typical_ns: int) -> int:
        """Return the protocol's least duration."""
        return self._protocol.min_ns

    def rounds_left_ns(self) -> int | None:
        """What the load has left of its share of the budget."""
        return self.warmup_left_ns()

    def end_load(self, rounds: int) -> None:
        """Note that a load has ended."""
        self._loads += 1

    def loads_again(self) -> bool:
        """Whether the process has fewer loads than the protocol says."""
        return self._loads < self._protocol.sessions

    def end_process(self, traces: Sequence[Sequence[Trace]]) -> None:
        """Do nothing: the sizes stay as they are."""

    def starts_again(self) -> bool:
        """Whether another process like the last fits. The first ones share the budget, so one of
        them may end somewhat late, but not where starting takes all of its share."""
        if self._protocol.budget_ns is None:
            return True
        left = self._begun_ns + self._protocol.budget_ns - self._now()
        needed = self._now() - self._started_ns
        if self._process + 1 < self._protocol.processes:
            needed //= 2
        return left > needed

    def expected_rounds(self, rounds_per_load: int) -> int:
        """Rounds of the processes so far, or of the least number."""
        least = self._protocol.processes * self._protocol.sessions
        begun = self._process * self._protocol.sessions + self._loads + 1
        return max(least, begun) * rounds_per_load


@dataclass(kw_only=True)
class _Load:
    """What one load took beside its rounds, and its rounds."""

    overhead_ns: int
    rounds_ns: int
    rounds: int


@dataclass(kw_only=True)
class _Process:
    took_ns: int = 0
    loads: list[_Load] = field(default_factory=list)


class FoundSizes:
    """Sizes that the run finds: the cheapest ones for its target, from its costs and variances.

    Nothing is cut short to start more processes. Where starting or warming up takes long, fewer
    processes fit the budget.
    """

    def __init__(
        self, protocol: TimingProtocol, now: Callable[[], int], values: RoundValues
    ) -> None:
        self._protocol = protocol
        self._now = now
        self._values = values
        self._seen: Nested[float] = []
        self._begun_ns = now()
        self._target = (protocol.target_ppm or 0) / 1e6
        self._done: list[_Process] = []
        self._current = _Process()
        self._started_ns = self._begun_ns
        self._load_ns = self._begun_ns
        self._rounds_ns = self._begun_ns
        self._typical_ns = 1
        self._warm_after_ns = 0
        self._bursts_ns: list[int] = []
        self._most_loads = _most(protocol)
        self.variances: Variances | None = None
        self.deviation: float | None = None
        """Of the processes, as they were timed, once there are enough to see it."""
        self.sizes: Sizes | None = None
        """The cheapest sizes, once the first process has shown costs and variances."""

    def start_process(self, process: int) -> None:
        """Note that a process is started."""
        self._current = _Process()
        self._started_ns = self._load_ns = self._now()

    def limit_loads(self, loads: int) -> None:
        """Load the model at most so often in a process from now on."""
        self._most_loads = max(1, min(self._most_loads, loads))

    def warmup_left_ns(self) -> int | None:
        """What is left of the whole budget: no warm-up is cut short for other processes."""
        return self._left_ns()

    def start_rounds(self, typical_ns: int) -> int:
        """Return how long this load is timed: the first one of the run long enough to see a burst,
        the others as long as is cheapest."""
        self._rounds_ns, self._typical_ns = self._now(), typical_ns
        if not self._current.loads:
            self._warm_after_ns = self._rounds_ns - self._started_ns
        least = max(self._protocol.min_ns, SEEN_BURST * self._burst_ns())
        if self.sizes is not None:
            least = max(least, self.sizes.blocks * self._block_ns())
        elif not self._done and not self._current.loads:
            left = self.rounds_left_ns()
            room = FIRST_LOOK_NS if left is None else min(FIRST_LOOK_NS, left // 2)
            least = max(least, room)
        return min(least, self._protocol.max_ns)

    def rounds_left_ns(self) -> int | None:
        """What this process has left, if the budget is shared by as many as fit."""
        left = self._left_ns()
        if left is None:
            return None
        spent = self._now() - self._started_ns
        missing = max(1, self._protocol.processes - len(self._done))
        # What this process took until it was warm, the next ones will take too.
        beside = self._warm_after_ns + self._protocol.min_ns
        fitting = max(1, min(missing, (left + spent) // max(beside, 1)))
        return (left + spent) // fitting - spent

    def end_load(self, rounds: int) -> None:
        """Note that a load has had so many rounds."""
        now = self._now()
        load = _Load(
            overhead_ns=self._rounds_ns - self._load_ns,
            rounds_ns=now - self._rounds_ns,
            rounds=rounds,
        )
        self._current.loads.append(load)
        self._load_ns = now

    def loads_again(self) -> bool:
        """Whether the process has fewer loads than planned, and one more fits its share."""
        planned = self._protocol.sessions if self.sizes is None else self.sizes.loads
        loads = self._current.loads
        if len(loads) >= min(planned, self._most_loads):
            return False
        left = self.rounds_left_ns()
        # The overhead of a first load includes starting the process and importing the runtime.
        beside = min(load.overhead_ns for load in (*loads, *self._reloads()))
        return left is None or left >= beside + self._protocol.min_ns

    def end_process(self, traces: Sequence[Sequence[Trace]]) -> None:
        """Find the cheapest sizes for the next processes."""
        self._current.took_ns = self._now() - self._started_ns
        self._done.append(self._current)
        latest = [[t for t in part if t.process == len(self._done) - 1] for part in traces]
        self._seen += self._values(latest)
        self._bursts_ns.append(burst_ns(latest[0]))
        # The first process, whose loads are shorter or longer, was a look only.
        values = self._seen[1:] if len(self._seen) > SURE else self._seen
        costs, found = self.costs(), variances(values)
        if len(values) >= SURE:
            self.deviation = process_deviation(values)
        if found is None or costs is None:
            return
        self.variances = found
        if not self._target:
            return
        least = max(self._protocol.min_ns, self._protocol.min_calls * self._typical_ns)
        least = max(least, SEEN_BURST * self._burst_ns())
        block_ns = self._block_ns()
        self.sizes = cheapest(
            costs,
            found,
            self._target,
            Limits(
                fewest_processes=self._protocol.processes,
                most_loads=self._most_loads,
                fewest_blocks=ceil(least / block_ns),
                most_blocks=ceil(max(least, self._protocol.max_ns) / block_ns),
                budget_ns=self._protocol.budget_ns,
            ),
        )

    def costs(self) -> Costs | None:
        """What the processes so far have cost at each level; ``None`` without a round."""
        loads = [load for process in self._done for load in process.loads]
        rounds = sum(load.rounds for load in loads)
        if not rounds:
            return None
        again = self._reloads()
        each_ns = median(load.overhead_ns for load in (again or loads))
        starts = [
            process.took_ns - sum(load.rounds_ns + each_ns for load in process.loads)
            for process in self._done
        ]
        return Costs(
            process_ns=max(0, round(median(starts))),
            load_ns=round(each_ns),
            block_ns=max(1, sum(load.rounds_ns for load in loads) // rounds),
        )

    def starts_again(self) -> bool:
        """Whether the smallest process that counts fits what is left of the budget."""
        left = self._left_ns()
        if left is None:
            return True
        costs = self.costs()
        if costs is None:
            return left > self._current.took_ns
        needed = costs.process_ns + costs.load_ns + max(self._protocol.min_ns, self._typical_ns)
        if len(self._done) >= self._protocol.processes and self.sizes is not None:
            blocks_ns = self.sizes.blocks * costs.block_ns
            needed = costs.process_ns + self.sizes.loads * (costs.load_ns + blocks_ns)
        return left >= needed

    def expected_rounds(self, rounds_per_load: int) -> int:
        """Rounds of the processes so far, and of those that are still needed."""
        done = sum(load.rounds for process in self._done for load in process.loads)
        now = sum(load.rounds for load in self._current.loads)
        if self.sizes is None:
            return done + now + self._protocol.processes * self._protocol.sessions * rounds_per_load
        missing = max(1, self.sizes.processes - len(self._done))
        return done + max(now, missing * self.sizes.loads * self.sizes.blocks)

    def expected(self) -> tuple[int, int] | None:
        """Processes that the target takes, and the nanoseconds of the whole run, budget aside;
        ``None`` while they cannot be estimated."""
        sizes = self.sizes
        if sizes is None:
            return None
        done_ns = sum(process.took_ns for process in self._done)
        processes, each_ns = sizes.processes, sizes.wall_ns / sizes.processes
        if self.deviation is not None:
            # What was observed as a whole is surer than what is put together from the levels.
            least = self._protocol.processes
            processes = processes_needed(self.deviation, self._target, least)
            each_ns = median(process.took_ns for process in self._done[1:])
        return processes, round(done_ns + max(0, processes - len(self._done)) * each_ns)

    def _burst_ns(self) -> int:
        """The burst of most processes; a change of level in one of them may be a disturbance."""
        return round(median(self._bursts_ns)) if self._bursts_ns else 0

    def _left_ns(self) -> int | None:
        budget = self._protocol.budget_ns
        return None if budget is None else budget - (self._now() - self._begun_ns)

    def _reloads(self) -> list[_Load]:
        """The loads after the first one of each process."""
        return [load for process in (*self._done, self._current) for load in process.loads[1:]]

    def _block_ns(self) -> int:
        return max(1, block_calls(self._protocol, self._typical_ns) * self._typical_ns)


def _most(protocol: TimingProtocol) -> int:
    most = protocol.max_sessions
    return protocol.sessions if isinstance(most, msgspec.UnsetType) else most
