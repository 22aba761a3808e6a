"""Find the integer inputs whose values decide how much a graph computes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from latbench_exporters.onnx.graph import real_inputs

if TYPE_CHECKING:
    import onnx

SIZES: Mapping[str, tuple[int, ...]] = {
    "CenterCropPad": (1,),
    "Compress": (1,),
    "ConstantOfShape": (0,),
    "Expand": (1,),
    "GRU": (4,),
    "If": (0,),
    "LSTM": (4,),
    "Loop": (0, 1),
    "NonZero": (0,),
    "OneHot": (1,),
    "Pad": (1,),
    "RNN": (4,),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "Slice": (1, 2, 4),
    "Split": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Unique": (0,),
    "Upsample": (1,),
}
"""Operator -> positions of the inputs whose values decide the size of what it computes."""
ARITHMETIC = frozenset(
    (
        *("Abs", "Add", "And", "Cast", "Ceil", "Clip", "Concat", "CumSum", "Div", "Equal"),
        *("Expand", "Floor", "Gather", "Greater", "GreaterOrEqual", "Identity", "Less"),
        *("LessOrEqual", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "ReduceMax", "ReduceMin"),
        *("ReduceProd", "ReduceSum", "Reshape", "Round", "Slice", "Split", "Squeeze", "Sub"),
        *("Unsqueeze", "Where", "Xor"),
    )
)
"""Operators that pass integers on as a program does. The others, from an embedding to a product,
make numbers of a network from them."""
LOOKUPS = ("Gather",)
"""Operators that pass on what is looked up, the first input, and not the integers that point."""


def deciding_inputs(graph: onnx.GraphProto) -> tuple[str, ...]:
    """Names of the integer and boolean inputs that decide a size, a branch or a number of steps."""
    import onnx

    kinds = onnx.TensorProto
    counting = (
        *(kinds.INT8, kinds.INT16, kinds.INT32, kinds.INT64, kinds.BOOL),
        *(kinds.UINT8, kinds.UINT16, kinds.UINT32, kinds.UINT64),
    )
    names = [
        value.name
        for value in real_inputs(graph)
        if value.type.tensor_type.elem_type in counting
        # Images of 8 bits are integers too.
        and len(value.type.tensor_type.shape.dim) < 3
    ]
    return tuple(name for name in names if _decides(graph, {name}))


def _decides(graph: onnx.GraphProto, reached: set[str]) -> bool:
    """Whether a size depends on one of the tensors ``reached``; adds those that depend on them."""
    for node in graph.node:
        at = [i for i, name in enumerate(node.input) if name in reached]
        if any(i in SIZES.get(node.op_type, ()) for i in at):
            return True
        for body in _bodies(node):
            pairs = zip(node.input, (value.name for value in body.input), strict=False)
            passed = {name for given, name in pairs if given in reached}
            if _decides(body, reached | passed):
                return True
        if at and node.op_type in ARITHMETIC and (node.op_type not in LOOKUPS or 0 in at):
            reached.update(name for name in node.output if name)
    return False


def _bodies(node: onnx.NodeProto) -> Iterable[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs
