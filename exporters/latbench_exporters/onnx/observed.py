"""Shapes that inference cannot determine, observed in one run of the graph."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from latbench.api import make_inputs
from latbench_exporters.onnx.graph import describe

if TYPE_CHECKING:
    import onnx


def observed_shapes(
    model: onnx.ModelProto, names: Collection[str]
) -> dict[str, tuple[int, ...]] | None:
    """Shapes of the tensors ``names`` when the graph runs on its seeded inputs.

    ``None`` if ONNX Runtime cannot run it. The axes of ``model`` must be fixed.
    """
    import onnx
    import onnxruntime as ort

    inputs, _ = describe(model)
    added = onnx.ModelProto()
    added.CopyFrom(model)
    present = {value.name for value in added.graph.output}
    added.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(name) for name in sorted({*names} - present)
    )
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    wanted = sorted(names)
    try:
        session = ort.InferenceSession(
            added.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        arrays = make_inputs(inputs, seed=0)
        found = session.run(wanted, dict(zip([each.name for each in inputs], arrays, strict=True)))
    except Exception:  # noqa: BLE001 - counts are informative, so any failure leaves them out
        return None
    return {name: value.shape for name, value in zip(wanted, found, strict=True)}
