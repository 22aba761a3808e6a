"""Determine the precision of a pre-exported ONNX file from its types and operators."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from latbench_exporters.onnx.counts import constant_tensors, multiplies
from latbench_exporters.onnx.graph import nodes

if TYPE_CHECKING:
    import onnx

QUANTIZED = {
    *("QuantizeLinear", "DynamicQuantizeLinear"),
    *("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"),
}


def precision_of(model: onnx.ModelProto) -> str:
    """The lowest precision of the graph's arithmetic; ``unknown`` for integers of other widths,
    doubles, 8-bit floats, and operators that quantize internally."""
    import onnx

    graph, kinds = model.graph, onnx.TensorProto
    types = {value.type.tensor_type.elem_type for value in graph.input}
    # fp32 weights may be cast before use. (Casts to double are for shapes and steps.)
    halves = (kinds.FLOAT16, kinds.BFLOAT16)
    casts = (node for node in nodes(graph) if node.op_type == "Cast")
    types |= {a.i for node in casts for a in node.attribute if a.name == "to" and a.i in halves}
    for tensor in constant_tensors(graph).values():
        # Scalar doubles are bounds and steps.
        if tensor.data_type != kinds.DOUBLE or math.prod(tensor.dims) > 1:
            types.add(tensor.data_type)
    named = {kinds.FLOAT, kinds.FLOAT16, kinds.BFLOAT16, kinds.INT8, kinds.UINT8}
    named |= {kinds.INT32, kinds.INT64, kinds.BOOL}
    used = {node.op_type for node in graph.node}
    if not types <= named or any(map(_strange, graph.node)):
        return "unknown"
    if used & QUANTIZED:
        return "int8"
    if "DequantizeLinear" in used:
        return "int8-weights"
    if kinds.BFLOAT16 in types:
        return "bf16"
    return "fp16" if kinds.FLOAT16 in types else "fp32"


def _strange(node: onnx.NodeProto) -> bool:
    """Whether the node computes in a type that its inputs do not show."""
    if node.op_type == "QuantizeLinear":
        return any(a.name == "output_dtype" and a.i for a in node.attribute)
    own = node.domain == "com.microsoft" and "Fused" not in node.op_type
    return own and multiplies(node)
