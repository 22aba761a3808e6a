"""Reading ``.pte`` files back: what goes in and out, who executes what, and how much work it is.

A program is a list of instructions, kernels or delegates. The part that XNNPACK executes is a
flatbuffer of its own inside of the file, which the ``flatc`` that ExecuTorch ships decodes.
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

from latbench.api import Counts, StageError, TensorSpec
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
"""ExecuTorch's ScalarType -> numpy's name."""
BFLOAT16 = 15
"""Of the same; numpy has none."""
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
"""Element types of XNNPACK's constants that are weights -> bytes of one element."""
INFINITE = re.compile(r"(: -?)inf\b")
PRODUCTS = {"linear": (0, 1), "mm": (0, 1), "bmm": (0, 1), "addmm": (1, 2), "baddbmm": (1, 2)}
"""ATen kernel -> which of its arguments are the two factors."""


KERNELS = "kernels"
EIGHT_BITS = {"qint8", "quint8", "qcint8", "qint32", "qcint32"}
"""Element types of static quantisation, biases included."""


@dataclass(frozen=True, kw_only=True)
class Read:
    """What a file says of itself."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    counts: Counts | None
    """``None`` where a delegate's part cannot be read."""
    precision: str
    details: Mapping[str, str]


@dataclass(kw_only=True)
class _Work:
    """Added up over the parts of a program."""

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
    """Raises :class:`StageError` where ``path`` is no program with a ``forward``."""
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
        # Its reader asserts, unpacks and runs a program on what it finds.
        if isinstance(error, MemoryError | StageError):
            raise
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise StageError(
            "export",
            f"{path.name} is not a valid .pte file: {first}",
            hint="truncated, corrupt, of another ExecuTorch, or not one at all",
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
            f"{name} is not a tensor of numbers",
            hint="only tensors of numbers can be seeded and compared",
        )
    return TensorSpec(name=name, shape=tuple(value.sizes), dtype=DTYPES[int(value.scalar_type)])


def _precision(types: set[str], inputs: Sequence[TensorSpec], kernels: Iterable[str]) -> str:
    """``unknown`` where it has no name here: dynamic quantisation, weights of 4 bits, quantised
    kernels outside of XNNPACK."""
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
    """One of ExecuTorch's own kernels; the output comes last, twice."""
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
        # Computed from weights alone, such as a transposed one.
        weights.add(args[-1])


def _xnn_graph(blob: bytes) -> dict[str, Any]:
    """The graph in a delegate's data: a header says where its flatbuffer lies.

    Bytes 4 to 8 are ``XH00``; 10 to 14 hold the offset, 14 to 18 the size, little-endian
    (``XNNPACKHeader`` in ExecuTorch's source).
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
    # A bound that is none (the upper one of a ReLU) is written as C++ does.
    graph: dict[str, Any] = json.loads(INFINITE.sub(r"\1Infinity", text))
    return graph


def _add_graph(work: _Work, graph: Mapping[str, Any]) -> None:
    """XNNPACK's operators. Kernels are (out, height, width, in), depthwise ones (1, height, width,
    out)."""
    tensors = {tensor["id_out"]: tensor for tensor in _tensors(graph)}
    for tensor in tensors.values():
        kind = str(tensor["datatype"]).removeprefix("xnn_datatype_")
        work.types.add(kind)
        if tensor["constant_buffer_idx"] and kind in XNN_BYTES:
            work.weigh(math.prod(tensor["dims"]), XNN_BYTES[kind])
    for node in graph["xnodes"]:
        kind, told = node["xnode_union_type"], node["xnode_union"]
        if kind in ("XNNConv2d", "XNNDepthwiseConv2d", "XNNConvTranspose2d"):
            transposed = kind == "XNNConvTranspose2d"
            across = tensors[told["input1_id" if transposed else "output_id"]]["dims"]
            channels = told["group_output_channels" if transposed else "group_input_channels"]
            window = told["kernel_height"] * told["kernel_width"]
            work.convolutions += 1
            work.macs += math.prod(across) * window * channels
        elif kind == "XNNFullyConnected":
            output, weight = tensors[told["output_id"]]["dims"], tensors[told["filter_id"]]["dims"]
            work.products += 1
            # The filter is (out, in); flags may say that it is the other way round.
            work.macs += math.prod(output) * math.prod(weight) // output[-1]
        elif kind == "XNNBatchMatrixMultiply" and any(
            tensors[told[name]]["constant_buffer_idx"] for name in ("input1_id", "input2_id")
        ):
            output, left = tensors[told["output_id"]]["dims"], tensors[told["input1_id"]]["dims"]
            work.products += 1
            work.macs += math.prod(output) * left[-1]


def _tensors(graph: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Plain ones, and those in which a quantised value is wrapped."""
    for value in graph["xvalues"]:
        told = value["xvalue_union"]
        yield told.get("tensor_value", told)
