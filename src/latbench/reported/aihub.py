"""Profiles of Qualcomm AI Hub, as ``download_profile`` writes them: times in microseconds."""

from __future__ import annotations

from typing import Any

from latbench.errors import UsageError
from latbench.reported.numbers import integer_of, integers_of
from latbench.schema.reported import LATENCY, ReportedOperator, ToolResult

_TOOL = "Qualcomm AI Hub"
_ONCE = {"load": "first_load_time", "warm load": "warm_load_time", "compile": "compile_time"}
_TIMES = {
    LATENCY: "all_inference_times",
    "load": "all_first_load_times",
    "warm load": "all_warm_load_times",
    "compile": "all_compile_times",
}
_STAGES = ("compile", "first_load", "warm_load", "inference")


def is_aihub(text: str | None, tree: object, content: bytes) -> bool:
    """Whether it looks like a profile."""
    return isinstance(tree, dict) and "execution_summary" in tree


def read_aihub(text: str | None, tree: object, content: bytes) -> ToolResult:
    """The result in a profile. Raise :class:`UsageError`."""
    assert isinstance(tree, dict)
    summary = tree["execution_summary"]
    if not isinstance(summary, dict):
        raise UsageError("execution_summary of the profile is not an object")
    times = {
        quantity: tuple(integer_of(each, 1000, what=key) for each in values)
        for quantity, key in _TIMES.items()
        if isinstance(values := summary.get(key), list) and values
    }
    estimate = integers_of({"estimated": summary.get("estimated_inference_time")}, 1000)
    if not estimate and LATENCY not in times:
        raise UsageError(
            "the profile has neither an estimated inference time nor inference times",
            hint="it was cut, or the job failed",
        )
    return ToolResult(
        tool=_TOOL,
        form="JSON",
        statistics_ns={LATENCY: estimate} if estimate else {},
        times_ns=times,
        # What did not happen, such as compiling on the device, took 0.
        once_ns=integers_of({name: summary.get(key) or None for name, key in _ONCE.items()}, 1000),
        counts={"runs": len(times[LATENCY])} if LATENCY in times else {},
        memory_bytes=_memory(summary),
        operators=_operators(tree.get("execution_detail") or ()),
    )


def _memory(summary: dict[str, Any]) -> dict[str, int]:
    found: dict[str, object] = {"peak": summary.get("estimated_inference_peak_memory")}
    for stage in _STAGES:
        name = stage.replace("_", " ")
        found[f"peak of {name}"] = summary.get(f"{stage}_peak_memory")
        for kind in ("peak", "increase"):
            ends = summary.get(f"{stage}_memory_{kind}_range")
            if isinstance(ends, list | tuple) and len(ends) == 2:
                found[f"{kind} of {name}, least"], found[f"{kind} of {name}, most"] = ends
    return integers_of(found)


def _operators(layers: object) -> tuple[ReportedOperator, ...]:
    if not isinstance(layers, list | tuple) or not all(isinstance(each, dict) for each in layers):
        raise UsageError("execution_detail of the profile is not a list of layers")
    return tuple(
        ReportedOperator(
            name=str(each.get("name", "")),
            kind=None if each.get("type") is None else str(each["type"]),
            time_ns=integers_of({"t": each.get("execution_time")}, 1000).get("t"),
            unit=None if each.get("compute_unit") is None else str(each["compute_unit"]),
        )
        for each in layers
    )
