"""Time and placement by node, from the JSON written by ONNX Runtime's profiler."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latbench.api import OperatorTime

if TYPE_CHECKING:
    import onnxruntime as ort

KERNEL = "_kernel_time"
HOLDERS = ("If", "Loop", "Scan", "BeamSearch", "GreedySearch", "Sampling", "WhisperBeamSearch")
"""Operators that execute other graphs: their time includes that of the nodes in them."""
Key = tuple[tuple[str, str], ...]
"""Index and name of a node, after those of the nodes that hold its graph."""


class _Node:
    """An executed node with those of its graphs."""

    def __init__(self, event: dict[str, Any]) -> None:
        self.event = event
        self.inner: list[_Node] = []


@dataclass(frozen=True, kw_only=True)
class Profiled:
    """Runs of a profiled session, without the first."""

    calls: int
    """Number of complete runs in the profile: the profiler stops after a million nodes."""
    total_ns: int
    """Mean duration of a whole run according to the profiler, in ns."""
    operators: tuple[OperatorTime, ...]
    """The time of a node that holds graphs is without that of their nodes."""

    def placed(self) -> dict[str, int]:
        """Execution provider -> number of nodes that it executed."""
        return dict(Counter(operator.unit or "unknown" for operator in self.operators))

    def partitions(self) -> int:
        """Number of provider changes between consecutive nodes, plus one."""
        units = [operator.unit for operator in self.operators]
        return sum(one != other for one, other in pairwise(units)) + 1


def profiled(
    load: Callable[[ort.SessionOptions], ort.InferenceSession],
    options: ort.SessionOptions,
    run: Callable[[ort.InferenceSession, int], None],
    calls: int,
) -> Profiled | None:
    """Load a second session with profiling, run it ``calls`` + 1 times, and read the profile.

    The session and its file are deleted afterwards. ``None`` if no run but the first is complete.
    """
    with tempfile.TemporaryDirectory() as folder:
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = load(options)
        run(session, calls + 1)
        events = json.loads(Path(session.end_profiling()).read_text())
    return _read(events)


def _read(events: Sequence[dict[str, Any]]) -> Profiled | None:
    """Parse the events. The nodes of a run precede its own event; the first run is a warm-up."""
    runs: list[list[dict[str, Any]]] = []
    totals: list[int] = []
    nodes: list[dict[str, Any]] = []
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(KERNEL):
            nodes.append(event)
        elif event["name"] == "model_run":
            totals.append(int(event["dur"]))
            runs.append(nodes)
            nodes = []
    calls = len(totals) - 1
    if calls < 1:
        return None
    spent: Counter[Key] = Counter()
    arguments_of: dict[Key, dict[str, Any]] = {}
    for run in runs[1:]:
        for event, key, own_us in _own_times(run):
            spent[key] += own_us
            arguments_of[key] = event["args"]
    return Profiled(
        calls=calls,
        total_ns=sum(totals[1:]) * 1000 // calls,
        operators=tuple(
            OperatorTime(
                name=key[-1][1],
                kind=arguments_of[key].get("op_name", "unknown"),
                # Rounded down: the parts never exceed the total. Durations are in microseconds.
                time_ns=us * 1000 // calls,
                unit=arguments_of[key].get("provider"),
            )
            for key, us in spent.items()
        ),
    )


def _own_times(run: Sequence[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], Key, int]]:
    """Each node, in the order of execution, with its key and its own time in microseconds.

    A node that holds a graph ends after the nodes in it, so its event follows theirs.
    """
    done: list[_Node] = []
    for event in run:
        node = _Node(event)
        if event["args"].get("op_name") in HOLDERS:
            while done and _contains(event, done[-1].event):
                node.inner.append(done.pop())
        done.append(node)
    pending: list[tuple[_Node, Key]] = [(node, ()) for node in reversed(done)]
    while pending:
        node, outer = pending.pop()
        key = (*outer, _index_and_name(node.event))
        inside = sum(int(each.event["dur"]) for each in node.inner)
        yield node.event, key, max(int(node.event["dur"]) - inside, 0)
        # Those that were executed last come first in `inner`, and the last is popped first.
        pending.extend((each, key) for each in node.inner)


def _contains(holder: dict[str, Any], event: dict[str, Any]) -> bool:
    start, end = int(holder["ts"]), int(holder["ts"]) + int(holder["dur"])
    return start <= int(event["ts"]) and int(event["ts"]) + int(event["dur"]) <= end


def _index_and_name(event: dict[str, Any]) -> tuple[str, str]:
    return event["args"].get("node_index", ""), event["name"].removesuffix(KERNEL)
