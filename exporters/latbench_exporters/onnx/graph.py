"""Read, check, count and write ONNX graphs. Nothing is executed."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from latbench.api import Counts, ExportSpec, StageError, TensorSpec, UsageError, first_line
from latbench_exporters.ready import IMAGE_AXES, check_axes

if TYPE_CHECKING:
    import onnx

LIMIT_BYTES = 2**31 - 1
"""Size limit of a protobuf file."""
KNOWN_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc")
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
    inferred = _inferred(model).graph
    return (
        tuple(_spec(value) for value in _real_inputs(inferred)),
        tuple(_spec(value) for value in inferred.output),
    )


def fix_shapes(model: onnx.ModelProto, spec: ExportSpec) -> None:
    """Set every dynamic axis of the inputs to a fixed size, in place.

    ``spec.batch`` is the first axis of every input, ``spec.resolution`` height and width of 4-D
    inputs; ``spec.dims`` sets any other axis by name.

    Raises :class:`StageError` if an axis has no size, and :class:`UsageError` if an axis is fixed
    at another size or does not exist.
    """
    inputs = _real_inputs(model.graph)
    if not inputs:
        raise StageError(
            "export",
            "the ONNX file has no inputs, so it cannot be timed",
            hint="its output is constant; export the model with its input",
        )
    check_axes(tuple(_spec(value) for value in inputs), spec)
    missing = []
    unused = set(spec.dims)
    for value in inputs:
        shape = value.type.tensor_type.shape.dim
        for axis, dim in enumerate(shape):
            unused.discard(dim.dim_param)
            asked = _asked(value, axis, spec)
            if dim.dim_value > 0:
                if asked is not None and asked != dim.dim_value:
                    raise UsageError(
                        f"axis {axis} of input {value.name!r} is fixed at {dim.dim_value} in the "
                        f"file; requested {asked}",
                        hint="omit the option, or export the file again with that size",
                    )
            elif asked is None:
                missing.append(f"axis {axis} ({dim.dim_param or 'unnamed'}) of {value.name!r}")
            else:
                dim.dim_value = asked
    if unused:
        raise UsageError(f"the file has no axis named {', '.join(sorted(unused))}")
    if missing:
        raise StageError(
            "export",
            f"no size given for the dynamic {', '.join(missing)}",
            hint="use --batch, --resolution, or --dim NAME=SIZE",
        )
    # Shapes of other tensors may still contain the axis names, so infer them again.
    del model.graph.value_info[:]


def count(model: onnx.ModelProto) -> Counts | None:
    """Count MACs, parameters and operators.

    ``None`` if they depend on the data (control flow, or shapes that inference cannot determine)
    or if an uncounted operator multiplies with weights.
    """
    if any(node.op_type in ("If", "Loop", "Scan") for node in model.graph.node):
        return None
    graph = _inferred(model).graph
    shapes = {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in (*graph.value_info, *graph.input, *graph.output)
    }
    shapes.update({tensor.name: tuple(tensor.dims) for tensor in graph.initializer})
    constants = {tensor.name for tensor in graph.initializer}
    macs, operators = 0, {"conv": 0, "linear": 0}
    for node in graph.node:
        inputs = [name for name in node.input if name]
        if node.op_type == "Constant" or (inputs and constants.issuperset(inputs)):
            constants.update(node.output)
        elif node.op_type in CONVOLUTIONS or node.op_type in PRODUCTS:
            if any(min(shapes.get(name, (0,)), default=1) < 1 for name in (*inputs, *node.output)):
                return None
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


def multiplies(node: onnx.NodeProto) -> bool:
    """Whether an uncounted operator multiplies with a constant input.

    ONNX's own attention operator takes no weights; those of ONNX Runtime may.
    """
    attends = node.domain == "com.microsoft" and "Attention" in node.op_type
    return attends or NOT_COUNTED.search(node.op_type) is not None


def _require_size(model: onnx.ModelProto) -> None:
    size = model.ByteSize()
    if size > LIMIT_BYTES:
        raise StageError(
            "export",
            f"the model has {size} bytes; an ONNX file holds at most {LIMIT_BYTES}",
            hint="use a smaller model or a lower precision",
        )


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


def _asked(value: onnx.ValueInfoProto, axis: int, spec: ExportSpec) -> int | None:
    """The requested size of one input axis. Raises :class:`UsageError` if two options disagree."""
    axes = value.type.tensor_type.shape.dim
    name = axes[axis].dim_param
    named, placed = spec.dims.get(name), _placed([dim.dim_value for dim in axes], axis, spec)
    if named is not None and placed is not None and named != placed:
        raise UsageError(
            f"axis {axis} ({name}) of input {value.name!r} has two requested sizes: {named} by "
            f"--dim, {placed} by {'--batch' if axis == 0 else '--resolution'}",
            hint="omit one of the options",
        )
    return placed if named is None else named


def _placed(sizes: Sequence[int], axis: int, spec: ExportSpec) -> int | None:
    """Size of an axis according to batch and resolution; dynamic axes are 0 in ``sizes``."""
    if axis == 0:
        return spec.batch
    if len(sizes) != IMAGE_AXES or spec.resolution is None:
        return None
    first = 1 if sizes[3] in (1, 3, 4) and sizes[1] not in (1, 3, 4) else 2
    return spec.resolution[axis - first] if axis in (first, first + 1) else None


def _real_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """Inputs that are not initializers: before IR version 4, weights were listed as inputs."""
    weights = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in weights]


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
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


def _inferred(model: onnx.ModelProto) -> onnx.ModelProto:
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
