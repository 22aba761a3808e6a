"""Integers that decide how much is computed are told from those that are only looked up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from latbench_exporters.onnx.deciding import deciding_inputs
from support import onnx_files

INT, FLOAT = TensorProto.INT64, TensorProto.FLOAT


def graph(nodes: list[onnx.NodeProto], **inputs: tuple[int, list[int]]) -> onnx.GraphProto:
    values = [
        helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()
    ]
    return helper.make_graph(nodes, "g", values, [helper.make_tensor_value_info("y", FLOAT, None)])


def node(kind: str, inputs: str, outputs: str = "y") -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), outputs.split())


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (onnx_files.length, ("length",)),
        (onnx_files.gate, ("rate",)),
        (onnx_files.lookup, ()),
        (onnx_files.classifier, ()),
    ],
)
def test_files(make: Callable[[Path], Path], found: tuple[str, ...], tmp_path: Path) -> None:
    assert deciding_inputs(onnx.load(make(tmp_path / "m.onnx")).graph) == found


@pytest.mark.parametrize(
    ("nodes", "found"),
    [
        ([node("Reshape", "x n")], ("n",)),
        ([node("Cast", "n", "f"), node("Ceil", "f", "c"), node("Expand", "x c")], ("n",)),
        # The shape of an input is no value of it.
        ([node("Shape", "n", "s"), node("Expand", "x s")], ()),
        # What an embedding makes of integers are the numbers of a network.
        ([node("Gather", "table n", "e"), node("MatMul", "e x", "m"), node("Tile", "x m")], ()),
        ([node("Equal", "n n", "e"), node("NonZero", "e")], ("n",)),
        ([node("Add", "n n")], ()),
    ],
)
def test_operators(nodes: list[onnx.NodeProto], found: tuple[str, ...]) -> None:
    made = graph(nodes, x=(FLOAT, [4]), n=(INT, [1]), table=(FLOAT, [9, 4]))
    assert deciding_inputs(made) == found


def test_loops_pass_values_into_their_bodies() -> None:
    scalar = helper.make_tensor_value_info("again", TensorProto.BOOL, [])
    step = helper.make_tensor_value_info("i", INT, [])
    inner = helper.make_tensor_value_info("inner", INT, [1])
    carried = helper.make_tensor_value_info("out", FLOAT, None)
    body = helper.make_graph(
        [node("Identity", "again", "go"), node("Expand", "x inner", "out")],
        "body",
        [step, scalar, inner],
        [helper.make_tensor_value_info("go", TensorProto.BOOL, []), carried],
    )
    loop = helper.make_node("Loop", ["", "", "n"], ["y"], body=body)
    assert deciding_inputs(graph([loop], x=(FLOAT, [4]), n=(INT, [1]))) == ("n",)
    count = helper.make_node("Loop", ["n", ""], ["y"], body=body)
    assert deciding_inputs(graph([count], x=(FLOAT, [4]), n=(INT, [1]))) == ("n",)


def test_images_of_8_bits_are_no_numbers_of_a_program() -> None:
    pixels = (TensorProto.UINT8, [1, 8, 8, 3])
    assert deciding_inputs(graph([node("Reshape", "x n")], x=(FLOAT, [4]), n=pixels)) == ()
