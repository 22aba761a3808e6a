"""Planned placement of operations in Core ML, which does not report the actual placement."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from itertools import groupby
from typing import Any

from latbench.api import OperatorPlan, Placement, PlannedOperator, examples_of
from latbench_runners.coreml.errors import reason

DEVICES = {
    "MLCPUComputeDevice": "cpu",
    "MLGPUComputeDevice": "gpu",
    "MLNeuralEngineComputeDevice": "neural_engine",
}


def plan(model: Any, unit: Any, function: str) -> OperatorPlan | str:
    """The operations of a function of a loaded model according to ``MLComputePlan`` (macOS 14.4)
    for a ``ComputeUnit``; a text says why there is none."""
    if find_spec("coremltools.models.compute_plan") is None:
        return "this coremltools has no MLComputePlan (8.1 or later has)"
    try:
        operators = _planned(model, unit, function)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - older systems fail in many ways
        return f"MLComputePlan is not available: {reason(error)}"
    if not operators:
        return "MLComputePlan reports no device for any operation"
    return OperatorPlan(source="MLComputePlan", operators=operators)


def placement_of(planned: OperatorPlan | str) -> Placement:
    """The placement that a plan stands for."""
    if isinstance(planned, str):
        return Placement(units={"Core ML": None}, known="unknown", note=planned)
    devices = [operator.unit for operator in planned.operators]
    return Placement(
        units={name: devices.count(name) for name in sorted(set(devices))},
        known="planned",
        note="preferred devices of MLComputePlan; Core ML does not report the devices used",
        partitions=sum(1 for _ in groupby(devices)),
        examples=examples_of(
            (each.unit, f"{each.name} ({each.kind})") for each in planned.operators
        ),
    )


def _planned(model: Any, unit: Any, function: str) -> tuple[PlannedOperator, ...]:
    """Each operation or layer, in order, without those that need no device."""
    from coremltools.models.compute_plan import MLComputePlan

    compute_plan = MLComputePlan.load_from_path(model.get_compiled_model_path(), unit)
    structure = compute_plan.model_structure
    if structure.program is not None:
        if function not in structure.program.functions:
            raise LookupError(f"the compiled model has no function {function!r}")
        operations = _operations(structure.program.functions[function].block)
        usage_of = compute_plan.get_compute_device_usage_for_mlprogram_operation
        cost_of = compute_plan.get_estimated_cost_for_mlprogram_operation
    elif structure.neuralnetwork is not None:
        operations = iter(structure.neuralnetwork.layers)
        usage_of = compute_plan.get_compute_device_usage_for_neuralnetwork_layer
        cost_of = _no_cost
    else:
        return ()
    return tuple(
        _operator(operation, usage, cost_of(operation))
        for operation in operations
        if (usage := usage_of(operation)) is not None
    )


def _no_cost(operation: Any) -> None:
    """Core ML estimates no costs of layers."""


def _operations(block: Any) -> Iterator[Any]:
    """The operations of a block and of those inside it: branches and bodies of loops."""
    for operation in block.operations:
        yield operation
        for inner in operation.blocks:
            yield from _operations(inner)


def _operator(operation: Any, usage: Any, cost: Any) -> PlannedOperator:
    """An operation of a program, which its outputs name, or a layer."""
    outputs = getattr(operation, "outputs", ())
    name = getattr(operation, "name", None) or (outputs[0].name if outputs else "unnamed")
    kind = getattr(operation, "operator_name", None) or getattr(operation, "type", None)
    return PlannedOperator(
        name=name,
        kind=str(kind or "unknown kind"),
        unit=_name(usage.preferred_compute_device),
        cost_ppm=None if cost is None else round(1e6 * cost.weight),
    )


def _name(device: Any) -> str:
    """Unit of a compute device; ``None`` stands for one that these bindings do not know."""
    if device is None:
        return "unknown"
    kind = type(device).__name__
    return DEVICES.get(kind, kind)
