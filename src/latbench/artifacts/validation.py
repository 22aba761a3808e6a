"""Whether an exported file still is the model: outputs, operators, counts."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from latbench.analysis.parity import (
    check_cosine,
    check_counts,
    check_parity,
    check_share,
    cosine,
    errors,
    tolerance_of,
    top1_agreement,
)
from latbench.api import (
    Array,
    Exported,
    Exporter,
    ExportSpec,
    Model,
    UsageError,
    make_inputs,
)
from latbench.plugins import format_names, load_exporter
from latbench.schema.artifact import (
    Counts,
    Parity,
    TensorSpec,
)
from latbench.worker import messages
from latbench.zoo.model import ResolvedModel
from latbench.zoo.reparameterize import foldable_pairs

if TYPE_CHECKING:
    import torch


PARITY_INPUTS = 8
"""Sets of seeded inputs on which a precision below fp32 is compared."""


def _checked_counts(
    model: ResolvedModel, exported: Exported, request: messages.Export
) -> Counts | None:
    """The model's, after those of the file were found equal; ``None`` where the file was not made
    from the module. Raises :class:`StageError`."""
    if not exported.from_module:
        return None
    counted = model.counts()
    foldable = 0 if model.form == "deploy" else norm_bytes(model)
    check_counts(counted, exported.counts, request.precision, foldable_bytes=foldable)
    assert exported.counts is not None, "that would be a mismatch"
    check_share(counted, exported.counts, request.precision)
    return counted


def _source_outputs(
    path: Path, exporter: Exporter, spec: ExportSpec, inputs: Sequence[Array], place: Path
) -> tuple[Array, ...] | None:
    """Of a ready file of another format than ``exporter`` makes of it, executed as what it is.

    ``None`` where it stays what it is, or where no exporter writes files of its kind. What is
    written meanwhile lies below ``place`` and is gone at the end. Raises :class:`StageError` where
    the file cannot be executed.
    """
    suffix = path.suffix.lower()
    if suffix == exporter.suffix:
        return None
    for name in format_names():
        # One that cannot be loaded is no reason against the others.
        with suppress(UsageError):
            writer = load_exporter(name)
            if writer.suffix == suffix:
                break
    else:
        return None
    with tempfile.TemporaryDirectory(dir=place) as folder:
        fixed = Path(folder) / f"fixed{suffix}"
        writer.adopt(path, replace(spec, options={}), fixed)
        return writer.evaluate(fixed, inputs)


def norm_bytes(model: Model) -> int:
    """Of the parameters of BatchNorms right after a layer: converters fold them, whoever wants them
    kept or not."""
    module = model.module()
    inputs = _as_tensors(model, make_inputs(model.inputs(), 0))
    norms = [module.get_submodule(norm) for _, norm in foldable_pairs(module, inputs)]
    return sum(p.numel() * p.element_size() for norm in norms for p in norm.parameters(False))


def _torch() -> str:
    import torch

    return f"torch {torch.__version__}"


def _more_inputs(specs: Sequence[TensorSpec], request: messages.Export) -> list[tuple[Array, ...]]:
    """More inputs to compare outputs on, where a lower precision makes that worth telling."""
    if request.precision == "fp32":
        return []
    return [make_inputs(specs, request.seed + k) for k in range(1, PARITY_INPUTS)]


def reference_outputs(model: Model, inputs: Sequence[Array]) -> tuple[Array, ...]:
    """Of the module, whose outputs are tensors in a tuple: ``build`` has seen to that."""
    import torch

    with torch.no_grad():
        outputs = model.module()(*_as_tensors(model, inputs))
    tensors = (outputs,) if isinstance(outputs, torch.Tensor) else outputs
    return tuple(tensor.numpy() for tensor in tensors)


def _as_tensors(model: Model, inputs: Sequence[Array]) -> tuple[torch.Tensor, ...]:
    """As the module takes them: an artifact may take other element types."""
    import torch

    wanted = [spec.dtype for spec in model.inputs()]
    return tuple(
        torch.from_numpy(array.astype(dtype)) for array, dtype in zip(inputs, wanted, strict=True)
    )


def _parity(
    compared: Sequence[tuple[Sequence[Array], Sequence[Array]]],
    request: messages.Export,
    precision: str,
    against: str,
) -> Parity:
    """The worst over all inputs, ``against`` whose outputs come first. Raises :class:`StageError`
    where that is too bad."""
    found = [errors(reference, actual) for reference, actual in compared]
    cosines = [cosine(reference, actual) for reference, actual in compared]
    agreement = [top1_agreement(reference, actual) for reference, actual in compared]
    relative = max(error for _, error in found)
    smallest = None if None in cosines else min(value for value in cosines if value is not None)
    tolerance = tolerance_of(precision)
    what = f"the exported file differs from {against}"
    check_parity(relative, tolerance, "verify", what)
    check_cosine(smallest, precision, "verify", what)
    return Parity(
        reference=against,
        seed=request.seed,
        max_abs_error=max(error for error, _ in found),
        max_rel_error=relative,
        tolerance=tolerance,
        inputs=len(compared),
        cosine=smallest,
        top1_agreement_ppm=None
        if None in agreement
        else round(sum(share for share in agreement if share is not None) / len(agreement) * 1e6),
    )
