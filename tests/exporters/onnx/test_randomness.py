"""Which operators draw random numbers."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from latbench_exporters.onnx.randomness import random_operators


def constant(value: bool) -> NodeProto:
    return helper.make_node(
        "Constant", [], ["mode"], value=numpy_helper.from_array(np.array(value))
    )


@pytest.mark.parametrize(
    ("node", "mode", "random"),
    [
        (helper.make_node("RandomUniformLike", ["x"], ["y"]), None, ["RandomUniformLike"]),
        (helper.make_node("Bernoulli", ["x"], ["y"]), None, ["Bernoulli"]),
        (helper.make_node("Dropout", ["x"], ["y"]), None, []),
        (helper.make_node("Dropout", ["x", "", ""], ["y"]), None, []),
        (helper.make_node("Dropout", ["x", "", "mode"], ["y"]), "node", []),
        (helper.make_node("Dropout", ["x", "", "mode"], ["y"]), "initializer", []),
        (helper.make_node("Dropout", ["x", "", "mode"], ["y"]), "on", ["Dropout"]),
        (helper.make_node("Relu", ["x"], ["y"]), None, []),
    ],
)
def test_what_is_random(node: NodeProto, mode: str | None, random: list[str]) -> None:
    graph = helper.make_graph(
        [*([constant(mode == "on")] if mode in ("node", "on") else []), node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])],
        [numpy_helper.from_array(np.array(False), "mode")] if mode == "initializer" else [],
    )
    assert random_operators(graph) == random
