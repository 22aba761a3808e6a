"""What a ready ONNX file computes in, as far as its types and operators tell."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from latbench_exporters.onnx.graph import constant_tensors, multiplies, nodes

if TYPE_CHECKING:
    import onnx

QUANTISED = {
    *("QuantizeLinear", "DynamicQuantizeLinear"),
    *("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"),
}


def precision_of(model: onnx.ModelProto) -> str:
    """The lowest precision that the graph computes in; ``unknown`` where it has no name here:
    integers of other widths, doubles, 8-bit floats, operators that quantise inside."""
    import onnx

    graph, kinds = model.graph, onnx.TensorProto
    types = {value.type.tensor_type.elem_type for value in graph.input}
    # Weights in fp32 may be cast before they are used. (Casts to doubles are of shapes and steps.)
    halves = (kinds.FLOAT16, kinds.BFLOAT16)
    casts = (node for node in nodes(graph) if node.op_type == "Cast")
    types |= {a.i for node in casts for a in node.attribute if a.name == "to" and a.i in halves}
    for tensor in constant_tensors(graph).values():
        # Single doubles are bounds and steps.
        if tensor.data_type != kinds.DOUBLE or math.prod(tensor.dims) > 1:
            types.add(tensor.data_type)
    named = {kinds.FLOAT, kinds.FLOAT16, kinds.BFLOAT16, kinds.INT8, kinds.UINT8}
    named |= {kinds.INT32, kinds.INT64, kinds.BOOL}
    used = {node.op_type for node in graph.node}
    if not types <= named or any(map(_strange, graph.node)):
        return "unknown"
    if used & QUANTISED:
        return "int8"
    if "DequantizeLinear" in used:
        return "int8-weights"
    if kinds.BFLOAT16 in types:
        return "bf16"
    return "fp16" if kinds.FLOAT16 in types else "fp32"


def _strange(node: onnx.NodeProto) -> bool:
    """Whether it computes in a type that its inputs do not tell."""
    if node.op_type == "QuantizeLinear":
        return any(a.name == "output_dtype" and a.i for a in node.attribute)
    own = node.domain == "com.microsoft" and "Fused" not in node.op_type
    return own and multiplies(node)
