"""Fix the dynamic axes of pre-exported ONNX graphs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from latbench.api import ExportSpec, StageError, UsageError
from latbench_exporters.onnx.graph import real_inputs, tensor_spec
from latbench_exporters.pre_exported import IMAGE_AXES, check_axes

if TYPE_CHECKING:
    import onnx


def fix_shapes(model: onnx.ModelProto, spec: ExportSpec) -> None:
    """Set every dynamic axis of the inputs to a fixed size, in place.

    ``spec.batch`` is the first axis of every input, ``spec.resolution`` height and width of 4-D
    inputs; ``spec.dims`` sets any other axis by name.

    Raises :class:`UsageError` if an axis has no size, is fixed at another size, or does not exist,
    and :class:`StageError` if the graph has no inputs.
    """
    inputs = real_inputs(model.graph)
    if not inputs:
        raise StageError(
            "export",
            "the ONNX file has no inputs, so it cannot be timed",
            hint="its output is constant; export the model with its input",
        )
    check_axes(tuple(tensor_spec(value) for value in inputs), spec)
    missing = []
    unused = set(spec.dims)
    for value in inputs:
        shape = value.type.tensor_type.shape.dim
        for axis, dim in enumerate(shape):
            unused.discard(dim.dim_param)
            asked = _asked(value, axis, spec)
            if dim.dim_value > 0:
                if asked is not None and asked != dim.dim_value:
                    raise UsageError(
                        f"axis {axis} of input {value.name!r} is fixed at {dim.dim_value} in the "
                        f"file; requested {asked}",
                        hint="omit the option, or export the file again with that size",
                    )
            elif asked is None:
                missing.append(f"axis {axis} ({dim.dim_param or 'unnamed'}) of {value.name!r}")
            else:
                dim.dim_value = asked
    if unused:
        raise UsageError(f"the file has no axis named {', '.join(sorted(unused))}")
    if missing:
        raise UsageError(
            f"no size given for the dynamic {', '.join(missing)}",
            hint="use --batch, --resolution, or --dim NAME=SIZE",
        )
    # Shapes of other tensors may still contain the axis names, so infer them again.
    del model.graph.value_info[:]


def _asked(value: onnx.ValueInfoProto, axis: int, spec: ExportSpec) -> int | None:
    """The requested size of one input axis. Raises :class:`UsageError` if two options disagree."""
    axes = value.type.tensor_type.shape.dim
    name = axes[axis].dim_param
    named, placed = spec.dims.get(name), _placed([dim.dim_value for dim in axes], axis, spec)
    if named is not None and placed is not None and named != placed:
        raise UsageError(
            f"axis {axis} ({name}) of input {value.name!r} has two requested sizes: {named} by "
            f"--dim, {placed} by {'--batch' if axis == 0 else '--resolution'}",
            hint="omit one of the options",
        )
    return placed if named is None else named


def _placed(sizes: Sequence[int], axis: int, spec: ExportSpec) -> int | None:
    """Size of an axis according to batch and resolution; dynamic axes are 0 in ``sizes``."""
    if axis == 0:
        return spec.batch
    if len(sizes) != IMAGE_AXES or spec.resolution is None:
        return None
    first = 1 if sizes[3] in (1, 3, 4) and sizes[1] not in (1, 3, 4) else 2
    return spec.resolution[axis - first] if axis in (first, first + 1) else None
