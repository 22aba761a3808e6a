"""Read ``.pte`` files back: inputs, outputs, delegates and operation counts.

A program is a list of instructions that call kernels or delegates. The part for XNNPACK is a
nested flatbuffer, which is decoded with the ``flatc`` that ExecuTorch ships.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Any

from latbench.api import Counts, StageError, TensorSpec, first_line
from latbench_exporters.executorch.counts import (
    DTYPES,
    Work,
    add_constants,
    add_graph,
    add_kernel,
)
from latbench_exporters.packages import require

XNNPACK = "XnnpackBackend"
INFINITE = re.compile(r"(: -?)inf\b")


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
class _Calls:
    """The instructions of a program: who executes them, in order."""

    kernels: Counter[str] = field(default_factory=Counter)
    delegates: set[str] = field(default_factory=set)
    units: list[str] = field(default_factory=list)
    nodes: int = 0
    known: bool = True
    """Whether the nodes of every delegate are known."""

    def add_kernel(self, name: str) -> None:
        self.kernels[name] += 1
        self.units.append(KERNELS)

    def add_delegate(self, name: str, nodes: int | None) -> None:
        """``nodes`` is ``None`` if the delegate's part cannot be read."""
        self.delegates.add(name)
        self.units.append(name)
        if nodes is None:
            self.known = False
        else:
            self.nodes += nodes

    def details(self) -> dict[str, str]:
        found = {
            "delegates": ", ".join(sorted(self.delegates)) or "none",
            "partitions": str(max(1, sum(1 for _ in groupby(self.units)))),
            "delegated_nodes": str(self.nodes) if self.known else "unknown",
            "kernels": str(sum(self.kernels.values())),
        }
        if self.kernels:
            names = (f"{n} {name}" for name, n in self.kernels.most_common())
            found["kernel_names"] = ", ".join(names)
        return found


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
    work, calls = Work(), _Calls()
    weights = add_constants(work, values)
    for chain in plan.chains:
        for call in (instruction.instr_args for instruction in chain.instructions):
            if hasattr(call, "op_index"):
                name = plan.operators[call.op_index].name
                calls.add_kernel(name)
                add_kernel(work, name.rpartition("::")[2], call.args, values, weights)
            elif hasattr(call, "delegate_index"):
                delegate = plan.delegates[call.delegate_index]
                graph = None
                if delegate.id == XNNPACK:
                    graph = _xnn_graph(program.backend_delegate_data[delegate.processed.index].data)
                    add_graph(work, graph)
                calls.add_delegate(delegate.id, None if graph is None else len(graph["xnodes"]))
    inputs = tuple(_spec(values[index], f"input_{k}") for k, index in enumerate(plan.inputs))
    return Read(
        inputs=inputs,
        outputs=tuple(_spec(values[i], f"output_{k}") for k, i in enumerate(plan.outputs)),
        counts=work.counts() if calls.known else None,
        precision=_precision(work.types, inputs, calls.kernels) if calls.known else "unknown",
        details=calls.details(),
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
