"""What ready files of fixed sizes have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from latbench.api import ExportSpec, TensorSpec, UsageError

IMAGE_AXES = 4


def check_fixed(
    inputs: Sequence[TensorSpec],
    spec: ExportSpec,
    pixels: Callable[[TensorSpec], tuple[int, int]] = lambda tensor: (2, 3),
) -> None:
    """Refuse what was asked for and is not so in a file that is taken as it is: its precision, its
    options, its sizes. Raises :class:`UsageError`.

    ``pixels`` tells which axes of an image are its height and width.
    """
    check_plain(spec)
    for name in spec.dims:
        raise UsageError(f"the file has no axis named {name}: all its sizes are fixed")
    check_axes(inputs, spec)
    for tensor in inputs:
        if spec.batch is not None and tensor.shape:
            _check(tensor, 0, spec.batch)
        if spec.resolution is not None and len(tensor.shape) == IMAGE_AXES:
            for axis, size in zip(pixels(tensor), spec.resolution, strict=True):
                _check(tensor, axis, size)


def check_plain(spec: ExportSpec) -> None:
    """Refuse options and a precision: they are a ready file's own. Raises :class:`UsageError`."""
    for name in spec.options:
        raise UsageError(f"a ready file has its {name}; the option is for a model to export")
    if spec.precision != "fp32":
        raise UsageError(
            f"a ready file is taken as it is; {spec.precision} is for a model to export",
            hint="leave --precision out",
        )


def check_axes(inputs: Sequence[TensorSpec], spec: ExportSpec) -> None:
    """Refuse a batch or a resolution that no input has. Raises :class:`UsageError`."""
    axes = [len(tensor.shape) for tensor in inputs]
    for asked, there, what in (
        (spec.batch, any(axes), "batch"),
        (spec.resolution, IMAGE_AXES in axes, "resolution"),
    ):
        if asked is not None and not there:
            raise UsageError(f"no input of the file has a {what}", hint=f"leave --{what} out")


def _check(tensor: TensorSpec, axis: int, size: int) -> None:
    if tensor.shape[axis] != size:
        raise UsageError(
            f"axis {axis} of input {tensor.name!r} is fixed at {tensor.shape[axis]} in the "
            f"file; {size} was asked for",
            hint="leave the option out, or export the model again with that size",
        )
