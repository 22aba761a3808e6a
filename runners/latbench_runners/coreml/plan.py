"""Planned placement of operations in Core ML, which does not report the actual placement."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from itertools import groupby
from typing import Any

from latbench.api import Placement, examples_of
from latbench_runners.coreml.errors import reason

DEVICES = {
    "MLCPUComputeDevice": "cpu",
    "MLGPUComputeDevice": "gpu",
    "MLNeuralEngineComputeDevice": "neural_engine",
}


def plan(model: Any, unit: Any, function: str) -> Placement:
    """Placement of a function of a loaded model according to ``MLComputePlan`` (macOS 14.4) for a
    ``ComputeUnit``."""
    if find_spec("coremltools.models.compute_plan") is None:
        return _unknown("this coremltools has no MLComputePlan (8.1 or later has)")
    try:
        operators = _planned(model, unit, function)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - older systems fail in many ways
        return _unknown(f"MLComputePlan is not available: {reason(error)}")
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
        if function not in structure.program.functions:
            raise LookupError(f"the compiled model has no function {function!r}")
        operations = _operations(structure.program.functions[function].block)
        usage_of = compute_plan.get_compute_device_usage_for_mlprogram_operation
    elif structure.neuralnetwork is not None:
        operations = iter(structure.neuralnetwork.layers)
        usage_of = compute_plan.get_compute_device_usage_for_neuralnetwork_layer
    else:
        return []
    return [
        (_name(usage.preferred_compute_device), _called(operation))
        for operation in operations
        if (usage := usage_of(operation)) is not None
    ]


def _operations(block: Any) -> Iterator[Any]:
    """The operations of a block and of those inside it: branches and bodies of loops."""
    for operation in block.operations:
        yield operation
        for inner in operation.blocks:
            yield from _operations(inner)


def _called(operation: Any) -> str:
    """Name and kind of an operation of a program, which its outputs name, or of a layer."""
    outputs = getattr(operation, "outputs", ())
    name = getattr(operation, "name", None) or (outputs[0].name if outputs else "unnamed")
    kind = getattr(operation, "operator_name", None) or getattr(operation, "type", "unknown kind")
    return f"{name} ({kind})"


def _name(device: Any) -> str:
    """Unit of a compute device; ``None`` stands for one that these bindings do not know."""
    if device is None:
        return "unknown"
    kind = type(device).__name__
    return DEVICES.get(kind, kind)


def _unknown(note: str) -> Placement:
    return Placement(units={"Core ML": None}, known="unknown", note=note)
