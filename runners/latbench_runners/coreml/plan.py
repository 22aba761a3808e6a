"""Planned placement of operations in Core ML, which does not report the actual placement."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from latbench.api import Placement, first_line

DEVICES = {
    "MLCPUComputeDevice": "cpu",
    "MLGPUComputeDevice": "gpu",
    "MLNeuralEngineComputeDevice": "neural_engine",
}


def plan(model: Any, unit: Any, function: str) -> Placement:
    """Placement of a function of a loaded model according to ``MLComputePlan`` (macOS 14.4) for a
    ``ComputeUnit``."""
    try:
        devices = _planned(model, unit, function)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - older systems fail in many ways
        return _unknown(f"MLComputePlan is not available: {first_line(error)}")
    if not devices:
        return _unknown("MLComputePlan reports no device for any operation")
    return Placement(
        units={name: devices.count(name) for name in sorted(set(devices))},
        known="planned",
        note="preferred devices of MLComputePlan; Core ML does not report the devices used",
        partitions=sum(1 for _ in groupby(devices)),
    )


def _planned(model: Any, unit: Any, function: str) -> list[str]:
    """Preferred device of each operation or layer, in order, without those that need none."""
    from coremltools.models.compute_plan import MLComputePlan

    compute_plan = MLComputePlan.load_from_path(model.get_compiled_model_path(), unit)
    structure = compute_plan.model_structure
    if structure.program is not None:
        operations = structure.program.functions[function].block.operations
        usages = [
            compute_plan.get_compute_device_usage_for_mlprogram_operation(o) for o in operations
        ]
    elif structure.neuralnetwork is not None:
        layers = structure.neuralnetwork.layers
        usages = [
            compute_plan.get_compute_device_usage_for_neuralnetwork_layer(each) for each in layers
        ]
    else:
        usages = []
    kinds = [type(u.preferred_compute_device).__name__ for u in usages if u is not None]
    return [DEVICES.get(kind, kind) for kind in kinds]


def _unknown(note: str) -> Placement:
    return Placement(units={"Core ML": None}, known="unknown", note=note)
