"""Read, check, describe and write ONNX graphs. Nothing is executed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from latbench.api import StageError, TensorSpec, first_line

if TYPE_CHECKING:
    import onnx

LIMIT_BYTES = 2**31 - 1
"""Size limit of a protobuf file."""
KNOWN_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc")


def read(path: Path) -> onnx.ModelProto:
    """Read a model with its external data, functions inlined. Raises :class:`StageError`."""
    import onnx
    import onnx.inliner
    from google.protobuf.message import DecodeError

    try:
        model: onnx.ModelProto = onnx.load(path)
        # The checker rejects larger models as damaged.
        _require_size(model)
        onnx.checker.check_model(model)
        model = onnx.inliner.inline_local_functions(model)
    except (DecodeError, onnx.checker.ValidationError, ValueError, OSError, RuntimeError) as error:
        reason = first_line(error)
        raise StageError(
            "export",
            f"{path.name} is not a valid ONNX file: {reason}",
            hint="truncated, corrupt, or not an ONNX file: export or download it again",
        ) from error
    _refuse_custom_operators(model, path.name)
    return model


def write(model: onnx.ModelProto, path: Path) -> None:
    """Write one file, without paths and stack traces of the exporting machine."""
    for node in nodes(model.graph):
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    _require_size(model)
    path.write_bytes(model.SerializeToString(deterministic=True))


def describe(
    model: onnx.ModelProto,
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs. Output sizes that shape inference cannot determine are 0 or missing."""
    inferred = inferred_shapes(model).graph
    return (
        tuple(tensor_spec(value) for value in real_inputs(inferred)),
        tuple(tensor_spec(value) for value in inferred.output),
    )


def _require_size(model: onnx.ModelProto) -> None:
    size = model.ByteSize()
    if size > LIMIT_BYTES:
        raise StageError(
            "export",
            f"the model has {size} bytes; an ONNX file holds at most {LIMIT_BYTES}",
            hint="use a smaller model or a lower precision",
        )


def real_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """Inputs that are not initializers: before IR version 4, weights were listed as inputs."""
    weights = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in weights]


def tensor_spec(value: onnx.ValueInfoProto) -> TensorSpec:
    """Name, shape (0 for dynamic axes) and numpy type. Raises :class:`StageError` for other values
    than numeric tensors."""
    import onnx

    tensor = value.type.tensor_type
    if tensor.elem_type in (onnx.TensorProto.UNDEFINED, onnx.TensorProto.STRING):
        raise StageError(
            "export",
            f"{value.name!r} is not a numeric tensor (but a sequence, map, or strings)",
            hint="only numeric tensors can be seeded and compared",
        )
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    return TensorSpec(
        name=value.name, shape=tuple(dim.dim_value for dim in tensor.shape.dim), dtype=dtype
    )


def inferred_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with inferred shapes of intermediate values."""
    import onnx

    return onnx.shape_inference.infer_shapes(model)


def _refuse_custom_operators(model: onnx.ModelProto, name: str) -> None:
    custom = sorted(
        {
            f"{node.domain}::{node.op_type}"
            for node in nodes(model.graph)
            if node.domain not in KNOWN_DOMAINS
        }
    )
    if custom:
        raise StageError(
            "export",
            f"{name} requires custom operators that no runtime here has: {', '.join(custom)}",
            hint="export it with standard operators; operator libraries are not loaded",
        )


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All nodes, including those of subgraphs. Iterative, since the file determines the depth."""
    pending = [graph]
    while pending:
        for node in pending.pop().node:
            yield node
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    pending.append(attribute.g)
                pending.extend(attribute.graphs)
