"""Multiply-accumulates of ONNX operators, from the shapes of their inputs and outputs."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx

Shape = tuple[int, ...]
ShapeOf = Callable[[str], Shape]

CONVOLUTIONS = {
    **dict.fromkeys(("Conv", "ConvTranspose", "DeformConv", "ConvInteger"), (0, 1)),
    **dict.fromkeys(("FusedConv", "NhwcConv", "NhwcFusedConv"), (0, 1)),
    **dict.fromkeys(("ConvTransposeWithDynamicPads",), (0, 1)),
    "QLinearConv": (0, 3),
}
PRODUCTS = {
    **dict.fromkeys(("Gemm", "MatMul", "MatMulInteger"), (0, 1)),
    **dict.fromkeys(("FusedGemm", "FusedMatMul", "TransposeMatMul", "GemmFastGelu"), (0, 1)),
    **dict.fromkeys(("MatMulIntegerToFloat", "DynamicQuantizeMatMul", "MatMulNBits"), (0, 1)),
    **dict.fromkeys(("QLinearMatMul", "QGemm"), (0, 3)),
    # Projects to queries, keys and values with one product; the rest multiplies activations.
    **dict.fromkeys(("com.microsoft.Attention", "PackedAttention", "QAttention"), (0, 1)),
}
RECURRENT = dict.fromkeys(("LSTM", "GRU", "RNN", "DynamicQuantizeLSTM"), (1, 2))
"""Operator -> positions of the two factors among its inputs; for recurrent layers, the positions of
both weights."""
FACTORS = CONVOLUTIONS | PRODUCTS | RECURRENT
LENGTHS = 4
"""Position of the lengths of the sequences among the inputs of recurrent layers."""
LINEAR = "linear"

QUANTIZED_VALUES = {
    "QLinearConv": (0, 3, 8),
    "QLinearMatMul": (0, 3),
    "QGemm": (0, 3, 6),
    "ConvInteger": (0, 1),
    "MatMulInteger": (0, 1),
    "MatMulIntegerToFloat": (0, 1, 6),
    "DynamicQuantizeMatMul": (0, 1, 4),
    "DynamicQuantizeLSTM": (0, 1, 2, 3, 7),
    "MatMulNBits": (0, 1, 5),
    "QAttention": (0, 1, 2),
    "QLinearAdd": (0, 3),
    "QLinearMul": (0, 3),
    "QuantizeLinear": (0,),
    "DequantizeLinear": (0,),
    "DynamicQuantizeLinear": (0,),
    "GatherBlockQuantized": (0, 1),
}
"""Quantized operator -> positions of its values; its other inputs are scales and zero points."""
_OTHER_PRODUCT = re.compile("Conv|Gemm|MatMul|Einsum|LSTM|GRU|RNN|MoE|Attention|BeamSearch")
_WITHOUT_WEIGHTS = re.compile(
    "^(Attention|LinearAttention|MultiHeadAttention|GroupQueryAttention|SparseAttention"
    "|PagedAttention|DecoderMaskedMultiHeadAttention|PackedMultiHeadAttention)$"
)
_WEIGHTS_INSIDE = re.compile("^(TreeEnsemble|SVM|Linear(Classifier|Regressor))")
"""Operators of classical machine learning, whose coefficients are attributes."""


def name_of(node: onnx.NodeProto) -> str:
    """The operator's name as the tables of this module have it."""
    own = f"{node.domain}.{node.op_type}"
    return own if own in FACTORS else node.op_type


def kind_of_work(node: onnx.NodeProto) -> str | None:
    """The kind of :attr:`~latbench.schema.artifact.Counts.operators` that the operator belongs to;
    ``None`` if it is not counted."""
    name = name_of(node)
    if name in CONVOLUTIONS:
        return "conv"
    if name in RECURRENT:
        return "recurrent"
    return LINEAR if name in PRODUCTS or name == "Einsum" else None


def factors(node: onnx.NodeProto) -> list[str]:
    """Names of the tensors that a counted operator multiplies."""
    inputs = list(node.input)
    if node.op_type == "Einsum":
        return inputs
    return [inputs[i] for i in FACTORS[name_of(node)] if i < len(inputs)]


def multiplies(node: onnx.NodeProto) -> bool:
    """Whether an operator that is not counted multiplies with constant inputs that it may have."""
    return (
        _OTHER_PRODUCT.search(node.op_type) is not None
        and _WITHOUT_WEIGHTS.search(node.op_type) is None
    )


def has_weights_inside(node: onnx.NodeProto) -> bool:
    """Whether the weights are attributes of the node, which are not counted."""
    return _WEIGHTS_INSIDE.search(node.op_type) is not None


def macs(node: onnx.NodeProto, shape_of: ShapeOf, steps: int | None = None) -> int:
    """Multiply-accumulates of one execution. ``steps`` is the sum of the lengths of a batch of
    sequences, if a recurrent operator has lengths.

    Raises :class:`ValueError` for a form that is not counted.
    """
    name = name_of(node)
    if name in RECURRENT:
        weights = sum(math.prod(shape_of(factor)) for factor in factors(node))
        return (math.prod(shape_of(node.input[0])[:2]) if steps is None else steps) * weights
    if name == "Einsum":
        return _einsum(node, shape_of)
    left, right = factors(node)
    if name in CONVOLUTIONS:
        # One kernel slice per output element (transposed convolution: per input element).
        across = left if name.startswith("ConvTranspose") else node.output[0]
        return math.prod(shape_of(across)) * math.prod(shape_of(right)[1:])
    if name.endswith("Attention"):
        return math.prod(shape_of(left)) * shape_of(right)[-1]
    if attribute(node, "transBatchA", 0):
        raise ValueError("transBatchA")
    axis = -2 if attribute(node, "transA", 0) and len(shape_of(left)) > 1 else -1
    return math.prod(shape_of(node.output[0])) * shape_of(left)[axis]


def attribute(node: onnx.NodeProto, name: str, otherwise: Any) -> Any:
    """The value of an attribute of a node, or ``otherwise``."""
    import onnx

    found = (a for a in node.attribute if a.name == name)
    return next((onnx.helper.get_attribute_value(a) for a in found), otherwise)


def _einsum(node: onnx.NodeProto, shape_of: ShapeOf) -> int:
    """The product of the sizes of all labels, which is exact for two factors."""
    equation = attribute(node, "equation", b"").decode().replace(" ", "")
    terms = equation.partition("->")[0].split(",")
    if len(terms) != 2:
        raise ValueError(f"{len(terms)} factors")
    sizes: dict[str, int] = {}
    for term, name in zip(terms, node.input, strict=True):
        shape = shape_of(name)
        before, dots, after = term.partition("...")
        hidden = len(shape) - len(before) - len(after)
        # Axes under the dots are aligned at the end, as in broadcasting.
        labels = [*before, *(f".{i - hidden}" for i in range(hidden if dots else 0)), *after]
        for label, size in zip(labels, shape, strict=True):
            sizes[label] = max(size, sizes.get(label, size))
    return math.prod(sizes.values())
