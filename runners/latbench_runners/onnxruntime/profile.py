"""Times and places by node, from the JSON that ONNX Runtime's own profiler writes."""

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
    """The runs of a profiled session, without the first."""

    total_ns: int
    """Mean of a whole run, as the profiler has it."""
    operators: tuple[OperatorTime, ...]

    def placed(self) -> dict[str, int]:
        """Execution provider -> nodes that it executed."""
        return dict(Counter(operator.unit or "unknown" for operator in self.operators))

    def partitions(self) -> int:
        """How often the next node is another provider's, plus one."""
        units = [operator.unit for operator in self.operators]
        return sum(one != other for one, other in pairwise(units)) + 1


def profiled(
    load: Callable[[ort.SessionOptions], ort.InferenceSession],
    options: ort.SessionOptions,
    run: Callable[[ort.InferenceSession, int], None],
    calls: int,
) -> Profiled:
    """Load a second session that writes a profile, run it ``calls`` + 1 times, and read that.

    The session and its file are gone afterwards.
    """
    with tempfile.TemporaryDirectory() as folder:
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = load(options)
        run(session, calls + 1)
        events = json.loads(Path(session.end_profiling()).read_text())
    return _read(events, calls)


def _read(events: Sequence[dict[str, Any]], calls: int) -> Profiled:
    """A run's nodes come before the event of the run itself; the first run is a warm-up."""
    runs: list[list[dict[str, Any]]] = [[]]
    totals = []
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(KERNEL):
            runs[-1].append(event)
        elif event["name"] == "model_run":
            totals.append(int(event["dur"]))
            runs.append([])
    spent: dict[tuple[str, str], int] = {}
    told: dict[tuple[str, str], dict[str, Any]] = {}
    for event in (event for nodes in runs[1 : calls + 1] for event in nodes):
        arguments = event["args"]
        key = (arguments.get("node_index", ""), event["name"].removesuffix(KERNEL))
        # In microseconds.
        spent[key] = spent.get(key, 0) + int(event["dur"]) * 1000
        told[key] = arguments
    return Profiled(
        total_ns=round(sum(totals[1 : calls + 1]) * 1000 / calls),
        operators=tuple(
            OperatorTime(
                name=name,
                kind=told[index, name].get("op_name", "unknown"),
                time_ns=round(ns / calls),
                unit=told[index, name].get("provider"),
            )
            for (index, name), ns in spent.items()
        ),
    )
