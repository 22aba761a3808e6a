"""Planned placement of operations in Core ML, which does not report the actual placement."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from latbench.api import Placement, examples_of, first_line

DEVICES = {
    "MLCPUComputeDevice": "cpu",
    "MLGPUComputeDevice": "gpu",
    "MLNeuralEngineComputeDevice": "neural_engine",
}


def plan(model: Any, unit: Any, function: str) -> Placement:
    """Placement of a function of a loaded model according to ``MLComputePlan`` (macOS 14.4) for a
    ``ComputeUnit``."""
    try:
        operators = _planned(model, unit, function)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - older systems fail in many ways
        return _unknown(f"MLComputePlan is not available: {first_line(error)}")
    devices = [device for device, _ in operators]
    if not devices:
        return _unknown("MLComputePlan reports no device for any operation")
    return Placement(
        units={name: devices.count(name) for name in sorted(set(devices))},
        known="planned",
        note="preferred devices of MLComputePlan; Core ML does not report the devices used",
        partitions=sum(1 for _ in groupby(devices)),
        examples=examples_of(operators),
    )


def _planned(model: Any, unit: Any, function: str) -> list[tuple[str, str]]:
    """Preferred device and name of each operation or layer, in order, without those that need
    none."""
    from coremltools.models.compute_plan import MLComputePlan

    compute_plan = MLComputePlan.load_from_path(model.get_compiled_model_path(), unit)
    structure = compute_plan.model_structure
    if structure.program is not None:
        operations = structure.program.functions[function].block.operations
        usage_of = compute_plan.get_compute_device_usage_for_mlprogram_operation
    elif structure.neuralnetwork is not None:
        operations = structure.neuralnetwork.layers
        usage_of = compute_plan.get_compute_device_usage_for_neuralnetwork_layer
    else:
        return []
    found = []
    for operation in operations:
        if (usage := usage_of(operation)) is not None:
            kind = type(usage.preferred_compute_device).__name__
            found.append((DEVICES.get(kind, kind), _called(operation)))
    return found


def _called(operation: Any) -> str:
    """Name and kind of an operation of a program, which its outputs name, or of a layer."""
    outputs = getattr(operation, "outputs", ())
    name = getattr(operation, "name", None) or (outputs[0].name if outputs else "unnamed")
    kind = getattr(operation, "operator_name", None) or getattr(operation, "type", "unknown kind")
    return f"{name} ({kind})"


def _unknown(note: str) -> Placement:
    return Placement(units={"Core ML": None}, known="unknown", note=note)
