"""MACs of graphs whose shapes inference cannot determine, against products computed by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from latbench.api import ExportSpec
from latbench_exporters.onnx import counts
from latbench_exporters.onnx.counts import count
from latbench_exporters.onnx.exporter import OnnxExporter

CONV_1 = 16 * 48 * 320 * 3 * 9


def constant(name: str, value: object) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(value), name)


def weight(name: str, *shape: int) -> onnx.TensorProto:
    draw = np.random.default_rng(len(name) + sum(shape))
    return numpy_helper.from_array(draw.standard_normal(shape, dtype=np.float32), name)


def graph_with(
    tail: list[onnx.NodeProto], weights: list[onnx.TensorProto], rank: int
) -> onnx.ModelProto:
    """A convolution, and a Reshape to a shape whose length inference cannot tell, then ``tail``."""
    head = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Shape", ["c"], ["s"]),
        helper.make_node("Shape", ["s"], ["e"]),
        helper.make_node("Slice", ["s", "zero", "e"], ["to"]),
        helper.make_node("Reshape", ["c", "to"], ["f"]),
    ]
    graph = helper.make_graph(
        [*head, *tail],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "h", "w_"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, list("abcdef"[:rank]))],
        [weight("w", 16, 3, 3, 3), constant("zero", np.array([0], dtype=np.int64)), *weights],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)


CASES = {
    "a product": (
        [helper.make_node("MatMul", ["f", "v"], ["y"])],
        [weight("v", 320, 10)],
        4,
        16 * 48 * 320 * 10,
    ),
    "a convolution": (
        [
            helper.make_node("Conv", ["f", "v"], ["z"], pads=[3, 3, 3, 3]),
            helper.make_node("GlobalAveragePool", ["z"], ["y"]),
        ],
        [weight("v", 7, 16, 7, 7)],
        4,
        7 * 48 * 320 * 16 * 49,
    ),
    "a transposed convolution": (
        [helper.make_node("ConvTranspose", ["f", "v"], ["y"], strides=[2, 2])],
        [weight("v", 16, 5, 2, 2)],
        4,
        16 * 48 * 320 * 5 * 4,
    ),
    "a product with a scalar in front": (
        [
            helper.make_node("Mul", ["f", "half"], ["z"]),
            helper.make_node("MatMul", ["z", "v"], ["y"]),
        ],
        [weight("v", 320, 10), constant("half", np.float32(0.5))],
        4,
        16 * 48 * 320 * 10,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_shapes_of_unknown_rank_are_observed(case: str, tmp_path: Path) -> None:
    tail, weights, rank, macs = CASES[case]
    onnx.save(graph_with(tail, weights, rank), tmp_path / "in.onnx")
    spec = ExportSpec(batch=1, resolution=(48, 320))
    exported = OnnxExporter().adopt(tmp_path / "in.onnx", spec, tmp_path / "out.onnx")
    assert exported.counts is not None
    assert exported.counts.macs == CONV_1 + macs


def test_what_cannot_run_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown is not a number."""
    tail, weights, rank, _ = CASES["a convolution"]
    model = graph_with(tail, weights, rank)
    assert count(model)[0] is None  # its axes are open
    monkeypatch.setattr(counts, "observe", lambda *_: None)
    for dim, size in zip(
        model.graph.input[0].type.tensor_type.shape.dim, (1, 3, 48, 320), strict=True
    ):
        dim.dim_value = size
    assert count(model)[0] is None


def test_an_error_of_counting_does_not_end_a_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: onnx.ModelProto) -> None:
        raise IndexError("tuple index out of range")

    monkeypatch.setattr(counts, "inferred_shapes", fail)
    tail, weights, rank, _ = CASES["a product"]
    onnx.save(graph_with(tail, weights, rank), tmp_path / "in.onnx")
    spec = ExportSpec(batch=1, resolution=(48, 320))
    exported = OnnxExporter().adopt(tmp_path / "in.onnx", spec, tmp_path / "out.onnx")
    assert exported.counts is None
    assert exported.details["uncounted"] == "IndexError: tuple index out of range"
