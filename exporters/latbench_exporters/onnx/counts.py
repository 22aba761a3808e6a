"""Count the operators, multiply-accumulates and weights of ONNX graphs."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from latbench.api import Counts
from latbench_exporters.onnx.graph import inferred_shapes
from latbench_exporters.onnx.observed import observed_shapes

if TYPE_CHECKING:
    import onnx

CONVOLUTIONS = {
    "Conv": (0, 1),
    "ConvTranspose": (0, 1),
    "DeformConv": (0, 1),
    "QLinearConv": (0, 3),
}
PRODUCTS = {"Gemm": (0, 1), "MatMul": (0, 1), "QLinearMatMul": (0, 3)}
"""Operator -> positions of the two factors among its inputs; the inputs between are scales."""
NOT_COUNTED = re.compile("Conv|Gemm|MatMul|Einsum|LSTM|GRU|RNN|MoE")
"""Other operators that multiply with weights, which cannot be counted."""


def count(model: onnx.ModelProto) -> Counts | None:
    """Count MACs, parameters and operators.

    Shapes that inference cannot determine are observed in one run. ``None`` if that fails, if the
    graph has control flow, or if an uncounted operator multiplies with weights.
    """
    if any(node.op_type in ("If", "Loop", "Scan") for node in model.graph.node):
        return None
    graph = inferred_shapes(model).graph
    shapes = _shapes(model, graph)
    if shapes is None:
        return None
    constants = {tensor.name for tensor in graph.initializer}
    macs, operators = 0, {"conv": 0, "linear": 0}
    for node in graph.node:
        inputs = [name for name in node.input if name]
        if node.op_type == "Constant" or (inputs and constants.issuperset(inputs)):
            constants.update(node.output)
        elif node.op_type in CONVOLUTIONS or node.op_type in PRODUCTS:
            if node.op_type in CONVOLUTIONS:
                operators["conv"] += 1
                macs += _conv_macs(node, shapes)
            elif not constants.isdisjoint(_factors(node)):
                operators["linear"] += 1
                macs += _product_macs(node, shapes)
        elif multiplies(node) and not constants.isdisjoint(inputs):
            return None
    weights = _weights(graph)
    return Counts(
        macs=macs,
        parameters=sum(math.prod(tensor.dims) for tensor in weights),
        parameter_bytes=sum(_size_bytes(tensor) for tensor in weights),
        operators=operators,
    )


def _shapes(model: onnx.ModelProto, graph: onnx.GraphProto) -> dict[str, tuple[int, ...]] | None:
    """The shape of each tensor; ``None`` if one of a counted operator cannot be found.

    A tensor without a shape has an unknown rank, which is not the rank 0 of a scalar.
    """
    shapes = {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in (*graph.value_info, *graph.input, *graph.output)
        if value.type.tensor_type.HasField("shape")
    }
    shapes |= {name: tuple(tensor.dims) for name, tensor in constant_tensors(graph).items()}
    counted = {
        name
        for node in graph.node
        if node.op_type in CONVOLUTIONS or node.op_type in PRODUCTS
        for name in (*node.input, *node.output)
        if name
    }
    unknown = {name for name in counted if min(shapes.get(name, (0,)), default=1) < 1}
    if not unknown:
        return shapes
    observed = observed_shapes(model, unknown)
    return None if observed is None else shapes | observed


def multiplies(node: onnx.NodeProto) -> bool:
    """Whether an uncounted operator multiplies with a constant input.

    ONNX's own attention operator takes no weights; those of ONNX Runtime may.
    """
    attends = node.domain == "com.microsoft" and "Attention" in node.op_type
    return attends or NOT_COUNTED.search(node.op_type) is not None


def constant_tensors(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """Initializers and outputs of constant nodes, by name."""
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        for attribute in node.attribute if node.op_type == "Constant" else ():
            if attribute.name == "value":
                found[node.output[0]] = attribute.t
    return found


def _weights(graph: onnx.GraphProto) -> list[onnx.TensorProto]:
    """Floating-point tensors with more than one element, and integer tensors that are dequantized
    to such or are factors, without their scales and zero points."""
    import onnx

    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
    quantizers = [node for node in graph.node if node.op_type.endswith("quantizeLinear")]
    quantizers += [node for node in graph.node if node.op_type == "QuantizeLinear"]
    values = {node.input[0] for node in quantizers}
    helpers = {name for node in quantizers for name in node.input[1:]}
    for node in graph.node:
        if node.op_type in ("QLinearConv", "QLinearMatMul"):
            # The last input is the bias.
            own = {*_factors(node), *node.input[8:]}
            values |= own
            helpers |= set(node.input) - own
    return [
        tensor
        for name, tensor in constant_tensors(graph).items()
        if math.prod(tensor.dims) > 1
        and (name in values or (tensor.data_type in floats and name not in helpers))
    ]


def _factors(node: onnx.NodeProto) -> tuple[str, str]:
    left, right = (CONVOLUTIONS | PRODUCTS)[node.op_type]
    return node.input[left], node.input[right]


def _conv_macs(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """One kernel slice per output element (transposed convolution: per input element)."""
    image, kernel = _factors(node)
    across = image if node.op_type == "ConvTranspose" else node.output[0]
    return math.prod(shapes[across]) * math.prod(shapes[kernel][1:])


def _product_macs(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> int:
    transposed = any(a.name == "transA" and a.i for a in node.attribute)
    left = shapes[_factors(node)[0]]
    return math.prod(shapes[node.output[0]]) * (left[0] if transposed else left[-1])


def _size_bytes(tensor: onnx.TensorProto) -> int:
    import onnx

    itemsize = int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    elements: int = math.prod(tensor.dims)
    return elements * itemsize
