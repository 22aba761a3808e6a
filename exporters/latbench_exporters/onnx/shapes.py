"""Fix the dynamic axes of pre-exported ONNX graphs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from latbench.api import ExportSpec, StageError, UsageError
from latbench_exporters.onnx.graph import real_inputs, tensor_spec
from latbench_exporters.pre_exported import IMAGE_AXES, check_axes, given_shapes, quoted, shown

if TYPE_CHECKING:
    import onnx


def fix_shapes(model: onnx.ModelProto, spec: ExportSpec) -> None:
    """Set every dynamic axis of the inputs to a fixed size, in place.

    ``spec.shapes`` gives all sizes of an input and ``spec.dims`` those of named axes.
    ``spec.batch`` is the first axis of every input where it is dynamic, and ``spec.resolution``
    height and width of 4-D inputs.

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
    tensors = tuple(tensor_spec(value) for value in inputs)
    check_axes(tensors, spec)
    shapes = given_shapes(tensors, spec)
    missing: dict[str, onnx.ValueInfoProto] = {}
    unused = set(spec.dims)
    for position, value in enumerate(inputs):
        if not value.type.tensor_type.HasField("shape"):
            _add_axes(value, shapes)
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            unused.discard(dim.dim_param)
            asked = _asked(value, axis, spec, shapes)
            fixed = _size(dim)
            if asked is None:
                if fixed is None:
                    missing[value.name] = value
                continue
            option, size = asked
            if fixed is None:
                dim.dim_value = size
            elif fixed != size and not (option == "--batch" and _elsewhere(inputs, position)):
                raise UsageError(
                    f"axis {axis} of input {value.name!r} is fixed at {fixed} in the file; "
                    f"{option} requests {size}",
                    hint="omit the option, or export the file again with that size",
                )
    if unused:
        raise UsageError(f"the file has no axis named {', '.join(map(shown, sorted(unused)))}")
    if missing:
        raise UsageError(
            f"no size given for the dynamic axes of {', '.join(map(shown, missing))}",
            hint=" ".join(map(_template, missing.values()))
            + " with a number for each ?; or "
            + ", ".join((*_axis_names(missing.values()), "--batch", "--resolution")),
        )
    # Shapes of other tensors may still contain the axis names, so infer them again.
    del model.graph.value_info[:]


def open_inputs(model: onnx.ModelProto) -> dict[str, onnx.TypeProto]:
    """Types of the inputs with dynamic axes, by name."""
    import onnx

    found = {}
    for value in real_inputs(model.graph):
        if any(_size(dim) is None for dim in value.type.tensor_type.shape.dim):
            found[value.name] = onnx.TypeProto()
            found[value.name].CopyFrom(value.type)
    return found


def reopen(model: onnx.ModelProto, types: Mapping[str, onnx.TypeProto]) -> None:
    """Give inputs the types that :func:`open_inputs` returned.

    A branch that is not taken may be invalid at the sizes that were fixed, and ONNX Runtime
    refuses such a graph when it infers shapes.
    """
    for value in model.graph.input:
        if value.name in types:
            value.type.CopyFrom(types[value.name])


def _size(dim: onnx.TensorShapeProto.Dimension) -> int | None:
    """Size of an axis, which may be 0; ``None`` if it is dynamic."""
    if dim.WhichOneof("value") == "dim_value" and dim.dim_value >= 0:
        return dim.dim_value
    return None


def _template(value: onnx.ValueInfoProto) -> str:
    """The option with all sizes of an input, a question mark for each dynamic axis."""
    sizes = [_size(dim) for dim in value.type.tensor_type.shape.dim]
    shape = "x".join("?" if size is None else str(size) for size in sizes)
    return f"--shape {quoted(value.name)}={shape}"


def _axis_names(values: Iterable[onnx.ValueInfoProto]) -> list[str]:
    """The options that give a size to the named dynamic axes of inputs."""
    dims = [dim for value in values for dim in value.type.tensor_type.shape.dim]
    names = dict.fromkeys(dim.dim_param for dim in dims if _size(dim) is None)
    # Some converters call every axis "?".
    return [f"--dim {quoted(name)}=SIZE" for name in names if name.strip("?")]


def _add_axes(value: onnx.ValueInfoProto, shapes: Mapping[str, Sequence[int]]) -> None:
    """Give an input without a shape the axes that are requested. Raises :class:`UsageError`."""
    if value.name not in shapes:
        raise UsageError(
            f"the file does not say how many axes input {value.name!r} has",
            hint=f"give all of its sizes: --shape {quoted(value.name)}=1x3x224x224",
        )
    shape = value.type.tensor_type.shape
    shape.SetInParent()
    for _ in shapes[value.name]:
        shape.dim.add()


def _elsewhere(inputs: Sequence[onnx.ValueInfoProto], position: int) -> bool:
    """Whether the batch is the first axis of another input, so that this one may have none."""
    first = [value.type.tensor_type.shape.dim[:1] for value in inputs]
    # A dynamic axis has its size by now if its input comes first.
    return position > 0 or any(axes and _size(axes[0]) is None for axes in first)


def _asked(
    value: onnx.ValueInfoProto,
    axis: int,
    spec: ExportSpec,
    shapes: Mapping[str, Sequence[int]],
) -> tuple[str, int] | None:
    """The option that requests a size for one input axis, and the size.

    Raises :class:`UsageError` if two options disagree.
    """
    axes = value.type.tensor_type.shape.dim
    name = axes[axis].dim_param
    found: dict[str, int] = {}
    if value.name in shapes:
        found["--shape"] = shapes[value.name][axis]
    if name in spec.dims:
        found["--dim"] = spec.dims[name]
    sizes = [_size(dim) or 0 for dim in axes]
    if (placed := _placed(sizes, axis, spec)) is not None:
        option = "--batch" if axis == 0 else "--resolution"
        # Of an input whose shape is given, a batch that differs is one of another input's axes.
        if option == "--resolution" or "--shape" not in found or _size(axes[axis]) is None:
            found[option] = placed
    if len(set(found.values())) > 1:
        sizes_asked = ", ".join(f"{size} by {option}" for option, size in found.items())
        label = f" ({shown(name)})" if name else ""
        raise UsageError(
            f"axis {axis}{label} of input {value.name!r} has two requested sizes: {sizes_asked}",
            hint="omit one of the options",
        )
    return next(iter(found.items()), None)


def _placed(sizes: Sequence[int], axis: int, spec: ExportSpec) -> int | None:
    """Size of an axis according to batch and resolution; dynamic axes are 0 in ``sizes``."""
    if axis == 0:
        return spec.batch
    if len(sizes) != IMAGE_AXES or spec.resolution is None:
        return None
    first = 1 if sizes[3] in (1, 3, 4) and sizes[1] not in (1, 3, 4) else 2
    return spec.resolution[axis - first] if axis in (first, first + 1) else None
