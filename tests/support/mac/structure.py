"""The structure of a compiled model, and a plan of where its operations would be executed."""

from __future__ import annotations

from typing import Any

from support.mac.facts import MAC

UNITS = {
    "ALL": ("engine", "gpu", "cpu"),
    "CPU_AND_NE": ("engine", "cpu"),
    "CPU_AND_GPU": ("gpu", "cpu"),
    "CPU_ONLY": ("cpu",),
}
ON_THE_CPU = ("cast", "classify", "read_state", "coreml_update_state")
HALF = 10
"""``FLOAT16`` in the types of an ML program."""


def structure(spec: Any) -> Any:
    """``MLModelStructure``. The proxy of an operation or layer is its part of the specification."""
    from coremltools.models import compute_plan as plan

    match spec.WhichOneof("Type"):
        case "mlProgram":
            functions = {
                name: plan.MLModelStructureProgramFunction(
                    _named(function.inputs), _block(function.block_specializations[function.opset])
                )
                for name, function in spec.mlProgram.functions.items()
            }
            return plan.MLModelStructure(None, plan.MLModelStructureProgram(functions), None)
        case "neuralNetwork":
            layers = [
                plan.MLModelStructureNeuralNetworkLayer(
                    layer.name, layer.WhichOneof("layer"), [*layer.input], [*layer.output], layer
                )
                for layer in spec.neuralNetwork.layers
            ]
            return plan.MLModelStructure(plan.MLModelStructureNeuralNetwork(layers), None, None)
        case _:
            return plan.MLModelStructure(None, None, None)


def _named(values: Any) -> list[Any]:
    from coremltools.models import compute_plan as plan

    return [
        plan.MLModelStructureProgramNamedValueType(
            each.name, plan.MLModelStructureProgramValueType()
        )
        for each in values
    ]


def _block(block: Any) -> Any:
    from coremltools.models import compute_plan as plan

    return plan.MLModelStructureProgramBlock(
        _named(block.inputs), [_operation(each) for each in block.operations], [*block.outputs]
    )


def _operation(operation: Any) -> Any:
    from coremltools.models import compute_plan as plan

    def binding(each: Any) -> Any:
        constant = each.WhichOneof("binding") == "value"
        return plan.MLModelStructureProgramBinding(
            None if constant else each.name,
            plan.MLModelStructureProgramValue() if constant else None,
        )

    inputs = {
        name: plan.MLModelStructureProgramArgument([binding(each) for each in value.arguments])
        for name, value in operation.inputs.items()
    }
    blocks = [_block(each) for each in operation.blocks]
    name = operation.type if operation.type == "const" else f"ios17.{operation.type}"
    return plan.MLModelStructureProgramOperation(
        inputs, name, _named(operation.outputs), blocks, operation
    )


def preferred(operation: Any, units: str) -> str | None:
    """The unit for an operation of a program; ``None`` for a constant."""
    if operation.type == "const":
        return None
    allowed = UNITS[units]
    kinds = {each.type.tensorType.dataType for each in operation.outputs}
    if operation.type in ON_THE_CPU:
        return "cpu"
    return next(unit for unit in allowed if unit != "engine" or HALF in kinds)


def usage(unit: str | None, units: str) -> Any:
    """``MLComputePlanDeviceUsage``."""
    from coremltools.models.compute_plan import MLComputePlanDeviceUsage

    if unit is None:
        return None
    preferred_device = None if "device" in MAC.fails else device(unit)
    return MLComputePlanDeviceUsage(preferred_device, [device(each) for each in UNITS[units]])


def cost(operation: Any) -> Any:
    """``MLComputePlanCost``, of convolutions only: nothing is known of how Core ML estimates."""
    from coremltools.models.compute_plan import MLComputePlanCost

    return MLComputePlanCost(0.5) if operation.type == "conv" else None


def device(unit: str) -> Any:
    """An ``MLComputeDevice``."""
    from coremltools import libcoremlpython as bindings
    from coremltools.models import compute_device

    match unit:
        case "engine":
            proxy = bindings._MLNeuralEngineComputeDeviceProxy()
            return compute_device.MLNeuralEngineComputeDevice(proxy)
        case "gpu":
            return compute_device.MLGPUComputeDevice(bindings._MLGPUComputeDeviceProxy())
        case _:
            return compute_device.MLCPUComputeDevice(bindings._MLCPUComputeDeviceProxy())
