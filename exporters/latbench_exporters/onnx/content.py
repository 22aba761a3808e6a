"""Describe an ONNX file as it is: open axes, operators, metadata. Nothing is executed."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from latbench.api import FileContent, OpenTensor, StageError
from latbench_exporters.onnx.deciding import deciding_inputs
from latbench_exporters.onnx.graph import parsed, read, real_inputs
from latbench_exporters.onnx.precision import precision_of
from latbench_exporters.onnx.walk import nodes

if TYPE_CHECKING:
    import onnx

PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
OTHER_WORK = frozenset(
    {
        *("LSTM", "GRU", "RNN", "If", "Loop", "Scan", "Einsum", "ConvInteger", "MatMulInteger"),
        *("QLinearConv", "QLinearMatMul", "DynamicQuantizeLSTM", "MatMulNBits", "FusedConv"),
    }
)
"""Operators whose work is not known from shapes alone, or that are not counted here."""


def inspect_file(path: Path) -> FileContent:
    """The content of the file at ``path``, external data not read. Raises :class:`StageError`."""
    import onnx

    model = parsed(path)
    # Integers of 64 bits are shapes, axes and indices.
    weights = [
        tensor
        for tensor in model.graph.initializer
        if len(tensor.dims) and tensor.data_type != onnx.TensorProto.INT64
    ]
    deciding = deciding_inputs(model.graph)
    inputs = tuple(
        replace(_tensor(value), decides=value.name in deciding)
        for value in real_inputs(model.graph)
    )
    return FileContent(
        inputs=inputs,
        outputs=tuple(_tensor(value) for value in model.graph.output),
        operators=Counter(
            _text(node.op_type)
            if node.domain in ("", "ai.onnx")
            else f"{_text(node.domain)}::{_text(node.op_type)}"
            for node in nodes(model.graph)
        ),
        details=_details(model),
        metadata={_text(entry.key): _text(entry.value) for entry in model.metadata_props},
        parameters=sum(math.prod(tensor.dims) for tensor in weights),
        parameter_bytes=sum(math.prod(tensor.dims) * _width(tensor) for tensor in weights),
        macs=_macs(model) if all(tensor.fixed for tensor in inputs) else None,
        precision=precision_of(model),
        problem=_problem(path),
    )


def _text(value: str | bytes) -> str:
    """A text of the file, which protobuf gives as bytes if it is not UTF-8."""
    return value if isinstance(value, str) else value.decode(errors="replace")


def _tensor(value: onnx.ValueInfoProto) -> OpenTensor:
    import onnx

    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        return OpenTensor(
            name=_text(value.name), shape=None, dtype=(kind or "unknown").split("_")[0]
        )
    tensor = value.type.tensor_type
    names = {number: name.lower() for name, number in onnx.TensorProto.DataType.items()}
    dtype = names.get(tensor.elem_type, f"type {tensor.elem_type}")
    return OpenTensor(
        name=_text(value.name),
        shape=tuple(
            int(dim.dim_value) if dim.HasField("dim_value") else (_text(dim.dim_param) or None)
            for dim in tensor.shape.dim
        )
        if tensor.HasField("shape")
        else None,
        dtype={"float": "float32", "double": "float64"}.get(dtype, dtype),
    )


def _details(model: onnx.ModelProto) -> dict[str, str]:
    opsets = {_text(entry.domain) or "ai.onnx": str(entry.version) for entry in model.opset_import}
    external = sorted(
        {
            _text(entry.value)
            for tensor in model.graph.initializer
            for entry in tensor.external_data
            if entry.key == "location"
        }
    )
    found = {
        "opset": opsets.pop("ai.onnx", "none"),
        **{f"opset {domain}": number for domain, number in sorted(opsets.items())},
        "IR version": str(model.ir_version),
        "producer": f"{_text(model.producer_name)} {_text(model.producer_version)}".strip(),
        "domain": _text(model.domain),
        "external data": ", ".join(external),
    }
    return {name: value for name, value in found.items() if value}


def _width(tensor: onnx.TensorProto) -> float:
    import onnx

    try:
        return float(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    except (KeyError, TypeError, ValueError):  # a type that this onnx does not know
        return 0


def _macs(model: onnx.ModelProto) -> int | None:
    """Multiply-accumulates of convolutions and of products with initializers; ``None`` if a shape
    is not inferred or another operator works with weights."""
    import onnx

    if OTHER_WORK.intersection(node.op_type for node in nodes(model.graph)):
        return None
    try:
        graph = onnx.shape_inference.infer_shapes(model).graph
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        return None
    weights = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    shapes = {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
    macs = 0
    for node in graph.node:
        if node.op_type not in PRODUCTS or not weights.keys() & set(node.input[:2]):
            continue
        if len(node.input) < 2 or not node.output:
            return None
        across = shapes.get(node.input[0] if node.op_type == "ConvTranspose" else node.output[0])
        factor = weights.get(node.input[1]) or shapes.get(node.input[1])
        if not across or not factor or 0 in across:
            return None
        turned = any(each.name == "transB" and each.i for each in node.attribute)
        if node.op_type.startswith("Conv"):
            macs += math.prod(across) * math.prod(factor[1:])
        else:
            macs += math.prod(across) * (factor[-1] if turned or len(factor) < 2 else factor[-2])
    return macs


def _problem(path: Path) -> str | None:
    """Why the file cannot be measured, if the checks that come before a measurement say so."""
    try:
        read(path, runtime=False)
    except StageError as error:
        return error.message
    return None
