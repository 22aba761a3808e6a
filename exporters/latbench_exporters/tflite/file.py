"""Read TFLite files as FlatBuffers, without a runtime. Nothing is executed.

Field numbers are those of the TFLite schema, version 3 (``schema.fbs``).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

from latbench.api import Counts, StageError, TensorSpec
from latbench.schema.input_content import STRING
from latbench_exporters.tflite.flatbuffer import Table

IDENTIFIER = b"TFL3"
DTYPES = {
    0: "float32",
    1: "float16",
    2: "int32",
    3: "uint8",
    4: "int64",
    6: "bool",
    7: "int16",
    9: "int8",
    10: "float64",
    **{12: "uint64", 15: "uint32", 16: "uint16"},
}
OTHER_TYPES = {
    **{5: STRING, 8: "complex64", 11: "complex128", 13: "resource", 14: "variant"},
    **{17: "int4", 18: "bfloat16", 19: "int2"},
}
"""Types of elements that are not, or not as they are, arrays of numbers."""
ITEM_BITS = {
    **{"float64": 64, "int64": 64, "float32": 32, "int32": 32, "float16": 16, "bfloat16": 16},
    **{"uint64": 64, "uint32": 32, "uint16": 16, "int16": 16, "int4": 4, "int2": 2},
}
CONV_2D, DEPTHWISE_CONV_2D, DEQUANTIZE, FULLY_CONNECTED = 3, 4, 6, 9
CUSTOM, TRANSPOSE_CONV, BATCH_MATMUL = 32, 67, 126
CALLING = (118, 119)
"""IF (the graphs of both branches) and WHILE (those of its condition and its body)."""
OPERANDS = {
    CONV_2D: {0: 4, 1: 4},
    DEPTHWISE_CONV_2D: {0: 4, 1: 4},
    TRANSPOSE_CONV: {1: 4, 2: 4},
    FULLY_CONNECTED: {0: 1, 1: 2},
    BATCH_MATMUL: {0: 2, 1: 2},
}
"""Counted operator -> position of each input that determines its work -> minimum number of axes."""
NOT_COUNTED = {
    16: "LSTM",
    24: "RNN",
    27: "SVDF",
    35: "UNIDIRECTIONAL_SEQUENCE_RNN",
    44: "UNIDIRECTIONAL_SEQUENCE_LSTM",
    46: "BIDIRECTIONAL_SEQUENCE_RNN",
    52: "BIDIRECTIONAL_SEQUENCE_LSTM",
    132: "CONV_3D",
    141: "CONV_3D_TRANSPOSE",
    171: "STABLEHLO_CONVOLUTION",
    197: "STABLEHLO_DOT_GENERAL",
    # Operators that execute other graphs in every inference.
    **{31: "CALL", 118: "IF", 119: "WHILE"},
    **{200: "STABLEHLO_WHILE", 206: "STABLEHLO_COMPOSITE", 209: "STABLEHLO_CASE"},
}
"""Other operators that multiply with weights or execute other graphs, which are not counted.
CALL_ONCE is not among them: it sets variables when the file is loaded, not in an inference."""
MULTIPLYING_CUSTOM = {"Convolution2DTransposeBias"}
PERCEPTION = MULTIPLYING_CUSTOM | {"MaxPoolingWithArgmax2D", "MaxUnpooling2D"}
"""Custom operators that the interpreter finds only together with its default delegate."""
KNOWN_CUSTOM = PERCEPTION | {
    *("AudioSpectrogram", "Mfcc", "NumericVerify"),
    *("TFLite_Detection_PostProcess", "aeq.hadamard_rotation"),
}
"""Custom operators that the interpreter of LiteRT 2.3 includes. An older one names those that
it does not have when it loads the file."""


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A tensor. ``shape`` is the stored one, which the runtime uses; a signature may leave axes
    open."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    constant: bool
    quantized: bool
    open_axes: tuple[int, ...] = ()
    """Axes whose size is open; most have a stored size too."""


@dataclass(frozen=True, kw_only=True)
class Operator:
    """An operator. ``code`` is the schema's number, ``custom`` the name of a custom operator."""

    code: int
    custom: str | None
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    calls: tuple[int, ...] = ()
    """Graphs that an IF or a WHILE executes."""


@dataclass(frozen=True, kw_only=True)
class Graph:
    """One graph of a file, the first by default. Calls to other graphs are not followed."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    subgraphs: int
    signatures: Mapping[str, int] = field(default_factory=dict)
    """Names of the signatures, with the index of the graph of each."""


def read(path: Path) -> Graph:
    """Read the file at ``path``.

    Raises :class:`StageError` if it is not a TFLite file, is damaged, or requires operators that no
    stock runtime has.
    """
    graph = parse(contents(path), path.name)
    refuse_custom(graph, path.name)
    return graph


def contents(path: Path) -> bytes:
    """The bytes of the file at ``path``. Raises :class:`StageError`."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise StageError("export", f"cannot read {path}: {error.strerror}") from error


def parse(content: bytes, name: str) -> Graph:
    """Read the content of the file called ``name``, whatever its operators. Raises
    :class:`StageError` if it is not a TFLite file or is damaged."""
    try:
        if content[4:8] != IDENTIFIER:
            raise ValueError("it has another header")
        graph = _graph(Table.root(content))
        _check(graph)
    except (ValueError, struct.error, IndexError) as error:
        raise damaged_file(name, error) from error
    return graph


def damaged_file(name: str, error: Exception) -> StageError:
    """The error for a file whose bytes do not fit together."""
    return StageError(
        "export",
        f"{name} is not a valid TFLite file: {error}",
        hint="truncated, corrupt, or not a TFLite file: export or download it again",
    )


def parse_all(content: bytes) -> tuple[Graph, ...]:
    """All graphs of a file that :func:`parse` accepts. Those after the first are not checked."""
    model = Table.root(content)
    return tuple(_graph(model, index) for index in range(len(model.tables(2))))


def describe(graph: Graph) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs, and the outputs that are numbers."""
    return (
        tuple(_spec(graph.tensors[i]) for i in graph.inputs),
        tuple(_spec(graph.tensors[i]) for i in graph.outputs if is_numeric(graph.tensors[i])),
    )


def is_numeric(tensor: Tensor) -> bool:
    """Whether numpy has the tensor's type of elements, and they are numbers."""
    return tensor.dtype in DTYPES.values()


def not_compared(graph: Graph) -> dict[str, str]:
    """A detail that names the outputs without numbers, if any."""
    outputs = [graph.tensors[i] for i in graph.outputs]
    named = [f"{each.name} ({each.dtype})" for each in outputs if not is_numeric(each)]
    return {"not_compared": ", ".join(named)} if named else {}


def refuse_inputs(graph: Graph, name: str) -> None:
    """Raise :class:`StageError` if an input is of elements that cannot be given."""
    for tensor in (graph.tensors[i] for i in graph.inputs):
        if not is_numeric(tensor) and tensor.dtype != STRING:
            raise StageError(
                "export",
                f"input {tensor.name!r} of {name} has elements of type {tensor.dtype}; only "
                "numbers of whole bytes and strings can be given",
                hint="convert the model with another type at its boundary",
            )


def pixels(tensor: TensorSpec) -> tuple[int, int]:
    """Height and width axes of an image: channels usually come last."""
    return (1, 2) if tensor.shape[3] in (1, 3, 4) else (2, 3)


def uncounted(graph: Graph) -> dict[str, str]:
    """A detail that names the operators because of which the graph cannot be counted, if any."""
    names = {NOT_COUNTED[each.code] for each in graph.operators if each.code in NOT_COUNTED}
    names |= MULTIPLYING_CUSTOM & {each.custom for each in graph.operators}
    return {"uncounted": ", ".join(sorted(names))} if names else {}


def count(graph: Graph) -> Counts | None:
    """Count MACs, parameters and operators; ``None`` if an operator is :func:`uncounted`."""
    if uncounted(graph):
        return None
    constants = {i for i, tensor in enumerate(graph.tensors) if tensor.constant}
    macs, operators, used = 0, {"conv": 0, "linear": 0}, set(graph.outputs)
    for operator in graph.operators:
        used.update(operator.inputs)
        if operator.code == DEQUANTIZE and constants.issuperset(operator.inputs):
            # Weights stored in fewer bits are expanded first, but are still weights.
            constants.update(operator.outputs)
        elif operator.code in (CONV_2D, DEPTHWISE_CONV_2D, TRANSPOSE_CONV):
            operators["conv"] += 1
            macs += _conv_macs(operator, graph)
        elif operator.code in (FULLY_CONNECTED, BATCH_MATMUL) and not constants.isdisjoint(
            operator.inputs[:2]
        ):
            operators["linear"] += 1
            macs += _product_macs(operator, graph)
    weights = [
        tensor
        for i, tensor in enumerate(graph.tensors)
        if tensor.constant
        and i in used
        and math.prod(tensor.shape) > 1
        and ("float" in tensor.dtype or tensor.quantized)
    ]
    return Counts(
        macs=macs,
        parameters=sum(math.prod(tensor.shape) for tensor in weights),
        parameter_bytes=sum(
            -(-math.prod(tensor.shape) * ITEM_BITS.get(tensor.dtype, 8) // 8) for tensor in weights
        ),
        operators=operators,
    )


def computed_twice(graph: Graph) -> int:
    """Number of convolutions and products that share weights with another: either the model uses a
    layer twice, or the converter duplicated it."""
    kinds = (CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED)
    weights = [op.inputs[1] for op in graph.operators if op.code in kinds]
    return len(weights) - len(set(weights))


def precision_of(graph: Graph) -> str:
    """The lowest precision of the graph's arithmetic; ``unknown`` for doubles and for integers of
    16, 4 or 2 bits."""
    quantized = {t.dtype for t in graph.tensors if t.quantized and "float" not in t.dtype}
    quantized -= {"int32", "int64"}
    activations = {t.dtype for t in graph.tensors if t.quantized and not t.constant}
    floats = {t.dtype for t in graph.tensors if "float" in t.dtype}
    if not quantized <= {"int8", "uint8"} or "float64" in floats:
        return "unknown"
    if activations & {"int8", "uint8"}:
        return "int8"
    if quantized:
        return "int8-weights"
    if "bfloat16" in floats:
        return "bf16"
    return "fp16" if "float16" in floats else "fp32"


def _product_macs(operator: Operator, graph: Graph) -> int:
    left, right = (graph.tensors[i].shape for i in operator.inputs[:2])
    out = graph.tensors[operator.outputs[0]].shape
    if operator.code == FULLY_CONNECTED:  # weights (out, in); axes of the input may be flattened
        return math.prod(out) * right[-1]
    # A flag may transpose the left factor; the product is the same.
    return math.prod(out) * (math.prod(left[-2:]) // max(1, out[-2]))


def _conv_macs(operator: Operator, graph: Graph) -> int:
    out, kernel = (graph.tensors[i].shape for i in (operator.outputs[0], operator.inputs[1]))
    if operator.code == TRANSPOSE_CONV:  # output shape, weights (out, height, width, in), input
        return math.prod(graph.tensors[operator.inputs[2]].shape) * math.prod(kernel[:-1])
    taps = math.prod(kernel[1:3]) if operator.code == DEPTHWISE_CONV_2D else math.prod(kernel[1:])
    return math.prod(out) * taps


def _spec(tensor: Tensor) -> TensorSpec:
    return TensorSpec(name=tensor.name, shape=tensor.shape, dtype=tensor.dtype)


def refuse_custom(graph: Graph, name: str) -> None:
    """Raise :class:`StageError` if the file requires operators that no stock runtime has."""
    custom = {operator.custom for operator in graph.operators if operator.custom is not None}
    flex = sorted(name for name in custom if name.startswith("Flex"))
    if flex:
        raise StageError(
            "export",
            f"{name} requires TensorFlow (flex) operators: {', '.join(flex)}",
            hint="convert it with built-in TFLite operators only; TensorFlow is not loaded",
        )
    if strange := sorted(custom - KNOWN_CUSTOM):
        raise StageError(
            "export",
            f"{name} requires custom operators that no runtime here has: {', '.join(strange)}",
            hint="export it with built-in operators; operator libraries are not loaded",
        )


def _check(graph: Graph) -> None:
    """Check every index that is used later. Raises :class:`ValueError`."""
    for operator in graph.operators:
        for i in (*operator.inputs, *operator.outputs):
            if not -1 <= i < len(graph.tensors):
                raise ValueError(f"an operator refers to tensor {i} of {len(graph.tensors)}")
        _check_operands(operator, graph)
    for i in (*graph.inputs, *graph.outputs):
        if not 0 <= i < len(graph.tensors):
            raise ValueError(f"the graph refers to tensor {i} of {len(graph.tensors)}")
    if not graph.inputs or not graph.outputs or not graph.operators:
        raise ValueError("its graph has no inputs, no outputs or no operators")


def _check_operands(operator: Operator, graph: Graph) -> None:
    for at, axes in OPERANDS.get(operator.code, {}).items():
        i = operator.inputs[at] if at < len(operator.inputs) else -1
        if i < 0 or len(graph.tensors[i].shape) < axes:
            raise ValueError(f"operator {operator.code} has no input {at} with {axes} axes")
    if operator.code in OPERANDS:
        out = operator.outputs[0] if operator.outputs else -1
        if out < 0 or (operator.code == BATCH_MATMUL and len(graph.tensors[out].shape) < 2):
            raise ValueError(f"operator {operator.code} has no output")


def _graph(model: Table, index: int = 0) -> Graph:
    codes = model.tables(1)
    buffers = [bool(buffer.length(0)) or bool(buffer.number(2, "Q")) for buffer in model.tables(4)]
    subgraphs = model.tables(2)
    if not subgraphs:
        raise ValueError("it contains no graph")
    main = subgraphs[index]
    return Graph(
        tensors=tuple(_tensor(table, buffers) for table in main.tables(0)),
        operators=tuple(_operator(table, codes) for table in main.tables(3)),
        inputs=main.numbers(1),
        outputs=main.numbers(2),
        subgraphs=len(subgraphs),
        signatures={table.text(2): table.number(4, "I") for table in model.tables(7)},
    )


def _tensor(table: Table, buffers: list[bool]) -> Tensor:
    kind, quantization = table.number(1, "b"), table.table(4)
    return Tensor(
        name=table.text(3),
        shape=table.numbers(0),
        dtype=DTYPES.get(kind) or OTHER_TYPES.get(kind, f"type {kind}"),
        constant=buffers[table.number(2, "I")],
        quantized=quantization is not None and quantization.length(2) > 0,
        open_axes=tuple(
            axis
            for axis, sizes in enumerate(zip_longest(table.numbers(7), table.numbers(0)))
            if any(size is not None and size < 0 for size in sizes)
        ),
    )


def _operator(table: Table, codes: list[Table]) -> Operator:
    code = codes[table.number(0, "I")]
    # Old files store the number in a byte, new ones in an integer; the larger value is valid.
    number = max(code.number(0, "b"), code.number(3, "i"))
    options = table.table(4) if number in CALLING else None
    return Operator(
        code=number,
        custom=code.text(1) if number == CUSTOM else None,
        inputs=table.numbers(1),
        outputs=table.numbers(2),
        calls=() if options is None else (options.number(0, "i"), options.number(1, "i")),
    )
