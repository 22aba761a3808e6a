"""Count the work and weights in the parts of an ExecuTorch program: kernels and XNNPACK graphs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from latbench.api import Counts

DTYPES = {
    0: "uint8",
    1: "int8",
    2: "int16",
    3: "int32",
    4: "int64",
    5: "float16",
    6: "float32",
    7: "float64",
    11: "bool",
}
"""ExecuTorch ScalarType -> numpy name."""
BFLOAT16 = 15
"""ExecuTorch ScalarType without a numpy equivalent."""
XNN_BYTES = {
    "fp32": 4,
    "fp16": 2,
    "bf16": 2,
    "qint8": 1,
    "quint8": 1,
    "qcint8": 1,
    "qint32": 4,
    "qcint32": 4,
}
"""Element types of XNNPACK constants that are weights -> bytes per element."""
PRODUCTS = {"linear": (0, 1), "mm": (0, 1), "bmm": (0, 1), "addmm": (1, 2), "baddbmm": (1, 2)}
"""ATen kernel -> positions of the two factors among its arguments."""


@dataclass(kw_only=True)
class Work:
    """Totals over the parts of a program."""

    macs: int = 0
    convolutions: int = 0
    products: int = 0
    parameters: int = 0
    parameter_bytes: int = 0
    types: set[str] = field(default_factory=set)

    def weigh(self, elements: int, itemsize: int) -> None:
        if elements > 1:
            self.parameters += elements
            self.parameter_bytes += elements * itemsize

    def counts(self) -> Counts:
        return Counts(
            macs=self.macs,
            parameters=self.parameters,
            parameter_bytes=self.parameter_bytes,
            operators={"conv": self.convolutions, "linear": self.products},
        )


def add_constants(work: Work, values: Sequence[Any]) -> set[int]:
    """Count the floating-point constants; return the indices of all constants."""
    weights = {
        index
        for index, value in enumerate(values)
        if hasattr(value, "sizes") and value.data_buffer_idx and value.allocation_info is None
    }
    for value in (values[index] for index in sorted(weights)):
        dtype = DTYPES.get(int(value.scalar_type), "")
        if dtype.startswith("float"):
            bits = int(dtype.removeprefix("float"))
            work.types.add(f"fp{bits}")
            work.weigh(math.prod(value.sizes), bits // 8)
        elif int(value.scalar_type) == BFLOAT16:
            work.types.add("bf16")
            work.weigh(math.prod(value.sizes), 2)
    return weights


def add_kernel(
    work: Work, name: str, args: Sequence[int], values: Sequence[Any], weights: set[int]
) -> None:
    """Count one of ExecuTorch's own kernels. Its output is the last argument, twice."""
    output = values[args[-1]]
    if name == "convolution":
        across = values[args[0]] if values[args[6]].bool_val else output
        work.convolutions += 1
        work.macs += math.prod(across.sizes) * math.prod(values[args[1]].sizes[1:])
        return
    factors = [args[i] for i in PRODUCTS.get(name, ())]
    tensors = [i for i in args if i != args[-1] and hasattr(values[i], "sizes")]
    if not weights.isdisjoint(factors):
        work.products += 1
        work.macs += math.prod(output.sizes) * values[factors[0]].sizes[-1]
    elif tensors and weights.issuperset(tensors):
        # Computed from weights only, such as a transposed weight.
        weights.add(args[-1])


def add_graph(work: Work, graph: Mapping[str, Any]) -> None:
    """Count XNNPACK operators. Kernel layout is (out, height, width, in), depthwise
    (1, height, width, out)."""
    tensors = {tensor["id_out"]: tensor for tensor in _tensors(graph)}
    for tensor in tensors.values():
        kind = str(tensor["datatype"]).removeprefix("xnn_datatype_")
        work.types.add(kind)
        if tensor["constant_buffer_idx"] and kind in XNN_BYTES:
            work.weigh(math.prod(tensor["dims"]), XNN_BYTES[kind])
    for node in graph["xnodes"]:
        kind, fields = node["xnode_union_type"], node["xnode_union"]
        if kind in ("XNNConv2d", "XNNDepthwiseConv2d", "XNNConvTranspose2d"):
            transposed = kind == "XNNConvTranspose2d"
            across = tensors[fields["input1_id" if transposed else "output_id"]]["dims"]
            channels = fields["group_output_channels" if transposed else "group_input_channels"]
            window = fields["kernel_height"] * fields["kernel_width"]
            work.convolutions += 1
            work.macs += math.prod(across) * window * channels
        elif kind == "XNNFullyConnected":
            output, weight = (
                tensors[fields["output_id"]]["dims"],
                tensors[fields["filter_id"]]["dims"],
            )
            work.products += 1
            # The filter is (out, in), or transposed if flags say so; the product is the same.
            work.macs += math.prod(output) * math.prod(weight) // output[-1]
        elif kind == "XNNBatchMatrixMultiply" and any(
            tensors[fields[name]]["constant_buffer_idx"] for name in ("input1_id", "input2_id")
        ):
            output, left = (
                tensors[fields["output_id"]]["dims"],
                tensors[fields["input1_id"]]["dims"],
            )
            work.products += 1
            work.macs += math.prod(output) * left[-1]


def _tensors(graph: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """All tensors, including those wrapped in a quantized value."""
    for value in graph["xvalues"]:
        fields = value["xvalue_union"]
        yield fields.get("tensor_value", fields)
