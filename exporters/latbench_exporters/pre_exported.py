"""Checks shared by exporters that adopt pre-exported files of fixed shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from latbench.api import ExportSpec, TensorSpec, UsageError

IMAGE_AXES = 4


def check_fixed(
    inputs: Sequence[TensorSpec],
    spec: ExportSpec,
    pixels: Callable[[TensorSpec], tuple[int, int]] = lambda tensor: (2, 3),
) -> None:
    """Check a request against a file that is used unchanged: precision, options, sizes.

    ``pixels`` returns the height and width axes of an image. Raises :class:`UsageError` if the
    request differs from the file.
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
    """Reject options and precisions: a pre-exported file has its own. Raises
    :class:`UsageError`."""
    for name in spec.options:
        raise UsageError(
            f"option {name} is invalid for a pre-exported file",
            hint="the option applies to models that latbench exports",
        )
    if spec.precision != "fp32":
        raise UsageError(
            f"--precision {spec.precision} is invalid for a pre-exported file, which has its own",
            hint="omit --precision",
        )


def check_axes(inputs: Sequence[TensorSpec], spec: ExportSpec) -> None:
    """Reject a batch or resolution if no input has one. Raises :class:`UsageError`."""
    axes = [len(tensor.shape) for tensor in inputs]
    for asked, there, what in (
        (spec.batch, any(axes), "batch"),
        (spec.resolution, IMAGE_AXES in axes, "resolution"),
    ):
        if asked is not None and not there:
            raise UsageError(f"no input of the file has a {what}", hint=f"omit --{what}")


def _check(tensor: TensorSpec, axis: int, size: int) -> None:
    if tensor.shape[axis] != size:
        raise UsageError(
            f"axis {axis} of input {tensor.name!r} is fixed at {tensor.shape[axis]} in the "
            f"file; requested {size}",
            hint="omit the option, or export the model again with that size",
        )
