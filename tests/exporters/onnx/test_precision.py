"""The precision of quantized ONNX files, which decides how their outputs are compared."""

from __future__ import annotations

import pytest
from onnx import ModelProto, TensorProto, helper

from latbench.analysis.parity import COSINE, TOLERANCE
from latbench_exporters.onnx.precision import precision_of
from support import onnx_operators
from support.onnx_operators import constant, floats, model_of, node

CASES = onnx_operators.cases()


def weights_only(kind: int) -> ModelProto:
    packed = helper.make_tensor("q", kind, [8, 4], [1] * 32)
    return model_of(
        [node("DequantizeLinear", "q s", "w"), node("MatMul", "x w")],
        (2, 8),
        *(packed, constant("s", 0.1, "f4")),
        opset=21,
        ir_version=10,
    )


def activations(kind: str, weights: int) -> ModelProto:
    """Activations rounded to the type ``kind``, and weights of another one."""
    return model_of(
        [
            node("QuantizeLinear", "x s z", "q"),
            node("DequantizeLinear", "q s z", "f"),
            node("DequantizeLinear", "v s", "w"),
            node("MatMul", "f w"),
        ],
        (2, 8),
        *(constant("s", 0.1, "f4"), constant("z", 0, kind)),
        helper.make_tensor("v", weights, [8, 4], [1] * 32),
        opset=21,
        ir_version=10,
    )


PRECISIONS = {
    "int8 weights": (weights_only(TensorProto.INT8), "int8-weights"),
    "int4 weights": (weights_only(TensorProto.INT4), "int4-weights"),
    "int16 weights": (weights_only(TensorProto.INT16), "unknown"),
    "16-bit activations, 8-bit weights": (activations("u2", TensorProto.INT8), "int8"),
    "16-bit activations and weights": (activations("u2", TensorProto.INT16), "int16"),
    "8-bit activations": (activations("u1", TensorProto.INT8), "int8"),
    "dynamic": (CASES["MatMulInteger"].model, "int8"),
    "dynamic in one operator": (CASES["DynamicQuantizeMatMul"].model, "int8"),
    "QOperator": (CASES["QLinear operators"].model, "int8"),
    "QGemm": (CASES["QGemm"].model, "int8"),
    "packed weights": (CASES["MatMulNBits"].model, "int4-weights"),
    "floats": (CASES["Gemm"].model, "fp32"),
    "doubles": (model_of([node("Relu", "x")], (2,), given=11, made=11), "unknown"),
}


@pytest.mark.parametrize("name", PRECISIONS)
def test_quantized_files_are_recognized(name: str) -> None:
    model, precision = PRECISIONS[name]
    assert precision_of(model) == precision


@pytest.mark.parametrize("precision", ["int16", "int8", "int8-weights", "int4-weights"])
def test_quantized_files_are_held_to_a_cosine(precision: str) -> None:
    assert TOLERANCE[precision] == TOLERANCE["int8"]
    assert COSINE[precision] >= COSINE["int8"]


def test_a_quantizing_operator_in_a_branch_decides() -> None:
    body = helper.make_graph(
        [node("DynamicQuantizeMatMul", "x w s", "z", domain=onnx_operators.MICROSOFT)],
        "b",
        [],
        [onnx_operators.value("z")],
        [onnx_operators.bytes_("w", 8, 5), constant("s", 0.1, "f4")],
    )
    other = helper.make_graph(
        [node("MatMul", "x v", "u")], "o", [], [onnx_operators.value("u")], [floats("v", 8, 5)]
    )
    model = model_of(
        [node("If", "c", then_branch=body, else_branch=other)], (2, 8), constant("c", True, "?")
    )
    assert precision_of(model) == "int8"
