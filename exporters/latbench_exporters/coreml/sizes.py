"""The shapes that a flexible input of a Core ML package accepts, and the choice of one.

The package stays flexible: a runtime may compute it otherwise than a package of fixed shapes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from latbench.api import ExportSpec, TensorSpec, UsageError
from latbench_exporters.pre_exported import IMAGE_AXES, check_axes, check_size, given_shapes


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Shapes that an input accepts: a list of them, or a range for each axis."""

    listed: tuple[tuple[int, ...], ...] = ()
    ranges: tuple[tuple[int, int | None], ...] = ()
    """Least and largest size of each axis; ``None`` for no limit."""

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.listed[0] if self.listed else self.ranges)

    def first(self) -> tuple[int, ...]:
        """The first shape of the list, or the smallest one."""
        return self.listed[0] if self.listed else tuple(low for low, _ in self.ranges)

    def is_open(self, axis: int) -> bool:
        """Whether ``axis`` accepts several sizes."""
        if self.listed:
            return len({shape[axis] for shape in self.listed}) > 1
        low, high = self.ranges[axis]
        return low != high

    def nearest(self, shape: tuple[int, ...], asked: Mapping[int, int]) -> tuple[int, ...] | None:
        """``shape`` if it is accepted; else the only one of the list with the sizes ``asked``."""
        if not self.listed:
            fits = all(
                low <= size and (high is None or size <= high)
                for size, (low, high) in zip(shape, self.ranges, strict=True)
            )
            return shape if fits else None
        if shape in self.listed:
            return shape
        found = [each for each in self.listed if all(each[a] == n for a, n in asked.items())]
        return found[0] if len(found) == 1 else None

    def __str__(self) -> str:
        if self.listed:
            return " or ".join(shape_text(shape) for shape in self.listed)
        return "x".join(_range_text(low, high) for low, high in self.ranges)


def array_sizes(value: Any) -> Sizes | None:
    """The shapes that a ``multiArrayType`` accepts; ``None`` if it is fixed."""
    match value.WhichOneof("ShapeFlexibility"):
        case "enumeratedShapes":
            listed = tuple(tuple(each.shape) for each in value.enumeratedShapes.shapes)
            return _of(Sizes(listed=listed)) if listed else None
        case "shapeRange":
            ranges = tuple(_limits(each) for each in value.shapeRange.sizeRanges)
            return _of(Sizes(ranges=ranges)) if ranges else None
        case _:
            return None


def image_sizes(value: Any, channels: int) -> Sizes | None:
    """The shapes that an ``imageType`` accepts, as NCHW; ``None`` if it is fixed."""
    match value.WhichOneof("SizeFlexibility"):
        case "enumeratedSizes":
            sizes = value.enumeratedSizes.sizes
            listed = tuple((1, channels, each.height, each.width) for each in sizes)
            return _of(Sizes(listed=listed)) if listed else None
        case "imageSizeRange":
            both = value.imageSizeRange
            height, width = _limits(both.heightRange), _limits(both.widthRange)
            return _of(Sizes(ranges=((1, 1), (channels, channels), height, width)))
        case _:
            return None


def choose_sizes(
    inputs: Sequence[TensorSpec], sizes: Mapping[str, Sizes], spec: ExportSpec
) -> tuple[TensorSpec, ...]:
    """The inputs with the shapes that ``spec`` requests; the default ones where it says nothing.

    ``spec.batch`` is the first axis of the first input, and of others where it is open.
    ``spec.resolution`` is height and width of 4-D inputs, NCHW. Raises :class:`UsageError` for a
    shape that an input does not accept.
    """
    for name in spec.dims:
        raise UsageError(
            f"the file has no axis named {name}: axes of Core ML packages have no names",
            hint="--shape NAME=SIZES",
        )
    check_axes(inputs, spec)
    shapes = given_shapes(inputs, spec)
    first = next((tensor for tensor in inputs if tensor.shape), None)
    chosen = []
    for tensor in inputs:
        own = sizes.get(tensor.name)
        asked = dict(enumerate(shapes.get(tensor.name, ())))
        for axis, size in _placed(tensor, own, spec, first=tensor is first).items():
            if asked.setdefault(axis, size) != size:
                raise UsageError(
                    f"axis {axis} of input {tensor.name!r} has two requested sizes: "
                    f"{asked[axis]} by --shape, {size} by --batch or --resolution",
                    hint="omit one of the options",
                )
        chosen.append(_sized(tensor, own, asked))
    return tuple(chosen)


def _placed(
    tensor: TensorSpec, sizes: Sizes | None, spec: ExportSpec, *, first: bool
) -> dict[int, int]:
    """Sizes by batch and resolution, by axis."""
    found = {}
    open_batch = sizes is not None and sizes.is_open(0)
    if spec.batch is not None and tensor.shape and (first or open_batch):
        found[0] = spec.batch
    if spec.resolution is not None and len(tensor.shape) == IMAGE_AXES:
        found |= {2: spec.resolution[0], 3: spec.resolution[1]}
    return found


def _sized(tensor: TensorSpec, sizes: Sizes | None, asked: Mapping[int, int]) -> TensorSpec:
    if sizes is None:
        for axis, size in asked.items():
            check_size(tensor, axis, size)
        return tensor
    wanted = tuple(asked.get(axis, size) for axis, size in enumerate(tensor.shape))
    shape = sizes.nearest(wanted, asked)
    if shape is None:
        raise UsageError(
            f"input {tensor.name!r} accepts {sizes}, not {shape_text(wanted)}",
            hint=f"--shape {tensor.name}={shape_text(sizes.first())}, for example",
        )
    return TensorSpec(name=tensor.name, shape=shape, dtype=tensor.dtype)


def shape_text(shape: Sequence[int]) -> str:
    """A shape such as ``1x3x64x64``."""
    return "x".join(map(str, shape)) or "scalar"


def _of(sizes: Sizes) -> Sizes | None:
    """``None`` if just one shape is accepted."""
    return sizes if any(sizes.is_open(axis) for axis in range(sizes.rank)) else None


def _limits(found: Any) -> tuple[int, int | None]:
    """A negative upper bound is none."""
    return found.lowerBound, found.upperBound if found.upperBound >= 0 else None


def _range_text(low: int, high: int | None) -> str:
    if low == high:
        return str(low)
    return f"{low}..{'inf' if high is None else high}"
