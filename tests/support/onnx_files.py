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


def endless(path: Path) -> Path:
    """A loop that does not end within a test."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["again"]),
            helper.make_node("Mul", ["v", "v"], ["w"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, [4]),
        ],
        [
            helper.make_tensor_value_info("again", TensorProto.BOOL, []),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, [4]),
        ],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["n", "", "x"], ["y"], body=body)],
        "endless",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])],
        [numpy_helper.from_array(np.array(2**62, np.int64), "n")],
    )
    return _save(graph, path)


def out_of_range(path: Path) -> Path:
    """Four numbers in; the one at an index that is out of range, which fails in each inference."""
    graph = helper.make_graph(
        [helper.make_node("GatherElements", ["x", "i"], ["y"])],
        "out_of_range",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        [numpy_helper.from_array(np.array([9], np.int64), "i")],
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
    """An input and an output that hold text."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "strings",
        [helper.make_tensor_value_info("x", TensorProto.STRING, [1])],
        [helper.make_tensor_value_info("y", TensorProto.STRING, [1])],
    )
    return _save(graph, path)


def words(path: Path) -> Path:
    """``t`` of two words, of which ``red`` is 1 and ``blue`` 2, times the 2x3 weights 0 to 5."""
    graph = helper.make_graph(
        [
            helper.make_node(
                *("LabelEncoder", ["t"], ["numbers"]),
                domain="ai.onnx.ml",
                keys_strings=["red", "blue"],
                values_int64s=[1, 2],
            ),
            helper.make_node("Cast", ["numbers"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("MatMul", ["floats", "weights"], ["y"]),
        ],
        "words",
        [helper.make_tensor_value_info("t", TensorProto.STRING, [1, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(np.arange(6, dtype=np.float32).reshape(2, 3), "weights")],
    )
    return _save(graph, path, helper.make_opsetid("ai.onnx.ml", 3))


def length(path: Path) -> Path:
    """Audio 1x4xT=64 and its ``length``, whose value decides how much of it is convolved."""
    weight = np.random.default_rng(0).standard_normal((8, 4, 3), dtype=np.float32)
    nodes = [
        helper.make_node("Slice", ["audio", "zero", "length", "two"], ["s"]),
        helper.make_node("Conv", ["s", "w"], ["c"], pads=[1, 1]),
        helper.make_node("ReduceMax", ["c", "one"], ["y"], keepdims=0),
    ]
    inputs = [
        helper.make_tensor_value_info("length", TensorProto.INT64, [1]),
        helper.make_tensor_value_info("audio", TensorProto.FLOAT, [1, 4, 64]),
    ]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, "t"])
    constants = [
        numpy_helper.from_array(weight, "w"),
        numpy_helper.from_array(np.array([0], "i8"), "zero"),
        numpy_helper.from_array(np.array([1], "i8"), "one"),
        numpy_helper.from_array(np.array([2], "i8"), "two"),
    ]
    graph = helper.make_graph(nodes, "length", inputs, [output], constants)
    return _save(graph, path)


def gate(path: Path) -> Path:
    """1x4 and a sample rate: three operators at 16000, one otherwise."""

    def branch(name: str, operators: int) -> onnx.GraphProto:
        nodes = [
            helper.make_node("Relu", ["x" if i == 0 else f"{name}{i}"], [f"{name}{i + 1}"])
            for i in range(operators)
        ]
        result = helper.make_tensor_value_info(f"{name}{operators}", TensorProto.FLOAT, None)
        return helper.make_graph(nodes, name, [], [result])

    nodes = [
        helper.make_node("Equal", ["rate", "k"], ["is_16k"]),
        helper.make_node(
            "If", ["is_16k"], ["y"], then_branch=branch("a", 3), else_branch=branch("b", 1)
        ),
    ]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4]),
        helper.make_tensor_value_info("rate", TensorProto.INT64, []),
    ]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])
    constant = numpy_helper.from_array(np.array(16000, "i8"), "k")
    return _save(helper.make_graph(nodes, "gate", inputs, [output], [constant]), path)


def state(path: Path) -> Path:
    """Audio with two unnamed open axes, and a state whose first axis is fixed at 2."""
    nodes = [
        helper.make_node("Abs", ["audio"], ["loud"]),
        helper.make_node("Identity", ["state"], ["next"]),
    ]
    pairs = (("audio", [None, None]), ("state", [2, None, 16]))
    named = (("loud", [None, None]), ("next", [2, None, 16]))
    inputs, outputs = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in each]
        for each in (pairs, named)
    )
    return _save(helper.make_graph(nodes, "state", inputs, outputs), path)


def lookup(path: Path) -> Path:
    """Tokens into a table of 50 rows and types into one of a single row: both ``batch x seq``."""
    draw = np.random.default_rng(0)
    nodes = [
        helper.make_node("Gather", ["words", "ids"], ["a"]),
        helper.make_node("Gather", ["types", "type_ids"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "seq"])
        for name in ("ids", "type_ids")
    ]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "seq", 8])
    tables = [
        numpy_helper.from_array(draw.standard_normal((rows, 8), dtype=np.float32), name)
        for name, rows in (("words", 50), ("types", 1))
    ]
    return _save(helper.make_graph(nodes, "lookup", inputs, [output], tables), path)


def gamma(path: Path) -> Path:
    """An image to the power of 2.2, which is not a number below 0."""
    graph = helper.make_graph(
        [helper.make_node("Pow", ["x", "g"], ["y"])],
        "gamma",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 8, 8])],
        [numpy_helper.from_array(np.array(2.2, "f"), "g")],
    )
    return _save(graph, path)


def empty_axis(path: Path) -> Path:
    """A cache that is empty at the first step: an axis of size 0."""
    graph = helper.make_graph(
        [helper.make_node("Concat", ["past", "x"], ["y"], axis=1)],
        "empty",
        [
            helper.make_tensor_value_info("past", TensorProto.FLOAT, [1, 0, 4]),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, 4]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8, 4])],
    )
    return _save(graph, path)


def noisy(path: Path) -> Path:
    """Four numbers and a random one added to each."""
    graph = helper.make_graph(
        [
            helper.make_node("RandomNormalLike", ["x"], ["n"]),
            helper.make_node("Add", ["x", "n"], ["y"]),
        ],
        "noisy",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])],
    )
    return _save(graph, path)


def _save(graph: onnx.GraphProto, path: Path, *opsets: onnx.OperatorSetIdProto) -> Path:
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 20), *opsets], ir_version=10
    )
    path.write_bytes(model.SerializeToString())
    return path
