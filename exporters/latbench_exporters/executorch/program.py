"""Read ``.pte`` files back: inputs, outputs, delegates and operation counts.

A program is a list of instructions that call kernels or delegates. The part for XNNPACK is a
nested flatbuffer, which is decoded with the ``flatc`` that ExecuTorch ships.
"""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Any

from latbench.api import Counts, StageError, TensorSpec, first_line
from latbench_exporters.packages import require

XNNPACK = "XnnpackBackend"
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
INFINITE = re.compile(r"(: -?)inf\b")
PRODUCTS = {"linear": (0, 1), "mm": (0, 1), "bmm": (0, 1), "addmm": (1, 2), "baddbmm": (1, 2)}
"""ATen kernel -> positions of the two factors among its arguments."""


KERNELS = "kernels"
EIGHT_BITS = {"qint8", "quint8", "qcint8", "qint32", "qcint32"}
"""Element types of static quantization, including biases."""


@dataclass(frozen=True, kw_only=True)
class Read:
    """What can be read from a file."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    counts: Counts | None
    """``None`` if a delegate's part cannot be read."""
    precision: str
    details: Mapping[str, str]


@dataclass(kw_only=True)
class _Work:
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


def read(path: Path) -> Read:
    """Read the program at ``path``.

    Raises :class:`StageError` if it is not a program with a method ``forward``.
    """
    require("executorch", "reading a .pte file", "executorch")
    from executorch.exir._serialize._program import deserialize_pte_binary

    try:
        program = deserialize_pte_binary(path.read_bytes()).program
        plan = next(plan for plan in program.execution_plan if plan.name == "forward")
        return _read(program, plan)
    except StopIteration:
        raise StageError(
            "export", f"{path.name} has no method `forward`", hint="export it with one"
        ) from None
    except Exception as error:
        # The reader asserts, unpacks and runs a program on the file's contents.
        if isinstance(error, MemoryError | StageError):
            raise
        first = first_line(error)
        raise StageError(
            "export",
            f"{path.name} is not a valid .pte file: {first}",
            hint="truncated, corrupt, from another ExecuTorch version, or not a .pte file",
        ) from error


def _read(program: Any, plan: Any) -> Read:
    values = [value.val for value in plan.values]
    kernels: Counter[str] = Counter()
    delegates: Counter[str] = Counter()
    nodes: Counter[str] = Counter()
    units: list[str] = []
    work = _Work()
    known = True
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
    for chain in plan.chains:
        for call in (instruction.instr_args for instruction in chain.instructions):
            if hasattr(call, "op_index"):
                name = plan.operators[call.op_index].name
                kernels[name] += 1
                units.append(KERNELS)
                _add_kernel(work, name.rpartition("::")[2], call.args, values, weights)
            elif hasattr(call, "delegate_index"):
                delegate = plan.delegates[call.delegate_index]
                delegates[delegate.id] += 1
                units.append(delegate.id)
                if delegate.id != XNNPACK:
                    known = False
                    continue
                graph = _xnn_graph(program.backend_delegate_data[delegate.processed.index].data)
                nodes[XNNPACK] += len(graph["xnodes"])
                _add_graph(work, graph)
    details = {
        "delegates": ", ".join(sorted(delegates)) or "none",
        "partitions": str(max(1, sum(1 for _ in groupby(units)))),
        "delegated_nodes": str(sum(nodes.values())) if known else "unknown",
        "kernels": str(sum(kernels.values())),
    }
    if kernels:
        details["kernel_names"] = ", ".join(f"{n} {name}" for name, n in kernels.most_common())
    counts = Counts(
        macs=work.macs,
        parameters=work.parameters,
        parameter_bytes=work.parameter_bytes,
        operators={"conv": work.convolutions, "linear": work.products},
    )
    inputs = tuple(_spec(values[index], f"input_{k}") for k, index in enumerate(plan.inputs))
    return Read(
        inputs=inputs,
        outputs=tuple(_spec(values[i], f"output_{k}") for k, i in enumerate(plan.outputs)),
        counts=counts if known else None,
        precision=_precision(work.types, inputs, kernels) if known else "unknown",
        details=details,
    )


def _spec(value: Any, name: str) -> TensorSpec:
    if not hasattr(value, "sizes") or int(value.scalar_type) not in DTYPES:
        raise StageError(
            "export",
            f"{name} is not a numeric tensor",
            hint="only numeric tensors can be seeded and compared",
        )
    return TensorSpec(name=name, shape=tuple(value.sizes), dtype=DTYPES[int(value.scalar_type)])


def _precision(types: set[str], inputs: Sequence[TensorSpec], kernels: Iterable[str]) -> str:
    """Precision by name; ``unknown`` for dynamic quantization, 4-bit weights, and quantized
    kernels outside XNNPACK."""
    integers = {name for name in types if "int" in name and name not in ("int32", "int64")}
    if not integers <= EIGHT_BITS or "fp64" in types:
        return "unknown"
    if integers:
        return "int8"
    if any("quantized" in name for name in kernels):
        return "unknown"
    if "bf16" in types:
        return "bf16"
    half = "fp16" in types or any(spec.dtype == "float16" for spec in inputs)
    return "fp16" if half else "fp32"


def _add_kernel(
    work: _Work, name: str, args: Sequence[int], values: Sequence[Any], weights: set[int]
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


def _xnn_graph(blob: bytes) -> dict[str, Any]:
    """Decode the graph in a delegate's data.

    A header locates the flatbuffer: bytes 4 to 8 are ``XH00``, 10 to 14 the offset, 14 to 18 the
    size, little-endian (``XNNPACKHeader`` in the source of ExecuTorch).
    """
    from executorch.exir._serialize._flatbuffer import _flatc_decompile

    data = bytes(blob)
    if data[4:8] != b"XH00":
        raise StageError("export", "the XNNPACK part of the .pte file has an unknown header")
    offset, size = (int.from_bytes(data[i : i + 4], "little") for i in (10, 14))
    schema = files("executorch.backends.xnnpack.serialization").joinpath("schema.fbs")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "schema.fbs").write_bytes(schema.read_bytes())
        (place / "graph.bin").write_bytes(data[offset : offset + size])
        flags = ["--raw-binary", "--strict-json", "--defaults-json"]
        _flatc_decompile(folder, str(place / "schema.fbs"), str(place / "graph.bin"), flags)
        text = (place / "graph.json").read_text()
    # An absent bound (such as the upper bound of a ReLU) is written as C++ does.
    graph: dict[str, Any] = json.loads(INFINITE.sub(r"\1Infinity", text))
    return graph


def _add_graph(work: _Work, graph: Mapping[str, Any]) -> None:
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
