"""Where Core ML plans to run each operation: it does not tell where it really did."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from latbench.api import Placement

DEVICES = {
    "MLCPUComputeDevice": "cpu",
    "MLGPUComputeDevice": "gpu",
    "MLNeuralEngineComputeDevice": "neural_engine",
}


def first_line(error: Exception) -> str:
    """Of a foreign error's message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def plan(model: Any, unit: Any) -> Placement:
    """What ``MLComputePlan`` (macOS 14.4) says of a loaded model for a ``ComputeUnit``."""
    try:
        devices = _planned(model, unit)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - an older system fails in many ways
        return _unknown(f"MLComputePlan is not available: {first_line(error)}")
    if not devices:
        return _unknown("MLComputePlan tells no operation's device")
    return Placement(
        units={name: devices.count(name) for name in sorted(set(devices))},
        known="planned",
        note="preferred devices of MLComputePlan; Core ML does not tell what it really used",
        partitions=sum(1 for _ in groupby(devices)),
    )


def _planned(model: Any, unit: Any) -> list[str]:
    """The preferred device of each operation or layer, in order; those that need none left out."""
    from coremltools.models.compute_plan import MLComputePlan

    told = MLComputePlan.load_from_path(model.get_compiled_model_path(), unit)
    structure = told.model_structure
    if structure.program is not None:
        operations = structure.program.functions["main"].block.operations
        usages = [told.get_compute_device_usage_for_mlprogram_operation(o) for o in operations]
    elif structure.neuralnetwork is not None:
        layers = structure.neuralnetwork.layers
        usages = [told.get_compute_device_usage_for_neuralnetwork_layer(each) for each in layers]
    else:
        usages = []
    kinds = [type(u.preferred_compute_device).__name__ for u in usages if u is not None]
    return [DEVICES.get(kind, kind) for kind in kinds]


def _unknown(note: str) -> Placement:
    return Placement(units={"Core ML": None}, known="unknown", note=note)
