"""Adopt a pre-exported file: its signature and the sizes of its open axes."""

from __future__ import annotations

import struct
from pathlib import Path

from latbench.api import ExportSpec, TensorSpec, UsageError
from latbench_exporters.pre_exported import IMAGE_AXES, check_axes, given_shapes, quoted, shown
from latbench_exporters.tflite.deciding import deciding_inputs
from latbench_exporters.tflite.edits import select_graph, set_shapes
from latbench_exporters.tflite.file import (
    Graph,
    Tensor,
    contents,
    damaged_file,
    describe,
    parse,
    parse_all,
    pixels,
    refuse_custom,
    refuse_inputs,
)


def adopt_file(path: Path, spec: ExportSpec, out: Path) -> tuple[Graph, dict[str, str]]:
    """Write the file at ``path`` to ``out`` as ``spec`` requests it; return its graph and details.

    The batch of an open first axis is as stored if it is not given. Raises :class:`UsageError` and
    :class:`StageError`.
    """
    content = bytearray(contents(path))
    graph = parse(bytes(content), path.name)
    refuse_custom(graph, path.name)
    details = _selected(content, graph, spec.signature)
    graph = parse(bytes(content), path.name)
    refuse_inputs(graph, path.name)
    shapes = _sizes(graph, spec)
    if shapes:
        set_shapes(content, shapes)
        graph = parse(bytes(content), path.name)
        details["resized"] = "yes"
    if decided := find_deciding(bytes(content), path.name):
        details["decided_by"] = ", ".join(decided)
    out.write_bytes(content)
    return graph, details


def find_deciding(content: bytes, name: str) -> tuple[str, ...]:
    """Names of the inputs whose values decide how much is computed. Raises :class:`StageError` if
    a graph that an operator executes is damaged."""
    try:
        return deciding_inputs(parse_all(content))
    except (ValueError, struct.error, IndexError, RecursionError) as error:
        raise damaged_file(name, error) from error


def _selected(content: bytearray, graph: Graph, wanted: str | None) -> dict[str, str]:
    """Make the wanted signature the one that is run. Raises :class:`UsageError`."""
    names = ", ".join(graph.signatures)
    if wanted is None:
        # Several signatures of one graph compute the same.
        several = len(set(graph.signatures.values())) > 1
        first = [name for name, index in graph.signatures.items() if index == 0]
        if not several:
            return {}
        return {"signature": ", ".join(first) or "the first graph", "signatures": names}
    if wanted not in graph.signatures:
        raise UsageError(
            f"the file has no signature {wanted!r}", hint=f"it has: {names or 'no signatures'}"
        )
    if (index := graph.signatures[wanted]) > 0:
        select_graph(content, index)
    return {"signature": wanted}


def _sizes(graph: Graph, spec: ExportSpec) -> dict[int, tuple[int, ...]]:
    """New shapes of inputs, by index of their tensors. Raises :class:`UsageError`."""
    inputs, _ = describe(graph)
    if spec.dims:
        raise UsageError(
            f"the file has no axis named {', '.join(spec.dims)}: axes of TFLite files have no "
            "names",
            hint="--shape NAME=SIZES",
        )
    check_axes(inputs, spec)
    shapes = given_shapes(inputs, spec)
    found, missing = {}, []
    for position, index in enumerate(graph.inputs):
        tensor, described = graph.tensors[index], inputs[position]
        sizes = _placed(described, spec, first=position == 0)
        for axis, size in enumerate(shapes.get(tensor.name, ())):
            if sizes.setdefault(axis, size) != size:
                raise UsageError(
                    f"axis {axis} of input {tensor.name!r} has two requested sizes: {size} by "
                    f"--shape, {sizes[axis]} by --batch or --resolution",
                    hint="omit one of the options",
                )
        whole = _fitted(tensor, sizes)
        if any(axis not in sizes for axis in _asked_axes(tensor)):
            missing.append(tensor)
        if whole != tensor.shape:
            found[index] = whole
    if missing:
        raise UsageError(
            "no size given for the open axes of " + ", ".join(shown(each.name) for each in missing),
            hint=" ".join(f"--shape {quoted(each.name)}={_template(each)}" for each in missing)
            + " with a number for each ?; or --resolution",
        )
    return found


def _placed(tensor: TensorSpec, spec: ExportSpec, *, first: bool) -> dict[int, int]:
    """Sizes by batch and resolution, by axis. The batch of other inputs, such as a state, may be
    elsewhere."""
    sizes = {}
    if spec.batch is not None and tensor.shape and first:
        sizes[0] = spec.batch
    if spec.resolution is not None and len(tensor.shape) == IMAGE_AXES:
        sizes |= dict(zip(pixels(tensor), spec.resolution, strict=True))
    return sizes


def _fitted(tensor: Tensor, sizes: dict[int, int]) -> tuple[int, ...]:
    """The shape with ``sizes``. Raises :class:`UsageError` for an axis that is fixed."""
    for axis, size in sizes.items():
        if axis not in tensor.open_axes and size != tensor.shape[axis]:
            raise UsageError(
                f"axis {axis} of input {tensor.name!r} is fixed at {tensor.shape[axis]} in the "
                f"file; requested {size}",
                hint="omit the option, or export the model again with that size",
            )
    return tuple(sizes.get(axis, size) for axis, size in enumerate(tensor.shape))


def _asked_axes(tensor: Tensor) -> list[int]:
    """Open axes whose size must be given: all but a batch with a stored size."""
    return [axis for axis in tensor.open_axes if axis > 0 or tensor.shape[axis] < 1]


def _template(tensor: Tensor) -> str:
    asked = _asked_axes(tensor)
    return "x".join("?" if axis in asked else str(size) for axis, size in enumerate(tensor.shape))
