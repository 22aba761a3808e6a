"""Small ONNX graphs with one kind of operator each, and the multiply-accumulates that they do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper
from onnx import numpy_helper as arrays

MICROSOFT, CLASSICAL = "com.microsoft", "ai.onnx.ml"
FLOAT = TensorProto.FLOAT
IMAGE = (1, 3, 8, 8)


class Case(NamedTuple):
    """A model and its MACs; ``None`` if they cannot be counted, with the operator to blame."""

    model: ModelProto
    macs: int | None
    uncounted: str = ""


def value(name: str, shape: Sequence[int] | None = None, kind: int = FLOAT) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def node(kind: str, given: str, made: str = "y", **attributes: Any) -> NodeProto:
    """``given`` and ``made`` are names between spaces; ``-`` stands for an absent one."""
    names = [["" if name == "-" else name for name in text.split()] for text in (given, made)]
    return helper.make_node(kind, *names, **attributes)


def floats(name: str, *shape: int) -> TensorProto:
    draw = np.random.default_rng(len(name) + sum(shape))
    return arrays.from_array(draw.standard_normal(shape, dtype=np.float32) / 3, name)


def bytes_(name: str, *shape: int) -> TensorProto:
    draw = np.random.default_rng(sum(shape))
    return arrays.from_array(draw.integers(0, 200, shape).astype(np.uint8), name)


def constant(name: str, content: Any, dtype: str = "i8") -> TensorProto:
    return arrays.from_array(np.array(content, dtype), name)


def model_of(
    nodes: Sequence[NodeProto],
    shape: Sequence[int],
    *constants: TensorProto,
    given: int = FLOAT,
    made: int = FLOAT,
    opset: int = 17,
    ir_version: int = 8,
) -> ModelProto:
    """``x`` of ``shape`` to ``y``, whose shape the file does not say."""
    graph = helper.make_graph(
        nodes, "g", [value("x", shape, given)], [value("y", None, made)], constants
    )
    domains = [("", opset), (MICROSOFT, 1), (CLASSICAL, 3)]
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid(*domain) for domain in domains],
        ir_version=ir_version,
    )


def loop_body(*nodes: NodeProto) -> GraphProto:
    """From ``cur`` to ``nxt``, as often as the Loop says."""
    return helper.make_graph(
        [*nodes, node("Identity", "go", "on")],
        "body",
        [value("i", [], TensorProto.INT64), value("go", [], TensorProto.BOOL), value("cur")],
        [value("on", [], TensorProto.BOOL), value("nxt")],
    )


def looped(*nodes: NodeProto) -> list[NodeProto]:
    return [node("Loop", "times true x", body=loop_body(*nodes))]


def loop_constants(times: int) -> list[TensorProto]:
    return [constant("times", times), constant("true", True, "?")]


def branch(name: str, weight: str, pad: int) -> GraphProto:
    return helper.make_graph(
        [node("Conv", f"x {weight}", name, pads=[pad] * 4, name="conv")], name, [], [value(name)]
    )


def branched() -> ModelProto:
    """A 5x5 convolution, since the mean of the input is not above 9; else one of 3x3."""
    choice = node("If", "c", then_branch=branch("a", "w3", 1), else_branch=branch("b", "w5", 2))
    return model_of(
        [node("ReduceMean", "x", "m", keepdims=0), node("Greater", "m nine", "c"), choice],
        IMAGE,
        floats("w3", 3, 3, 3, 3),
        floats("w5", 3, 3, 5, 5),
        constant("nine", 9, "f4"),
    )


def _recurrent() -> Mapping[str, Case]:
    lengths = [
        node("Shape", "x", "s"),
        node("Gather", "s zero", "t"),
        node("Cast", "t", "t32", to=TensorProto.INT32),
        node("Expand", "t32 two", "lengths"),
    ]
    weights = floats("W", 1, 8, 6), floats("R", 1, 8, 8)
    return {
        "LSTM, both directions": Case(
            model_of(
                [node("LSTM", "x W R B", hidden_size=8, direction="bidirectional")],
                (5, 2, 6),
                *(floats("W", 2, 32, 6), floats("R", 2, 32, 8), floats("B", 2, 64)),
            ),
            5 * 2 * 2 * 32 * (6 + 8),
        ),
        "GRU with lengths": Case(
            model_of(
                [node("GRU", "x W R - L", hidden_size=8)],
                (5, 2, 6),
                *(floats("W", 1, 24, 6), floats("R", 1, 24, 8), constant("L", [5, 3], "i4")),
            ),
            (5 + 3) * 24 * (6 + 8),
        ),
        "RNN with computed lengths": Case(
            model_of(
                [*lengths, node("RNN", "x W R - lengths", hidden_size=8)],
                (5, 2, 6),
                *(*weights, constant("zero", [0]), constant("two", [2])),
            ),
            5 * 2 * 8 * (6 + 8),
        ),
        "DynamicQuantizeLSTM": Case(
            model_of(
                [
                    node(
                        "DynamicQuantizeLSTM",
                        "x W R B - - - - s z s z",
                        domain=MICROSOFT,
                        hidden_size=8,
                    )
                ],
                (5, 2, 6),
                *(bytes_("W", 1, 6, 32), bytes_("R", 1, 8, 32), floats("B", 1, 64)),
                *(constant("s", [0.02], "f4"), constant("z", [3], "u1")),
            ),
            5 * 2 * 32 * (6 + 8),
        ),
    }


def _products() -> Mapping[str, Case]:
    def einsum(equation: str, shape: Sequence[int], *weights: TensorProto) -> ModelProto:
        names = " ".join(["x", *(weight.name for weight in weights)])
        return model_of([node("Einsum", names, equation=equation)], shape, *weights)

    attention = {"domain": MICROSOFT, "num_heads": 2}
    return {
        "Einsum": Case(einsum("b...c, cd -> b...d", (2, 3, 4, 5), floats("w", 5, 7)), 24 * 5 * 7),
        "Einsum of three": Case(
            einsum("bc,cd,de->be", (2, 5), floats("w", 5, 7), floats("v", 7, 3)), None, "Einsum"
        ),
        "Einsum of activations": Case(
            model_of([node("Einsum", "x x", equation="bid,bjd->bij")], (2, 5, 4)), 0
        ),
        "Gemm": Case(model_of([node("Gemm", "x w", transB=1)], (2, 8), floats("w", 5, 8)), 80),
        "a weight on the left": Case(
            model_of([node("MatMul", "w x")], (3, 8, 5), floats("w", 4, 8)), 3 * 4 * 8 * 5
        ),
        "a vector": Case(model_of([node("MatMul", "x w")], (8,), floats("w", 8, 5)), 40),
        "FusedMatMul": Case(
            model_of(
                [node("FusedMatMul", "x w", domain=MICROSOFT, transA=1)], (8, 2), floats("w", 8, 5)
            ),
            80,
        ),
        "Attention with weights": Case(
            model_of(
                [node("Attention", "x w b", **attention)],
                (1, 6, 8),
                *(floats("w", 8, 24), floats("b", 24)),
            ),
            6 * 8 * 24,
        ),
        "attention without weights": Case(
            model_of(
                [node("MultiHeadAttention", "x x x b", **attention)], (1, 6, 8), floats("b", 24)
            ),
            0,
        ),
        "as many rows as are not zero": Case(
            model_of(
                [
                    node("NonZero", "x", "n"),
                    node("Cast", "n", "c", to=FLOAT),
                    node("Transpose", "c", "t"),
                    node("MatMul", "t w"),
                ],
                (4, 4),
                floats("w", 2, 5),
            ),
            16 * 2 * 5,
        ),
        "LinearClassifier": Case(
            model_of(
                [
                    node(
                        "LinearClassifier",
                        "x",
                        "label y",
                        domain=CLASSICAL,
                        coefficients=[0.1] * 6,
                        intercepts=[0.1] * 2,
                        classlabels_ints=[0, 1],
                    )
                ],
                (4, 3),
            ),
            None,
            "LinearClassifier",
        ),
    }


def _quantized() -> Mapping[str, Case]:
    dynamic = node("DynamicQuantizeLinear", "x", "q s z")
    scale, zero = constant("s", 0.02, "f4"), constant("z", 3, "u1")
    matrix, kernel = bytes_("w", 8, 5), bytes_("w", 4, 3, 3, 3)
    return {
        "ConvInteger": Case(
            model_of(
                [
                    dynamic,
                    node("ConvInteger", "q w z", "c"),
                    node("Cast", "c", "f", to=FLOAT),
                    node("Mul", "s ws", "sm"),
                    node("Mul", "f sm"),
                ],
                IMAGE,
                *(kernel, arrays.from_array(np.full((4, 1, 1), 0.1, np.float32), "ws")),
            ),
            4 * 36 * 27,
        ),
        "MatMulInteger": Case(
            model_of(
                [dynamic, node("MatMulInteger", "q w z", "c"), node("Cast", "c", to=FLOAT)],
                (2, 8),
                matrix,
            ),
            80,
        ),
        "MatMulIntegerToFloat": Case(
            model_of(
                [dynamic, node("MatMulIntegerToFloat", "q w s ws z", domain=MICROSOFT)],
                (2, 8),
                *(matrix, constant("ws", 0.02, "f4")),
            ),
            80,
        ),
        "DynamicQuantizeMatMul": Case(
            model_of(
                [node("DynamicQuantizeMatMul", "x w s z", domain=MICROSOFT)],
                (2, 8),
                *(matrix, scale, zero),
            ),
            80,
        ),
        "QGemm": Case(
            model_of(
                [
                    node("QuantizeLinear", "x s z", "q"),
                    node("QGemm", "q s z w s z - s z", "g", domain=MICROSOFT),
                    node("DequantizeLinear", "g s z"),
                ],
                (2, 8),
                *(matrix, scale, zero),
            ),
            80,
        ),
        "QLinear operators": Case(
            model_of(
                [
                    node("QuantizeLinear", "x s z", "q"),
                    node("QLinearConv", "q s z w s z s z", "c"),
                    node("QLinearAdd", "c s z c s z s z", "a", domain=MICROSOFT),
                    node("QLinearGlobalAveragePool", "a s z s z", "g", domain=MICROSOFT),
                    node("Flatten", "g", "f"),
                    node("QLinearMatMul", "f s z v s z s z", "m"),
                    node("DequantizeLinear", "m s z"),
                ],
                IMAGE,
                *(kernel, bytes_("v", 4, 6), scale, zero),
            ),
            4 * 36 * 27 + 24,
        ),
        "MatMulNBits": Case(
            model_of(
                [node("MatMulNBits", "x q s", domain=MICROSOFT, K=32, N=5, bits=4, block_size=32)],
                (2, 32),
                *(bytes_("q", 5, 1, 16), floats("s", 5)),
            ),
            2 * 32 * 5,
        ),
    }


def _control_flow() -> Mapping[str, Case]:
    conv = node("Conv", "cur w", "nxt", pads=[1] * 4)
    per_run = 3 * 64 * 27
    scan = helper.make_graph(
        [node("MatMul", "state w", "p"), node("Add", "p part", "next"), node("Relu", "next", "o")],
        "scan",
        [value("state"), value("part")],
        [value("next"), value("o")],
    )
    return {
        "Loop": Case(
            model_of(looped(conv), IMAGE, floats("w", 3, 3, 3, 3), *loop_constants(5)),
            5 * per_run,
        ),
        "Loop after a product": Case(
            model_of(
                [node("MatMul", "x v", "p"), node("Loop", "times true p", body=loop_body(conv))],
                IMAGE,
                *(floats("w", 3, 3, 3, 3), floats("v", 8, 8), *loop_constants(2)),
            ),
            3 * 64 * 8 + 2 * per_run,
        ),
        "Scan": Case(
            model_of(
                [node("Scan", "h x", "last y", body=scan, num_scan_inputs=1)],
                (7, 2, 4),
                *(floats("w", 4, 4), floats("h", 2, 4)),
            ),
            7 * 2 * 4 * 4,
        ),
        "If": Case(branched(), 3 * 64 * 75),
        "SequenceMap": Case(
            model_of(
                [
                    node("SplitToSequence", "x", "seq"),
                    node(
                        "SequenceMap",
                        "seq",
                        "mapped",
                        body=helper.make_graph(
                            [node("MatMul", "e w", "o")], "b", [value("e")], [value("o")]
                        ),
                    ),
                    node("ConcatFromSequence", "mapped", axis=0),
                ],
                (4, 4),
                floats("w", 4, 5),
            ),
            None,
            "SequenceMap",
        ),
    }


def _convolutions() -> Mapping[str, Case]:
    weight = floats("w", 4, 3, 3, 3)
    norm = [
        node("Shape", "x", "s"),
        node("Reshape", "x groups", "r"),
        node("InstanceNormalization", "r one zero", "i"),
        node("Reshape", "i s", "n"),
        node("Conv", "n w"),
    ]
    wrong = model_of([node("Conv", "x w")], IMAGE, weight)
    wrong.graph.output[0].CopyFrom(value("y", (1, 4, 2, 2)))
    return {
        "ConvTranspose in groups": Case(
            model_of(
                [node("ConvTranspose", "x w", strides=[2, 2], group=2)],
                (1, 4, 5, 5),
                floats("w", 4, 3, 2, 2),
            ),
            100 * 3 * 4,
        ),
        "FusedConv": Case(
            model_of(
                [node("FusedConv", "x w", domain=MICROSOFT, activation="Relu")], IMAGE, weight
            ),
            4 * 36 * 27,
        ),
        "GroupNorm in parts": Case(
            model_of(
                norm,
                (1, 8, 6, 6),
                *(constant("groups", [0, 4, -1]), constant("one", [1] * 4, "f4")),
                *(constant("zero", [0] * 4, "f4"), floats("w", 5, 8, 1, 1)),
            ),
            5 * 36 * 8,
        ),
        "an output of another shape than the file says": Case(wrong, 4 * 36 * 27),
    }


def cases() -> dict[str, Case]:
    """All of them, by what is special about each."""
    return {
        **_convolutions(),
        **_products(),
        **_recurrent(),
        **_quantized(),
        **_control_flow(),
    }


def save(model: onnx.ModelProto, path: Any) -> Any:
    """Write without any check, and return the path."""
    path.write_bytes(model.SerializeToString())
    return path
