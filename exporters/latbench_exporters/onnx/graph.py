"""Read, check, describe and write ONNX graphs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from latbench.api import StageError, TensorSpec, first_line
from latbench.schema.input_content import STRING
from latbench_exporters.onnx import external
from latbench_exporters.onnx.walk import graphs, nodes, sort_nodes

if TYPE_CHECKING:
    import onnx

KNOWN_DOMAINS = (
    *("", "ai.onnx", "ai.onnx.ml", "ai.onnx.preview", "ai.onnx.preview.training"),
    *("com.microsoft", "com.microsoft.nchwc", "com.ms.internal.nhwc"),
)
NUMERIC = (
    *("FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16", "BOOL"),
    *("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"),
)
"""Element types of inputs and outputs that can be given and compared."""
POINTER = b"version https://git-lfs"
"""How a file begins that stands for another one in a Git repository without its large files."""


def read(path: Path, *, runtime: bool = True) -> onnx.ModelProto:
    """Read a model with its external data, functions inlined and nodes in order.

    A model that ONNX's checker refuses is loaded in ONNX Runtime, unless ``runtime`` is false. Data
    over the size limit of a file stay outside: see :mod:`latbench_exporters.onnx.external`. Raises
    :class:`StageError`.
    """
    import onnx.inliner

    path = external.main_file(path)
    model = parsed(path)
    external.load(model, path)
    try:
        for graph in graphs(model.graph):
            sort_nodes(graph)
        if model.functions:
            model = onnx.inliner.inline_local_functions(model)
    except (ValueError, RuntimeError) as error:
        raise _refused(path, first_line(error)) from error
    _refuse_custom_operators(model, path.name)
    _check(model, path, runtime=runtime)
    return model


def write(model: onnx.ModelProto, path: Path) -> None:
    """Write one file, or a folder if tensors stay outside, without paths and stack traces of the
    exporting machine."""
    for node in nodes(model.graph):
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    if any(True for _ in external.external(model)):
        path.mkdir()
        external.move(model, path)
        path = path / external.GRAPH
    size = external.message_bytes(model)
    if size > external.LIMIT_BYTES:
        raise StageError(
            "export",
            f"the model has {size} bytes; an ONNX file holds at most {external.LIMIT_BYTES}",
            hint="convert it with its weights in a file of their own (external data), and give "
            "latbench the pre-exported file",
        )
    if size > external.LARGE_BYTES:
        external.write_message(model, path)
    else:
        path.write_bytes(model.SerializeToString(deterministic=True))


def describe(
    model: onnx.ModelProto,
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and numeric outputs, of which there may be none. Output sizes that shape inference
    cannot determine are 0 or missing.

    Raises :class:`StageError` if an input is neither numbers nor strings.
    """
    shown = []
    for value, inferred in zip(
        model.graph.output, inferred_shapes(model).graph.output, strict=True
    ):
        if is_numeric(inferred):
            sized = inferred.type.tensor_type.HasField("shape") or not is_numeric(value)
            shown.append(inferred if sized else value)
    return (
        tuple(tensor_spec(value) for value in real_inputs(model.graph)),
        tuple(tensor_spec(value) for value in shown),
    )


def real_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """Inputs that are not initializers: before IR version 4, weights were listed as inputs."""
    weights = {tensor.name for tensor in graph.initializer}
    weights |= {tensor.values.name for tensor in graph.sparse_initializer}
    return [value for value in graph.input if value.name not in weights]


def is_numeric(value: onnx.ValueInfoProto) -> bool:
    """Whether the value is a tensor of numbers that numpy holds, or of bfloat16."""
    import onnx

    kind = value.type.tensor_type.elem_type
    known = onnx.TensorProto.DataType.items()
    return value.type.HasField("tensor_type") and kind in {
        n for name, n in known if name in NUMERIC
    }


def kind_of(value: onnx.ValueInfoProto) -> str:
    """What a value is that is not numeric, in words."""
    import onnx

    found = value.type.WhichOneof("value")
    if found == "tensor_type":
        kind = value.type.tensor_type.elem_type
        if not kind:
            return "a tensor without an element type"
        if kind not in onnx.TensorProto.DataType.values():
            return f"a tensor of an element type unknown to onnx {onnx.__version__} ({kind})"
        name = onnx.TensorProto.DataType.Name(kind)
        return "a tensor of strings" if name == "STRING" else f"a tensor of {name}"
    kinds = {"sequence_type": "a sequence", "map_type": "a map", "optional_type": "optional"}
    return kinds.get(found or "", "a value without a type")


def tensor_spec(value: onnx.ValueInfoProto) -> TensorSpec:
    """Name, shape (0 for dynamic axes) and numpy type: float32 for bfloat16, which numpy does not
    have. Raises :class:`StageError` for other values than tensors of numbers or strings."""
    import onnx

    tensor = value.type.tensor_type
    sizes = tuple(dim.dim_value for dim in tensor.shape.dim)
    if value.type.HasField("tensor_type") and tensor.elem_type == onnx.TensorProto.STRING:
        return TensorSpec(name=value.name, shape=sizes, dtype=STRING)
    if not is_numeric(value):
        raise StageError(
            "export",
            f"{value.name!r} is {kind_of(value)}; only tensors of numbers and strings can be given",
            hint="export the part of the model that takes tensors, with states as inputs "
            "and outputs of their own",
        )
    halved = tensor.elem_type == onnx.TensorProto.BFLOAT16
    kind = onnx.TensorProto.FLOAT if halved else tensor.elem_type
    return TensorSpec(
        name=value.name,
        shape=sizes,
        dtype=onnx.helper.tensor_dtype_to_np_dtype(kind).name,
    )


def inferred_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the model without large weights, with the shapes of intermediate values and
    outputs that follow from those of the inputs.

    The file's own statements about outputs are left out: runtimes do not rely on them either.
    """
    import onnx

    light = _without_weights(model)
    for value in light.graph.output:
        value.type.tensor_type.ClearField("shape")
    for sparse in model.graph.sparse_initializer:
        light.graph.initializer.add(
            name=sparse.values.name, data_type=sparse.values.data_type, dims=sparse.dims
        )
    try:
        return onnx.shape_inference.infer_shapes(light, data_prop=True)
    except onnx.shape_inference.InferenceError:
        return onnx.shape_inference.infer_shapes(light)


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the graph whose large initializers have type and dimensions, but no data."""
    import onnx

    light = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    graph = light.graph
    graph.name = model.graph.name
    for field in ("node", "input", "output", "value_info"):
        getattr(graph, field).extend(getattr(model.graph, field))
    for tensor in model.graph.initializer:
        if external.size_bytes(tensor) <= external.SMALL_BYTES:
            graph.initializer.append(tensor)
        else:
            graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    return light


def parsed(path: Path) -> onnx.ModelProto:
    """The file without its external data. Raises :class:`StageError` unless it is an ONNX file."""
    import onnx
    from google.protobuf.message import DecodeError

    hint = "truncated, corrupt, or not an ONNX file: export or download it again"
    try:
        model: onnx.ModelProto = onnx.load(path, format="protobuf", load_external_data=False)
        reason = "" if model.ir_version and model.graph.output else "it holds no graph"
        if not reason and not _has_plain_texts(model):
            reason = "a name in it is not UTF-8"
    except (DecodeError, ValueError, OSError) as error:
        reason = first_line(error)
    if not reason:
        return model
    if path.is_file():
        with path.open("rb") as file:
            if file.read(len(POINTER)) == POINTER:
                reason, hint = "it is a pointer of Git LFS", "fetch the file itself: git lfs pull"
    raise StageError("export", f"{path.name} is not a valid ONNX file: {reason}", hint=hint)


def _has_plain_texts(model: onnx.ModelProto) -> bool:
    """Whether all names are texts: protobuf gives those that are not UTF-8 as bytes."""
    for graph in graphs(model.graph):
        if not isinstance(graph.name, str):
            return False
        for node in graph.node:
            if not all(isinstance(each, str) for each in (node.op_type, node.domain, node.name)):
                return False
            if not all(isinstance(each, str) for each in (*node.input, *node.output)):
                return False
        named = (*graph.input, *graph.output, *graph.value_info, *graph.initializer)
        if not all(isinstance(each.name, str) for each in named):
            return False
    return all(isinstance(each.domain, str) for each in model.opset_import)


def _check(model: onnx.ModelProto, path: Path, *, runtime: bool) -> None:
    """Raise :class:`StageError` for element types that are unknown, and if ONNX's checker and ONNX
    Runtime both refuse the model.

    The checker is stricter than runtimes: it refuses outputs without a shape, for example.
    """
    import onnx

    for graph in graphs(model.graph):
        for tensor in graph.initializer:
            external.size_bytes(tensor)
    if any(True for _ in external.external(model)):
        return  # the checker would look for the data; the runtime will
    light = _without_weights(model)
    light.graph.sparse_initializer.extend(model.graph.sparse_initializer)
    for tensor in light.graph.initializer:
        # The checker wants as much data as there are elements, and copies the model twice.
        if external.size_bytes(tensor) > external.SMALL_BYTES:
            tensor.dims[:] = [0]
    try:
        onnx.checker.check_model(light)
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        refusal = _loading_error(model) if runtime else None
        if refusal is not None:
            raise _refused(path, first_line(error), model, refusal) from error


def _loading_error(model: onnx.ModelProto) -> str | None:
    """Why ONNX Runtime cannot load the model; ``None`` if it can."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        ort.InferenceSession(
            model.SerializeToString(),
            options,
            providers=["CPUExecutionProvider"],
            enable_fallback=False,
        )
    except Exception as error:  # noqa: BLE001 - its errors have no closer common base
        return first_line(error)
    return None


def _refused(
    path: Path, reason: str, model: onnx.ModelProto | None = None, refusal: str = ""
) -> StageError:
    """The error for a file that can be parsed, with a hint for its cause."""
    import onnx

    hint = "export it again; the graph contradicts the ONNX standard"
    if model is not None:
        opset = max(
            (o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0
        )
        newest = onnx.defs.onnx_opset_version()
        if model.ir_version > onnx.IR_VERSION or opset > newest:
            reason = (
                f"it has IR version {model.ir_version} and opset {opset}; onnx {onnx.__version__} "
                f"knows up to {onnx.IR_VERSION} and {newest}"
            )
            hint = "upgrade onnx and onnxruntime, or export it for an older version"
        elif refusal:
            reason = f"{refusal} (onnx's checker: {reason})"
    return StageError("export", f"{path.name} cannot be used: {reason}", hint=hint)


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
