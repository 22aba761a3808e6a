"""What ready files of fixed sizes have in common."""

from __future__ import annotations

from collections.abc import Sequence

from latbench.api import ExportSpec, TensorSpec, UsageError

IMAGE_AXES = 4


def check_fixed(inputs: Sequence[TensorSpec], spec: ExportSpec) -> None:
    """Refuse what was asked for and is not so in a file that is taken as it is: its precision, its
    options, its sizes. Raises :class:`UsageError`."""
    for name in spec.options:
        raise UsageError(f"a ready file has its {name}; the option is for a model to export")
    if spec.precision != "fp32":
        raise UsageError(
            f"a ready file is taken as it is; {spec.precision} is for a model to export",
            hint="leave --precision out",
        )
    for name in spec.dims:
        raise UsageError(f"the file has no axis named {name}: all its sizes are fixed")
    batched = [tensor for tensor in inputs if tensor.shape]
    images = [tensor for tensor in inputs if len(tensor.shape) == IMAGE_AXES]
    if spec.batch is not None:
        _check(batched, {0: spec.batch}, "a batch")
    if spec.resolution is not None:
        _check(images, dict(zip((2, 3), spec.resolution, strict=True)), "a resolution")


def _check(inputs: Sequence[TensorSpec], asked: dict[int, int], what: str) -> None:
    if not inputs:
        raise UsageError(f"no input of the file has {what}", hint="leave the option out")
    for tensor in inputs:
        for axis, size in asked.items():
            if tensor.shape[axis] != size:
                raise UsageError(
                    f"axis {axis} of input {tensor.name!r} is fixed at {tensor.shape[axis]} in the "
                    f"file; {size} was asked for",
                    hint="leave the option out, or export the model again with that size",
                )
