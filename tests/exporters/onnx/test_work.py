"""MACs of every kind of operator that multiplies with weights, against products by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from latbench.api import ExportSpec, make_inputs
from latbench_exporters.onnx.counts import OBSERVED, count
from latbench_exporters.onnx.exporter import OnnxExporter
from support import onnx_operators
from support.onnx_operators import IMAGE, constant, floats, model_of, node

CASES = onnx_operators.cases()


@pytest.mark.parametrize("name", CASES)
def test_work_is_counted_or_its_operator_is_named(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    path = onnx_operators.save(case.model, tmp_path / "in.onnx")
    exported = OnnxExporter().adopt(path, ExportSpec(), tmp_path / "out.onnx")
    if case.macs is None:
        assert exported.counts is None
        assert case.uncounted in exported.details["uncounted"]
    else:
        assert exported.counts is not None, exported.details
        assert exported.counts.macs == case.macs
    # Each of them is a file that the runtime executes.
    assert OnnxExporter().evaluate(tmp_path / "out.onnx", make_inputs(exported.inputs, 0))


@pytest.mark.parametrize(
    ("name", "operators"),
    [
        ("LSTM, both directions", {"conv": 0, "linear": 0, "recurrent": 1}),
        ("Loop after a product", {"conv": 2, "linear": 1}),
        ("If", {"conv": 1, "linear": 0}),
    ],
)
def test_operators_count_their_calls(name: str, operators: dict[str, int]) -> None:
    counts, _ = count(CASES[name].model)
    assert counts is not None
    assert counts.operators == operators


@pytest.mark.parametrize(
    ("name", "parameters", "size"),
    [
        ("MatMulNBits", 32 * 5, 32 * 5 // 2),
        ("ConvInteger", 108, 108),
        ("QLinear operators", 108 + 24, 108 + 24),
        ("DynamicQuantizeLSTM", 32 * 14 + 64, 32 * 14 + 4 * 64),
        ("GRU with lengths", 24 * 14, 4 * 24 * 14),
    ],
)
def test_scales_and_lengths_are_no_weights(name: str, parameters: int, size: int) -> None:
    counts, _ = count(CASES[name].model)
    assert counts is not None
    assert (counts.parameters, counts.parameter_bytes) == (parameters, size)


def test_counts_of_a_run_say_so() -> None:
    assert count(CASES["If"].model)[1] == {"counted": OBSERVED}
    assert count(CASES["Gemm"].model)[1] == {}


def test_the_inputs_decide_which_branch_counts() -> None:
    counts, _ = count(CASES["If"].model, [np.full(IMAGE, 10, np.float32)])
    assert counts is not None
    assert counts.macs == 3 * 64 * 27


def test_initial_states_are_no_weights() -> None:
    weights = floats("W", 1, 8, 6), floats("R", 1, 8, 8)
    model = model_of(
        [node("RNN", "x W R - - h", hidden_size=8)],
        (5, 2, 6),
        *(*weights, constant("h", np.zeros((1, 2, 8)), "f4")),
    )
    counts, _ = count(model)
    assert counts is not None
    assert counts.parameters == 8 * (6 + 8)


def test_weights_of_branches_are_weights() -> None:
    body = onnx.helper.make_graph(
        [node("MatMul", "x w", "z")],
        "b",
        [],
        [onnx_operators.value("z")],
        [floats("w", 8, 5)],
    )
    model = model_of(
        [node("If", "c", then_branch=body, else_branch=body)], (2, 8), constant("c", True, "?")
    )
    counts, _ = count(model)
    assert counts is not None
    assert (counts.macs, counts.parameters) == (80, 2 * 40)
