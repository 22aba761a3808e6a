"""Check that an exported file is still the model: outputs, operators, counts."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from latbench.analysis.parity import (
    check_counts,
    check_outputs,
    check_share,
    cosine,
    furthest,
    output_difference,
    top1_agreement,
)
from latbench.api import (
    Array,
    Exported,
    Exporter,
    ExportSpec,
    Model,
    UsageError,
)
from latbench.plugins import format_names, load_exporter
from latbench.schema.artifact import Counts, Parity
from latbench.schema.request import Request
from latbench.zoo.given_inputs import FilledInputs
from latbench.zoo.lazy_model import LazyModel
from latbench.zoo.reparameterize import foldable_pairs

if TYPE_CHECKING:
    import torch


PARITY_INPUTS = 8
"""Number of seeded input sets for the comparison of a precision below fp32."""


def countable(model: LazyModel, exported: Exported) -> Exported:
    """``exported`` without counts that do not include the model's recurrent layers, and with the
    reason why a file has no counts.

    Converters write these layers as loops or as many products, which most formats cannot count.
    """
    details = dict(exported.details)
    if exported.from_module and exported.counts is not None:
        counted = model.counts()
        unlike = "recurrent" in counted.operators and "recurrent" not in exported.counts.operators
        if unlike and exported.counts.macs != counted.macs:
            details["uncounted"] = "recurrent layers, which this format does not show as such"
            return replace(exported, counts=None, details=details)
    if exported.counts is None:
        details.setdefault("uncounted", "control flow or operators of the format")
    return replace(exported, details=details)


def checked_counts(model: LazyModel, exported: Exported, request: Request) -> Counts | None:
    """The model's counts, after comparison with those of the file if it has any.

    ``None`` if the file was not exported from the module. Raises :class:`StageError`.
    """
    if not exported.from_module:
        return None
    counted = model.counts()
    if exported.counts is None:
        return counted
    foldable = 0 if model.resolved.form == "deploy" else norm_bytes(model)
    check_counts(counted, exported.counts, request.precision, foldable_bytes=foldable)
    check_share(counted, exported.counts, request.precision)
    return counted


def source_outputs(
    path: Path, exporter: Exporter, spec: ExportSpec, inputs: Sequence[Array], place: Path
) -> tuple[Array, ...] | None:
    """The outputs of a pre-exported file before ``exporter`` converts it to another format.

    ``None`` if the format does not change, or if no exporter writes files of the original format.
    Temporary files are written below ``place``. Raises :class:`StageError` if the file cannot be
    executed.
    """
    suffix = path.suffix.lower()
    if suffix == exporter.suffix:
        return None
    for name in format_names():
        # An exporter that cannot be loaded does not affect the others.
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
    """Bytes of the parameters of BatchNorms right after a layer, which every converter folds."""
    module = model.module()
    inputs = _as_tensors(model, model.example_inputs())
    norms = [module.get_submodule(norm) for _, norm in foldable_pairs(module, inputs)]
    return sum(p.numel() * p.element_size() for norm in norms for p in norm.parameters(False))


def torch_version() -> str:
    """The reference that an exported file is compared with."""
    import torch

    return f"torch {torch.__version__}"


def more_inputs(filled: FilledInputs, request: Request) -> list[tuple[Array, ...]]:
    """Further inputs for the comparison of outputs, for a precision below fp32."""
    if request.precision == "fp32":
        return []
    return [filled.arrays(request.seed + k) for k in range(1, PARITY_INPUTS)]


def reference_outputs(model: Model, inputs: Sequence[Array]) -> tuple[Array, ...]:
    """The outputs of the module, which ``build`` has made a tuple of tensors."""
    import torch

    with torch.no_grad():
        outputs = model.module()(*_as_tensors(model, inputs))
    tensors = (outputs,) if isinstance(outputs, torch.Tensor) else outputs
    return tuple(tensor.numpy() for tensor in tensors)


def _as_tensors(model: Model, inputs: Sequence[Array]) -> tuple[torch.Tensor, ...]:
    """The inputs as tensors of the module's element types; an artifact may take other types."""
    import torch

    wanted = [spec.dtype for spec in model.inputs()]
    return tuple(
        torch.from_numpy(array.astype(dtype)) for array, dtype in zip(inputs, wanted, strict=True)
    )


def parity_of(
    compared: Sequence[tuple[Sequence[Array], Sequence[Array]]],
    request: Request,
    precision: str,
    against: str,
) -> Parity:
    """The largest differences over all inputs from the outputs of ``against``, first in each pair.

    Raises :class:`StageError` if they exceed the tolerance.
    """
    tolerance = request.tolerance
    found = furthest([output_difference(*pair, precision, tolerance) for pair in compared])
    cosines = [cosine(reference, actual) for reference, actual in compared]
    agreement = [top1_agreement(reference, actual) for reference, actual in compared]
    smallest = None if None in cosines else min(value for value in cosines if value is not None)
    what = f"the exported file differs from {against}"
    check_outputs(found, smallest, precision, "verify", what, tolerance)
    return Parity(
        reference=against,
        seed=request.seed,
        max_abs_error=found.absolute,
        max_rel_error=found.relative,
        tolerance=found.bound,
        inputs=len(compared),
        cosine=smallest,
        top1_agreement_ppm=None
        if None in agreement
        else round(sum(share for share in agreement if share is not None) / len(agreement) * 1e6),
    )
