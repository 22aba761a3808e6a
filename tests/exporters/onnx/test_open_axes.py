"""A graph with a branch that is invalid at the sizes that the taken branch needs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from latbench.api import ExportSpec, make_inputs
from latbench_exporters.onnx.exporter import exporter


def two_sizes(path: Path) -> Path:
    """``1 x n`` numbers: one branch doubles them, the other is a recurrent layer for three axes.

    The other branch gives them ``n / 3`` axes, which shows when shapes are folded.
    """
    one = numpy_helper.from_array(np.array([1]), "value")
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "one"], ["n"]),
        helper.make_node("Div", ["n", "three"], ["axes"]),
        helper.make_node("Sub", ["axes", "one"], ["more"]),
        helper.make_node("ConstantOfShape", ["more"], ["ones"], value=one),
        helper.make_node("Concat", ["ones", "rest"], ["t"], axis=0),
        helper.make_node("Reshape", ["x", "t"], ["r"]),
        helper.make_node("LSTM", ["r", "w", "h"], ["", "l"], hidden_size=2),
        helper.make_node("Reshape", ["l", "flat"], ["b"]),
    ]
    free = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["p", "q"])
        for name in ("a", "b", "y")
    ]
    double = helper.make_graph([helper.make_node("Add", ["x", "x"], ["a"])], "a", [], free[:1])
    other = helper.make_graph(nodes, "b", [], free[1:2])
    draw = np.random.default_rng(0)
    constants = [
        numpy_helper.from_array(draw.standard_normal((1, 8, 4), dtype=np.float32), "w"),
        numpy_helper.from_array(draw.standard_normal((1, 8, 2), dtype=np.float32), "h"),
        numpy_helper.from_array(np.array([1, -1]), "flat"),
        numpy_helper.from_array(np.array([1]), "one"),
        numpy_helper.from_array(np.array([3]), "three"),
        numpy_helper.from_array(np.array([-1]), "rest"),
        numpy_helper.from_array(np.array(16000), "k"),
    ]
    graph = helper.make_graph(
        [
            helper.make_node("Equal", ["rate", "k"], ["c"]),
            helper.make_node("If", ["c"], ["y"], then_branch=double, else_branch=other),
        ],
        "two",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, "n"]),
            helper.make_tensor_value_info("rate", TensorProto.INT64, []),
        ],
        free[2:],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def test_axes_stay_open_where_the_runtime_does_not_take_fixed_ones(tmp_path: Path) -> None:
    import onnxruntime as ort

    def inputs(specs: object) -> tuple[np.ndarray, ...]:
        return np.ones((1, 6), np.float32), np.array(16000)

    out = tmp_path / "out.onnx"
    spec = ExportSpec(shapes={"x": (1, 6)}, make_inputs=inputs)
    found = exporter().adopt(two_sizes(tmp_path / "two.onnx"), spec, out)
    assert found.inputs[0].shape == (1, 6)
    assert "open in the file" in found.details["axes"]
    session = ort.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {"x": np.ones((1, 6), np.float32), "rate": np.array(16000)})
    assert result.tolist() == [[2.0] * 6]


def test_axes_are_fixed_otherwise(tmp_path: Path) -> None:
    from support import onnx_files

    path, out = onnx_files.classifier(tmp_path / "c.onnx", side="S"), tmp_path / "out.onnx"
    found = exporter().adopt(path, ExportSpec(resolution=(16, 16)), out)
    assert "axes" not in found.details
    (image,) = onnx.load(out).graph.input
    assert [dim.dim_value for dim in image.type.tensor_type.shape.dim] == [1, 3, 16, 16]
    assert exporter().evaluate(out, make_inputs(found.inputs, 0)) is not None
