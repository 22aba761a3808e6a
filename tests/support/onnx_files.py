"""ONNX files made by hand: sound ones, and each kind of unsound one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def classifier(path: Path, *, batch: int | str = 1, side: int | str = 8) -> Path:
    """1x3xSxS -> conv 3x3 (4 filters) -> mean -> 1x4."""
    weight = np.random.default_rng(0).standard_normal((4, 3, 3, 3), dtype=np.float32)
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["c"], ["g"]),
        helper.make_node("Flatten", ["g"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, side, side])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 4])],
        [numpy_helper.from_array(weight, "w")],
    )
    return _save(graph, path)


def identity(path: Path) -> Path:
    """Four numbers in, the same four out."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "identity",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])],
    )
    return _save(graph, path)


def stack(path: Path, *, side: int) -> Path:
    """Six convolutions 3x3 of 32 channels on 3xSxS, then the mean: 1 ms at S = 36 on one CPU."""
    draw = np.random.default_rng(0)
    weights = [
        draw.standard_normal((32, 3 if i == 0 else 32, 3, 3), dtype=np.float32) / 17
        for i in range(6)
    ]
    nodes = [
        helper.make_node("Conv", [f"x{i}", f"w{i}"], [f"x{i + 1}"], pads=[1, 1, 1, 1])
        for i in range(6)
    ]
    nodes.append(helper.make_node("GlobalAveragePool", ["x6"], ["mean"]))
    graph = helper.make_graph(
        nodes,
        "stack",
        [helper.make_tensor_value_info("x0", TensorProto.FLOAT, [1, 3, side, side])],
        [helper.make_tensor_value_info("mean", TensorProto.FLOAT, [1, 32, 1, 1])],
        [numpy_helper.from_array(weight, f"w{i}") for i, weight in enumerate(weights)],
    )
    return _save(graph, path)


def random(path: Path) -> Path:
    """Four numbers in, the same with noise out."""
    graph = helper.make_graph(
        [
            helper.make_node("RandomNormalLike", ["x"], ["noise"]),
            helper.make_node("Add", ["x", "noise"], ["y"]),
        ],
        "random",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])],
    )
    return _save(graph, path)


def without_inputs(path: Path) -> Path:
    """A graph that computes a constant."""
    graph = helper.make_graph(
        [helper.make_node("Relu", ["w"], ["y"])],
        "constant",
        [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
        [numpy_helper.from_array(np.ones(2, np.float32), "w")],
    )
    return _save(graph, path)


def with_custom_operator(path: Path) -> Path:
    """An operator of a domain that nobody offers."""
    graph = helper.make_graph(
        [helper.make_node("Warp", ["x"], ["y"], domain="acme.secret")],
        "custom",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
    )
    return _save(graph, path, helper.make_opsetid("acme.secret", 1))


def with_escaping_data(path: Path, target: str) -> Path:
    """Weights that claim to lie in a file outside of the model's folder."""
    classifier(path)
    model = onnx.load(path)
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    entry = weight.external_data.add()
    entry.key, entry.value = "location", target
    path.write_bytes(model.SerializeToString())
    return path


def with_cycle(path: Path) -> Path:
    """Two nodes that wait for each other."""
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["x", "b"], ["a"]),
            helper.make_node("Relu", ["a"], ["b"]),
        ],
        "cycle",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor_value_info("b", TensorProto.FLOAT, [1, 3])],
    )
    return _save(graph, path)


def asking_for_much_memory(path: Path) -> Path:
    """A few bytes that expand to 64 TB."""
    graph = helper.make_graph(
        [
            helper.make_node("Expand", ["x", "shape"], ["big"]),
            helper.make_node("ReduceSum", ["big"], ["y"], keepdims=0),
        ],
        "greedy",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [])],
        [numpy_helper.from_array(np.array([2**22, 2**22], np.int64), "shape")],
    )
    return _save(graph, path)


def with_strings(path: Path) -> Path:
    """An input that holds text."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "strings",
        [helper.make_tensor_value_info("x", TensorProto.STRING, [1])],
        [helper.make_tensor_value_info("y", TensorProto.STRING, [1])],
    )
    return _save(graph, path)


def _save(graph: onnx.GraphProto, path: Path, *opsets: onnx.OperatorSetIdProto) -> Path:
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 20), *opsets], ir_version=10
    )
    path.write_bytes(model.SerializeToString())
    return path
