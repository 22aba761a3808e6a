"""Determine the precision of a pre-exported ONNX file from its types and operators."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from latbench_exporters.onnx import work
from latbench_exporters.onnx.counts import all_constants
from latbench_exporters.onnx.walk import nodes

if TYPE_CHECKING:
    import onnx

QUANTIZES = re.compile("^(Dynamic)?Quantize|^QLinear|^QGemm|^QAttention|^QMoE|^QOrdered|Integer")
"""Operators that compute in, or round to, integers."""
FOUR_BITS = ("INT4", "UINT4", "INT2", "UINT2", "FLOAT4E2M1")


def precision_of(model: onnx.ModelProto) -> str:
    """The lowest precision of the graph's arithmetic; ``unknown`` for doubles, 8-bit floats, and
    operators that quantize internally in ways that the file does not show."""
    import onnx

    graph, kinds = model.graph, onnx.TensorProto
    every = list(nodes(graph))
    types = {value.type.tensor_type.elem_type for value in graph.input}
    # fp32 weights may be cast before use. (Casts to double are for shapes and steps.)
    halves = (kinds.FLOAT16, kinds.BFLOAT16)
    casts = (node for node in every if node.op_type == "Cast")
    types |= {a.i for node in casts for a in node.attribute if a.name == "to" and a.i in halves}
    for _, tensor in all_constants(graph):
        # Scalar doubles are bounds and steps.
        if tensor.data_type != kinds.DOUBLE or math.prod(tensor.dims) > 1:
            types.add(tensor.data_type)
    types |= {kind for node in every if (kind := work.attribute(node, "output_dtype", 0))}
    names = {kind: name for name, kind in kinds.DataType.items()}
    if found := _quantized(every, {names[kind] for kind in types & names.keys()}):
        return found
    named = {kinds.FLOAT, kinds.FLOAT16, kinds.BFLOAT16, kinds.INT8, kinds.UINT8}
    named |= {kinds.INT32, kinds.INT64, kinds.BOOL, kinds.STRING}
    if not types <= named:
        return "unknown"
    if kinds.BFLOAT16 in types:
        return "bf16"
    return "fp16" if kinds.FLOAT16 in types else "fp32"


def _quantized(every: list[onnx.NodeProto], types: set[str]) -> str | None:
    """The precision of a quantized graph; ``None`` for any other one."""
    used = {node.op_type for node in every}
    if any(name.startswith("FLOAT8") for name in types):
        return "unknown"
    bits = {work.attribute(node, "bits", 4) for node in every if _packs(node)}
    if any(QUANTIZES.search(name) for name in used):
        # Activations of 16 bits usually have weights of 8, which are the lowest.
        return "int8" if bits or types & {"INT8", "UINT8", *FOUR_BITS} else "int16"
    if bits - {4, 8} or used & {"MatMulBnb4", "MatMulFpQ4"}:
        return "unknown"
    if 4 in bits or ("DequantizeLinear" in used and types.intersection(FOUR_BITS)):
        return "int4-weights"
    if "DequantizeLinear" not in used and not bits:
        return None
    return "int8-weights" if bits or types & {"INT8", "UINT8"} else "unknown"


def _packs(node: onnx.NodeProto) -> bool:
    """Whether the node holds weights of a few bits, packed into bytes."""
    return node.op_type in ("MatMulNBits", "GatherBlockQuantized")
