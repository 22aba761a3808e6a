"""Describe a Core ML model as it is: features, operations, metadata. Nothing is executed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from latbench.api import FileContent, OpenTensor, StageError
from latbench_exporters.coreml.interface import DTYPES, interface
from latbench_exporters.coreml.package import Package, parse, read

FLEXIBILITIES = {"multiArrayType": "ShapeFlexibility", "imageType": "SizeFlexibility"}
FLOATS = range(10, 14)
"""``DataType`` of 16, 32 and 64 bits."""
FACTS = {
    "shortDescription": "description",
    "versionString": "version",
    "author": "author",
    "license": "license",
}


def inspect_file(path: Path) -> FileContent:
    """The content of the package or specification at ``path``. Raises :class:`StageError`."""
    package = parse(path)
    spec, description = package.spec, package.spec.description
    operations = list(_operations(spec)) if package.kind == "mlProgram" else []
    weights = [_weight(operation) for operation in operations if operation.type == "const"]
    try:
        interface(read(path).spec)
        problem = None
    except StageError as error:
        problem = error.message
    return FileContent(
        inputs=tuple(map(_tensor, (*description.input, *description.state))),
        outputs=tuple(map(_tensor, description.output)),
        operators=Counter(_called(package, operations)),
        details={
            "type": package.kind.lower(),
            "specification version": str(spec.specificationVersion),
            **({"states": str(len(description.state))} if description.state else {}),
        },
        metadata={
            **{
                label: getattr(description.metadata, name)
                for name, label in FACTS.items()
                if getattr(description.metadata, name)
            },
            **description.metadata.userDefined,
        },
        parameters=sum(weights) if package.kind == "mlProgram" else None,
        problem=problem,
    )


def _called(package: Package, operations: list[Any]) -> list[str]:
    if package.kind == "mlProgram":
        return [operation.type for operation in operations if operation.type != "const"]
    network = getattr(package.spec, package.kind)
    return [layer.WhichOneof("layer") or "layer" for layer in getattr(network, "layers", ())]


def _operations(spec: Any) -> Iterator[Any]:
    """All operations. Iterative, since the file determines the nesting depth."""
    pending = [
        block
        for function in spec.mlProgram.functions.values()
        for block in function.block_specializations.values()
    ]
    while pending:
        for operation in pending.pop().operations:
            yield operation
            pending.extend(operation.blocks)


def _weight(operation: Any) -> int:
    """Elements of a constant that is more than a number."""
    kind = operation.attributes["val"].type.tensorType
    dims = kind.dimensions if kind.dataType in FLOATS else ()
    size = math.prod(int(dim.constant.size) for dim in dims)
    return size if dims and size > 1 else 0


def _tensor(feature: Any) -> OpenTensor:
    kind = feature.type.WhichOneof("Type") or "unknown"
    if kind == "stateType":
        return OpenTensor(name=feature.name, shape=None, dtype="state")
    value: Any = getattr(feature.type, kind, None)
    flexible = kind in FLEXIBILITIES and value.WhichOneof(FLEXIBILITIES[kind]) is not None
    if kind == "imageType":
        shape: tuple[int | None, ...] = (value.height, value.width)
        dtype = f"image {value.ColorSpace.Name(value.colorSpace)}"
    elif kind == "multiArrayType":
        shape, dtype = tuple(value.shape), DTYPES.get(value.dataType, "unknown")
    else:
        return OpenTensor(name=feature.name, shape=None, dtype=kind.removesuffix("Type"))
    sizes: tuple[int | None, ...] = tuple(shape)
    if flexible:
        fixed = _fixed_axes(value, len(shape)) if kind == "multiArrayType" else set()
        sizes = tuple(size if axis in fixed else None for axis, size in enumerate(shape))
    return OpenTensor(name=feature.name, shape=sizes, dtype=dtype)


def _fixed_axes(array: Any, axes: int) -> set[int]:
    """Axes of an array of several shapes that have one size in all of them."""
    ranges = array.shapeRange.sizeRanges
    if len(ranges) == axes:
        return {i for i, each in enumerate(ranges) if each.lowerBound == each.upperBound}
    shapes = [tuple(each.shape) for each in array.enumeratedShapes.shapes]
    return {
        i for i in range(axes) if len({shape[i] for shape in shapes if len(shape) == axes}) == 1
    }
