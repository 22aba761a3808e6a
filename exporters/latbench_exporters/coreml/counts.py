"""Count operators, multiply-accumulates and weights in the MIL program of a Core ML package."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from latbench.api import Counts

COMPRESSED = "constexpr_"
"""Name prefix of the operations that expand compressed weights."""
AFFINE = ("scale", "zero_point", "offset", "axis", "shape", "num_palettes", "vector_axis")
"""Inputs of these operations that are not weights."""


QUANTIZED = {
    "constexpr_affine_dequantize": "quantized_data",
    "constexpr_blockwise_shift_scale": "data",
}
"""Operation that scales integers -> its input that holds the integers."""


def is_constant(operation: Any) -> bool:
    """Whether the outputs of ``operation`` do not depend on the program's inputs."""
    return bool(operation.op_type.startswith(COMPRESSED)) or all(
        variable.val is not None for variable in operation.outputs
    )


def count(operations: Sequence[Any]) -> Counts | None:
    """Count the operations of one function; ``None`` if a shape depends on the data."""
    macs, operators = 0, {"conv": 0, "linear": 0}
    constant: set[str] = set()
    for operation in operations:
        inputs = flat_inputs(operation)
        if is_constant(operation) or (
            inputs and all(variable.name in constant for variable in inputs)
        ):
            constant.update(variable.name for variable in operation.outputs)
            continue
        if operation.blocks:
            return None
        kind = operation.op_type
        if kind not in ("conv", "conv_transpose", "linear", "matmul", "einsum"):
            continue
        shapes = [variable.shape for variable in (*inputs, *operation.outputs)]
        if not all(isinstance(size, int) for shape in shapes for size in shape):
            return None
        if kind.startswith("conv"):
            operators["conv"] += 1
            across = operation.x if kind == "conv_transpose" else operation.outputs[0]
            macs += math.prod(across.shape) * math.prod(operation.weight.shape[1:])
        elif any(variable.name in constant for variable in _factors(operation)):
            operators["linear"] += 1
            macs += _product_macs(operation)
    found = weights(operations)
    return Counts(
        macs=macs,
        parameters=sum(math.prod(variable.shape) for variable in found),
        parameter_bytes=sum(_stored_bytes(variable) for variable in found),
        operators=operators,
    )


def flat_inputs(operation: Any) -> list[Any]:
    """All input variables of an operation, including those in lists."""
    return [v for v in operation.get_flattened_inputs() if v is not None]


def _factors(operation: Any) -> list[Any]:
    if operation.op_type == "einsum":
        return list(operation.inputs["values"])
    second = "weight" if operation.op_type == "linear" else "y"
    return [operation.inputs["x"], operation.inputs[second]]


def _product_macs(operation: Any) -> int:
    if operation.op_type == "einsum":
        left = operation.equation.val.partition("->")[0].replace(" ", "").split(",")
        sizes: dict[str, int] = {}
        for labels, variable in zip(left, operation.inputs["values"], strict=True):
            sizes.update(zip(labels, variable.shape, strict=True))
        return math.prod(sizes.values())
    transposed = operation.op_type == "matmul" and operation.transpose_x.val
    shape = operation.x.shape
    inner: int = shape[-2] if transposed else shape[-1]
    outputs: int = math.prod(operation.outputs[0].shape)
    return outputs * inner


def weights(operations: Sequence[Any]) -> list[Any]:
    """Floating-point constants with more than one element that the package stores, and the
    expanded values of compressed ones."""
    expanded = [o for o in operations if o.op_type.startswith(COMPRESSED)]
    helpers = {variable.name for o in expanded for variable in flat_inputs(o)}
    inner = {o.outputs[0].name for o in expanded} & helpers
    found = []
    for operation in operations:
        (variable, *_) = operation.outputs
        if operation.op_type == "const":
            value = variable.val
            if (
                getattr(value, "dtype", None) is not None
                and value.dtype.kind == "f"
                and value.size > 1
                and variable.name not in helpers
            ):
                found.append(variable)
        elif operation.op_type.startswith(COMPRESSED) and variable.name not in inner:
            found.append(variable)
    return found


def stored_in(operation: Any) -> str:
    """Precision of compressed weights; ``unknown`` for palettes and sparse weights, which have no
    single precision."""
    if operation.op_type == "constexpr_cast":
        return "fp16"  # the only type that this operation is created from
    if operation.op_type in QUANTIZED:
        bits = operation.inputs[QUANTIZED[operation.op_type]].dtype.get_bitwidth()
        return {4: "int4-weights", 8: "int8-weights"}.get(bits, "unknown")
    return "unknown"


def _stored_bytes(variable: Any) -> int:
    """Stored size in bytes: for compressed weights, the integers and tables without scales and
    zero points."""
    operation = variable.op
    if not operation.op_type.startswith(COMPRESSED):
        return int(variable.val.nbytes)
    bits = 0
    for name, source in operation.inputs.items():
        if name in AFFINE or source is None:
            continue
        if source.op is not None and source.op.op_type.startswith(COMPRESSED):
            bits += 8 * _stored_bytes(source)
        else:
            bits += math.prod(source.shape) * source.dtype.get_bitwidth()
    return -(-bits // 8)
