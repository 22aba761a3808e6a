"""Run ONNX graphs once, on the CPU and without graph optimization: the reference."""

from __future__ import annotations

import ctypes
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latbench.api import Array
from latbench.schema.bfloat16 import from_bfloat16, to_bfloat16
from latbench_exporters.onnx.graph import NUMERIC
from latbench_exporters.onnx.walk import nodes

if TYPE_CHECKING:
    import onnx
    import onnxruntime as ort

Shape = tuple[int, ...]
BFLOAT16, BFLOAT16_TYPE = "tensor(bfloat16)", 16
"""ONNX Runtime's name of the type, and ONNX's number of it."""
KERNEL = "_kernel_time"


@dataclass(frozen=True, kw_only=True)
class NodeCall:
    """Shapes of the tensors that a node read and wrote in one execution, in order, without absent
    ones."""

    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]


@dataclass(frozen=True, kw_only=True)
class ObservedRun:
    """What happened in one run of a graph."""

    calls: dict[int, list[NodeCall]]
    """Position in :func:`~latbench_exporters.onnx.walk.nodes` -> the executions of that node."""
    values: dict[str, Array]


def load(model: str | bytes, options: ort.SessionOptions | None = None) -> ort.InferenceSession:
    """A session of a file or of a serialized model. Raises ONNX Runtime's exceptions."""
    import onnxruntime as ort

    options = options or ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    # Otherwise the binding prints the error and tries again.
    return ort.InferenceSession(
        model, options, providers=["CPUExecutionProvider"], enable_fallback=False
    )


def is_optimizable(path: Path) -> bool:
    """Whether ONNX Runtime loads the file with its default optimizations, as runners do."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        ort.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"], enable_fallback=False
        )
    except Exception:  # noqa: BLE001 - its errors have no closer common base
        return False
    return True


def run(
    session: ort.InferenceSession, inputs: Sequence[Array], names: Sequence[str] | None = None
) -> tuple[Array, ...]:
    """The outputs ``names``, or all that are numeric tensors. Those of bfloat16 become float32."""
    import onnxruntime as ort

    if names is None:
        names = [each.name for each in session.get_outputs() if is_numeric(each.type)]
    # Outputs that cannot be compared are computed all the same.
    asked = list(names) or [each.name for each in session.get_outputs()]
    if any(array.dtype.kind == "U" for array in inputs):
        # OrtValues hold no strings.
        given = [each.name for each in session.get_inputs()]
        found = session.run(asked, dict(zip(given, inputs, strict=True)))
        return tuple(found[: len(names)])
    feeds = {
        each.name: ort.OrtValue.ortvalue_from_numpy_with_onnx_type(
            to_bfloat16(array), BFLOAT16_TYPE
        )
        if each.type == BFLOAT16
        else ort.OrtValue.ortvalue_from_numpy(array)
        for each, array in zip(session.get_inputs(), inputs, strict=True)
    }
    values = session.run_with_ort_values(asked, feeds)
    return tuple(_array(value) for value in values[: len(names)])


def is_numeric(kind: str) -> bool:
    """Whether ONNX Runtime's name of a type is that of a tensor in :data:`graph.NUMERIC`."""
    return kind.removeprefix("tensor(").removesuffix(")").upper() in NUMERIC


def observe(
    model: onnx.ModelProto, inputs: Sequence[Array], values: Sequence[str]
) -> ObservedRun | None:
    """Run the graph once: the executions of each node, and the tensors ``values``.

    ``None`` if ONNX Runtime cannot run it, or if it executes more nodes than its profiler holds.
    The axes of ``model`` must be fixed.
    """
    import onnx
    import onnxruntime as ort

    added = onnx.ModelProto()
    added.CopyFrom(model)
    present = {value.name for value in added.graph.output}
    added.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(name) for name in sorted({*values} - present)
    )
    for position, node in enumerate(nodes(added.graph)):
        node.name = f"node{position}"
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        # The profile does not show weights in a form of the kernel's own.
        options.add_session_config_entry("session.disable_prepacking", "1")
        try:
            session = load(added.SerializeToString(), options)
            arrays = run(session, inputs, [*values, session.get_outputs()[0].name])
            events = json.loads(Path(session.end_profiling()).read_text())
        except Exception:  # noqa: BLE001 - counts are informative, so any failure leaves them out
            return None
    if not any(event["name"] == "model_run" for event in events):
        return None
    return ObservedRun(calls=_calls(events), values=dict(zip(values, arrays, strict=False)))


def _calls(events: Sequence[dict[str, Any]]) -> dict[int, list[NodeCall]]:
    found: dict[int, list[NodeCall]] = {}
    for event in events:
        name = event["name"].removesuffix(KERNEL)
        if event.get("cat") == "Node" and name != event["name"] and name.startswith("node"):
            call = NodeCall(
                inputs=_shapes(event["args"]["input_type_shape"]),
                outputs=_shapes(event["args"]["output_type_shape"]),
            )
            found.setdefault(int(name.removeprefix("node")), []).append(call)
    return found


def _shapes(typed: Sequence[dict[str, Sequence[int]]]) -> tuple[Shape, ...]:
    return tuple(tuple(shape) for each in typed for shape in each.values())


def _array(value: ort.OrtValue) -> Array:
    """The tensor as a numpy array; one of bfloat16, which numpy does not have, as float32."""
    import numpy as np

    if value.data_type() != BFLOAT16:
        array: Array = value.numpy()
        return array
    raw = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    return from_bfloat16(np.frombuffer(raw, dtype=np.uint16).reshape(value.shape()))
