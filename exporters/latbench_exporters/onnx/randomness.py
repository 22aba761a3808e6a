"""Find operators of ONNX graphs whose results differ from run to run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latbench_exporters.onnx.counts import constant_tensors
from latbench_exporters.onnx.walk import nodes

if TYPE_CHECKING:
    import onnx

RANDOM = ("Bernoulli", "Multinomial")
"""Operators that draw numbers, besides those whose names begin with Random."""


def random_operators(graph: onnx.GraphProto) -> list[str]:
    """Types of the operators that draw random numbers, sorted. Dropout does in training mode."""
    import numpy as np
    import onnx

    off = {
        name
        for name, tensor in constant_tensors(graph).items()
        if tensor.data_type == onnx.TensorProto.BOOL
        and not np.any(onnx.numpy_helper.to_array(tensor))
    }
    return sorted(
        {
            node.op_type
            for node in nodes(graph)
            if node.op_type.startswith("Random")
            or node.op_type in RANDOM
            or (
                node.op_type == "Dropout"
                and len(node.input) > 2
                and node.input[2] not in ("", *off)
            )
        }
    )
