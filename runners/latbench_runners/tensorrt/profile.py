"""Time by layer, from TensorRT's profiler, with layer descriptions from its inspector."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from latbench.api import OperatorTime, Profile, StageError
from latbench_runners.tensorrt.cuda import Gpu

NS_PER_MS = 1e6
TYPE_KEYS = ("DataType", "Format/Datatype", "Format")
"""Keys for the type of a layer's tensor: alone in TensorRT 11, combined with its format before."""
PRECISIONS = (
    (r"fp4|e2m1", "fp4"),
    (r"int4", "int4"),
    (r"fp8|e4m3", "fp8"),
    (r"(?<!u)int8", "int8"),
    (r"bf16|bfloat16", "bf16"),
    (r"half|fp16|float16", "fp16"),
    (r"float|fp32", "fp32"),
)
"""Pattern in the inspector's type name -> precision; the first match counts."""


def profile_calls(trt: Any, gpu: Gpu, engine: Any, context: Any, calls: int) -> Profile | None:
    """Mean times of ``calls`` inferences; ``None`` if the engine reports no layers."""

    class Times(trt.IProfiler):  # type: ignore[misc]
        """Milliseconds by layer, summed, in execution order."""

        def __init__(self) -> None:
            trt.IProfiler.__init__(self)
            self.sum_ms: dict[str, float] = {}

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            """Called by TensorRT."""
            self.sum_ms[layer_name] = self.sum_ms.get(layer_name, 0.0) + ms

    times, start, end = Times(), gpu.event(), gpu.event()
    context.profiler = times
    # Otherwise each enqueue waits to report its own end, and the total measures something else.
    context.enqueue_emits_profile = False
    total_ns = 0
    for _ in range(calls):
        gpu.record(start)
        if not context.execute_async_v3(gpu.stream):
            raise StageError("outputs", "TensorRT could not start a profiled inference")
        gpu.record(end)
        gpu.synchronize()
        total_ns += gpu.between_ns(start, end)
        context.report_to_profiler()
    if not times.sum_ms:
        return None
    described = _described(trt, engine)
    return Profile(
        source=f"{trt.__name__} {trt.__version__} IProfiler",
        calls=calls,
        total_ns=round(total_ns / calls),
        operators=tuple(
            OperatorTime(
                name=name,
                kind=str(described.get(name, {}).get("LayerType", "layer")),
                time_ns=round(ms / calls * NS_PER_MS),
                unit=gpu.facts.name,
                precision=_precision(described.get(name, {})),
            )
            for name, ms in times.sum_ms.items()
        ),
    )


def _described(trt: Any, engine: Any) -> dict[str, Mapping[str, Any]]:
    """Layer -> description of the inspector; empty unless the engine keeps layer information."""
    inspector = engine.create_engine_inspector()
    information = json.loads(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
    layers = information.get("Layers", [])
    return {layer["Name"]: layer for layer in layers if isinstance(layer, dict)}


def _precision(layer: Mapping[str, Any]) -> str | None:
    """Precision of the first output; that of the arithmetic is not reported."""
    for output in layer.get("Outputs", [])[:1]:
        kind = next((str(output[key]) for key in TYPE_KEYS if output.get(key)), "")
        found = (name for sign, name in PRECISIONS if re.search(sign, kind, re.IGNORECASE))
        return next(found, None)
    return None
