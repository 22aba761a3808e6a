"""Profiles of graphs with branches and loops, whose nodes are also part of the node around them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx.compose
import pytest
from onnx import ModelProto

from latbench.api import ExportSpec, Profile, RunOptions, make_inputs
from latbench_exporters.onnx.exporter import OnnxExporter
from latbench_runners.onnxruntime import profile
from latbench_runners.onnxruntime.runner import runner
from support import onnx_operators
from support.onnx_operators import IMAGE, floats, loop_body, loop_constants, model_of, node
from support.records import make_artifact

CALLS = 5


def profiled(model: ModelProto, tmp_path: Path) -> Profile:
    path = onnx_operators.save(model, tmp_path / "in.onnx")
    exported = OnnxExporter().adopt(path, ExportSpec(), tmp_path / "out.onnx")
    artifact = make_artifact(tmp_path / "out.onnx", exported, "onnx")
    inputs = make_inputs(exported.inputs, 0)
    options = RunOptions(threads=1, extra={"graph_optimization": "disabled"})
    with runner().open(artifact, tmp_path / "out.onnx", inputs, options) as session:
        found = session.profile(CALLS)  # type: ignore[attr-defined]
    assert isinstance(found, Profile)
    return found


def nested() -> ModelProto:
    """A loop of two rounds in a loop of three, with nodes of the same name in each graph."""
    conv = {"pads": [1] * 4, "name": "conv"}
    inner = loop_body(node("Conv", "cur w", "nxt", **conv))
    # Names of values are unique; those of nodes need not be.
    inner = onnx.compose.add_prefix_graph(inner, "in_", rename_nodes=False)
    for each in inner.node:
        each.input[:] = [name.replace("in_w", "w") for name in each.input]
    outer = loop_body(
        node("Conv", "cur w", "c", **conv), node("Loop", "two true c", "nxt", body=inner)
    )
    return model_of(
        [node("Conv", "x w", "c0", **conv), node("Loop", "times true c0", body=outer)],
        IMAGE,
        *(floats("w", 3, 3, 3, 3), onnx_operators.constant("two", 2), *loop_constants(3)),
    )


GRAPHS = {"a branch": onnx_operators.branched, "loops": nested}


@pytest.mark.parametrize("name", GRAPHS)
def test_the_parts_never_exceed_the_total(name: str, tmp_path: Path) -> None:
    found = profiled(GRAPHS[name](), tmp_path)
    assert found.calls == CALLS
    assert sum(operator.time_ns for operator in found.operators) <= found.total_ns


def test_nodes_of_one_name_in_several_graphs_are_several_operators(tmp_path: Path) -> None:
    kinds = [operator.kind for operator in profiled(nested(), tmp_path).operators]
    assert kinds.count("Conv") == 3
    assert kinds.count("Loop") == 2


def event(name: str, kind: str, start: int, us: int, index: int = 0) -> dict[str, Any]:
    return {
        "cat": "Node",
        "name": f"{name}_kernel_time",
        "ts": start,
        "dur": us,
        "args": {"node_index": str(index), "op_name": kind, "provider": "P"},
    }


def run_of(*events: dict[str, Any]) -> list[dict[str, Any]]:
    return [*events, {"cat": "Session", "name": "model_run", "ts": 0, "dur": 100}]


# In the order in which ONNX Runtime writes them: a node when it has ended.
NESTED = run_of(
    event("before", "Conv", 0, 10),
    event("conv", "Conv", 12, 5, 1),
    event("conv", "Conv", 20, 6, 1),
    event("inner", "Loop", 11, 20, 2),
    event("act", "Relu", 40, 4, 3),
    event("outer", "If", 10, 40, 1),
    event("after", "Conv", 60, 10, 2),
)


def test_a_node_that_holds_a_graph_has_its_own_time_only() -> None:
    found = profile._read(NESTED * 2)
    assert found is not None
    times = [(operator.name, operator.time_ns // 1000) for operator in found.operators]
    assert times == [
        ("before", 10),
        ("outer", 40 - 20 - 4),
        ("inner", 20 - 5 - 6),
        ("conv", 5 + 6),
        ("act", 4),
        ("after", 10),
    ]


def test_runs_that_the_profiler_cut_off_are_left_out() -> None:
    found = profile._read([*NESTED * 3, *NESTED[:4]])
    assert found is not None
    assert (found.calls, found.total_ns) == (2, 100_000)
    assert found.operators[0].time_ns == 10_000
    assert profile._read([*NESTED, *NESTED[:4]]) is None
