"""Time and placement by node, from the JSON written by ONNX Runtime's profiler."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latbench.api import OperatorTime

if TYPE_CHECKING:
    import onnxruntime as ort

KERNEL = "_kernel_time"


@dataclass(frozen=True, kw_only=True)
class Profiled:
    """Runs of a profiled session, without the first."""

    total_ns: int
    """Mean duration of a whole run according to the profiler, in ns."""
    operators: tuple[OperatorTime, ...]

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
) -> Profiled:
    """Load a second session with profiling, run it ``calls`` + 1 times, and read the profile.

    The session and its file are deleted afterwards.
    """
    with tempfile.TemporaryDirectory() as folder:
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = load(options)
        run(session, calls + 1)
        events = json.loads(Path(session.end_profiling()).read_text())
    return _read(events, calls)


def _read(events: Sequence[dict[str, Any]], calls: int) -> Profiled:
    """Parse the events. The nodes of a run precede its own event; the first run is a warm-up."""
    runs: list[list[dict[str, Any]]] = [[]]
    totals = []
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(KERNEL):
            runs[-1].append(event)
        elif event["name"] == "model_run":
            totals.append(int(event["dur"]))
            runs.append([])
    spent: dict[tuple[str, str], int] = {}
    arguments_of: dict[tuple[str, str], dict[str, Any]] = {}
    for event in (event for nodes in runs[1 : calls + 1] for event in nodes):
        arguments = event["args"]
        key = (arguments.get("node_index", ""), event["name"].removesuffix(KERNEL))
        # Durations are in microseconds.
        spent[key] = spent.get(key, 0) + int(event["dur"]) * 1000
        arguments_of[key] = arguments
    return Profiled(
        total_ns=round(sum(totals[1 : calls + 1]) * 1000 / calls),
        operators=tuple(
            OperatorTime(
                name=name,
                kind=arguments_of[index, name].get("op_name", "unknown"),
                time_ns=round(ns / calls),
                unit=arguments_of[index, name].get("provider"),
            )
            for (index, name), ns in spent.items()
        ),
    )
