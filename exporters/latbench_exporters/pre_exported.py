"""Checks shared by exporters that adopt pre-exported files of fixed shape."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence

from latbench.api import ExportSpec, TensorSpec, UsageError
from latbench.schema.input_content import find_input

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
    for name, shape in given_shapes(inputs, spec).items():
        tensor = next(each for each in inputs if each.name == name)
        for axis, size in enumerate(shape):
            check_size(tensor, axis, size)
    first = next((tensor for tensor in inputs if tensor.shape), None)
    for tensor in inputs:
        # Other inputs, such as a state, may have the batch elsewhere.
        if spec.batch is not None and tensor is first:
            check_size(tensor, 0, spec.batch)
        if spec.resolution is not None and len(tensor.shape) == IMAGE_AXES:
            for axis, size in zip(pixels(tensor), spec.resolution, strict=True):
                check_size(tensor, axis, size)


def given_shapes(inputs: Sequence[TensorSpec], spec: ExportSpec) -> dict[str, tuple[int, ...]]:
    """The requested shapes by the file's own names. Raises :class:`UsageError` for an input that
    the file does not have, one that is named twice, and a wrong number of axes."""
    names = [tensor.name for tensor in inputs]
    found: dict[str, tuple[int, ...]] = {}
    for asked, shape in spec.shapes.items():
        name = find_input(asked, names, what="the file")
        if name in found:
            raise UsageError(f"the shape of input {name!r} is given twice")
        found[name] = shape
    for tensor in inputs:
        if tensor.name in found and tensor.shape and len(tensor.shape) != len(found[tensor.name]):
            asked = "x".join(map(str, found[tensor.name])) or "scalar"
            raise UsageError(
                f"input {tensor.name!r} has {len(tensor.shape)} axes, but {asked} has "
                f"{len(found[tensor.name])}"
            )
    return found


def check_plain(spec: ExportSpec, *, signatures: bool = False) -> None:
    """Reject options and precisions: a pre-exported file has its own. Raises
    :class:`UsageError`."""
    if spec.signature is not None and not signatures:
        raise UsageError("files of this format have no signatures", hint="omit --signature")
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


def shown(name: str) -> str:
    """A name in a file for a message: characters that cannot be printed become escapes."""
    return name if name.isprintable() else repr(name)[1:-1]


def quoted(name: str) -> str:
    """A name in a file for a command that a hint offers."""
    return shlex.quote(name) if name.isprintable() else f"$'{shown(name)}'"


def check_axes(inputs: Sequence[TensorSpec], spec: ExportSpec) -> None:
    """Reject a batch or resolution if no input has one. Raises :class:`UsageError`."""
    axes = [len(tensor.shape) for tensor in inputs]
    for asked, there, what in (
        (spec.batch, any(axes), "batch"),
        (spec.resolution, IMAGE_AXES in axes, "resolution"),
    ):
        if asked is not None and not there:
            raise UsageError(f"no input of the file has a {what}", hint=f"omit --{what}")


def check_size(tensor: TensorSpec, axis: int, size: int) -> None:
    """Raise :class:`UsageError` if a fixed axis has another size."""
    if tensor.shape[axis] != size:
        raise UsageError(
            f"axis {axis} of input {tensor.name!r} is fixed at {tensor.shape[axis]} in the "
            f"file; requested {size}",
            hint="omit the option, or export the model again with that size",
        )
