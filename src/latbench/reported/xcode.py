"""Core ML performance reports of Xcode: ``report.json`` in a ``.mlperf`` folder.

Apple does not document the format. This is the layout that Xcode 16 writes: times in seconds, and a
number that stands for the compute units.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from latbench.errors import UsageError
from latbench.reported.numbers import integer_of
from latbench.schema.reported import LATENCY, ReportedOperator, ToolResult

_TOOL = "Xcode"
COMPUTE_UNIT = {0: "cpu_only", 1: "cpu_and_gpu", 2: "all", 3: "cpu_and_ne"}
"""Values of MLComputeUnits."""
_PHASES = {"predict": LATENCY, "load": "load", "compile": "compile"}


def is_xcode(text: str | None, tree: object, content: bytes) -> bool:
    """Whether it looks like a performance report."""
    return isinstance(tree, dict) and "deviceResults" in tree


def read_xcode(text: str | None, tree: object, content: bytes) -> ToolResult:
    """The result in a report. Raise :class:`UsageError`."""
    assert isinstance(tree, dict)
    results = _part(tree, "deviceResults")
    times = {
        quantity: tuple(integer_of(each, 10**9, what=f"a sample of {phase}") for each in samples)
        for phase, quantity in _PHASES.items()
        if isinstance(samples := _part(results, phase).get("samples"), list) and samples
    }
    if LATENCY not in times:
        raise UsageError(
            "the performance report has no deviceResults.predict.samples",
            hint="it was cut, or another version of Xcode wrote it",
        )
    device, model = _part(tree, "deviceInfo"), _part(tree, "modelMetadata")
    unit = tree.get("computeUnit")
    units = COMPUTE_UNIT.get(unit, str(unit)) if isinstance(unit, int) else None
    system = device.get("osNameAndVersionWithoutBuildNumber")
    return ToolResult(
        tool=_TOOL,
        form="performance report",
        backend="coreml",
        model_file=_text(model.get("fileName")),
        # Not displayName and serialNumber, which name a person's device.
        device_name=_text(device.get("modelName")),
        times_ns=times,
        counts={"runs": len(times[LATENCY])},
        settings={
            **({} if units is None else {"compute_units": units}),
            **({} if system is None else {"os": str(system)}),
        },
        operators=tuple(_operators(results)),
    )


def _part(tree: dict[str, Any], name: str) -> dict[str, Any]:
    found = tree.get(name)
    return found if isinstance(found, dict) else {}


def _objects(value: object) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _text(value: object) -> str | None:
    return value.strip() or None if isinstance(value, str) else None


def _operators(results: dict[str, Any]) -> Iterator[ReportedOperator]:
    program = _part(_part(_part(results, "modelStructure"), "program"), "_0")
    for function in _part(program, "functions").values():
        block = _part(function, "block") if isinstance(function, dict) else {}
        for each in _objects(block.get("operations")):
            used = _part(_part(_part(each, "deviceUsage"), "preferred"), "deviceType")
            output = next(iter(_objects(each.get("outputs"))), {})
            if used:  # Constants have no device.
                yield ReportedOperator(
                    name=_text(output.get("name")) or "",
                    kind=_text(each.get("operatorName")),
                    unit=next(iter(used)),
                )
