"""The exporting program, ``python -m latbench.exporting``: builds a model, exports and checks it.

What asks it is :mod:`latbench.obtaining`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from latbench import calibration
from latbench.analysis.parity import (
    check_cosine,
    check_counts,
    check_parity,
    check_share,
    cosine,
    errors,
    finite,
    tolerance_of,
    top1_agreement,
)
from latbench.api import (
    Array,
    Exported,
    Exporter,
    ExportSpec,
    Model,
    SentinelExporter,
    StageError,
    UsageError,
    make_inputs,
)
from latbench.files import content_bytes, content_sha256
from latbench.plugins import format_names, load_exporter
from latbench.schema.artifact import (
    Artifact,
    Counts,
    Parity,
    TensorSpec,
)
from latbench.worker import messages
from latbench.worker.server import serve
from latbench.zoo.file_access import files_read
from latbench.zoo.model import ResolvedModel, read_form
from latbench.zoo.reparameterize import foldable_pairs
from latbench.zoo.resolver import resolve

if TYPE_CHECKING:
    import torch

PARITY_INPUTS = 8
"""Sets of seeded inputs on which a precision below fp32 is compared."""


def _handle(request: messages.Request) -> messages.Answer:
    match request:
        case messages.Export():
            return messages.ExportDone(artifact=_make(request))
        case messages.ExportSentinel():
            return messages.ExportDone(artifact=_make_sentinel(request))
        case _:
            raise StageError("export", "this program exports; it does not time")


def _make_sentinel(request: messages.ExportSentinel) -> Artifact:
    """Write the sentinel and its outputs. It is its own reference: there is no PyTorch model."""
    exporter = load_exporter(request.format)
    if not isinstance(exporter, SentinelExporter):
        raise StageError("export", f"the {request.format} exporter has no sentinel")
    out = Path(request.out)
    exported = exporter.export_sentinel(out)
    actual = exporter.evaluate(out, make_inputs(exported.inputs, 0))
    assert actual is not None, "a format with a sentinel of its own can execute it"
    return _artifact(exporter, exported, out, "fp32", actual, actual, Path(request.reference))


def _make(request: messages.Export) -> Artifact:
    """Build, export, check, and write the file and its reference outputs."""
    model = resolve(
        request.model,
        weights=Path(request.weights) if request.weights else None,
        batch=request.batch,
        resolution=request.resolution,
        seed=request.seed,
    )
    model = replace(model, form=read_form(request.options.get("form", "deploy")))
    if request.dims and model.path is None:
        raise UsageError(
            f"{request.model} has no axis named {', '.join(sorted(request.dims))}: it is exported "
            "at fixed sizes",
            hint="--dim is for a ready file's named axes; a model takes --batch and --resolution",
        )
    exporter = load_exporter(request.format)
    spec = ExportSpec(
        precision=request.precision,
        batch=request.batch,
        resolution=request.resolution,
        dims=request.dims,
        options=request.options,
        calibration=calibration.load(request.calibration, model.inputs())
        if request.precision == "int8" and model.path is None
        else (),
    )
    out = Path(request.out)
    if model.path is not None:
        exported = exporter.adopt(model.path, spec, out)
    else:
        exported = exporter.export(model, spec, out)
    counted = _checked_counts(model, exported, request) if model.path is None else None
    precision = exported.precision or request.precision
    inputs = make_inputs(exported.inputs, request.seed)
    actual = exporter.evaluate(out, inputs)
    parity, reference = None, actual
    if counted is not None:
        reference = reference_outputs(model, inputs)
        if actual is not None:
            more = [
                (reference_outputs(model, seeded), exporter.evaluate(out, seeded) or ())
                for seeded in _more_inputs(exported.inputs, request)
            ]
            parity = _parity([(reference, actual), *more], request, precision, _torch())
    elif model.path is not None:
        source = _source_outputs(model.path, exporter, spec, inputs, out.parent)
        reference = actual if source is None else source
        if source is not None and actual is not None:
            against = f"the ready {model.path.suffix} file"
            parity = _parity([(source, actual)], request, precision, against)
    if reference is None:
        raise StageError(
            "verify",
            f"nothing here can execute a ready {exporter.format} file, so there is no reference",
            hint="start from the PyTorch model: its outputs are then the reference",
        )
    if not finite(reference):
        raise StageError(
            "verify",
            "the outputs on the seeded inputs are not finite",
            hint="weights or shapes at which the network overflows; try another seed or weights",
            kind="mismatch",
        )
    artifact = msgspec.structs.replace(
        _artifact(exporter, exported, out, precision, actual, reference, Path(request.reference)),
        parity=parity,
    )
    if counted is None:
        return artifact
    details = {**artifact.details, "form": model.form}
    if model.source is not None and (reads := files_read(model.source.parent)):
        details["reads"] = ", ".join(reads)
    if request.precision == "int8":
        details["calibration"] = calibration.identify(request.calibration)
    return msgspec.structs.replace(
        artifact,
        details=details,
        model_counts=counted,
        trained_parameters=model.trained_parameters(),
    )


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


def _artifact(
    exporter: Exporter,
    exported: Exported,
    out: Path,
    precision: str,
    actual: Sequence[Array] | None,
    reference: Sequence[Array],
    reference_path: Path,
) -> Artifact:
    """The file at ``out`` as a value; its reference outputs written beside it."""
    import numpy as np

    np.savez(reference_path, *reference)
    return Artifact(
        sha256=content_sha256(out),
        size_bytes=content_bytes(out),
        format=exporter.format,
        precision=precision,
        inputs=exported.inputs,
        # As they really are, where that was seen: shape inference cannot always tell.
        outputs=exported.outputs
        if actual is None
        else tuple(
            TensorSpec(name=spec.name, shape=array.shape, dtype=array.dtype.name)
            for spec, array in zip(exported.outputs, actual, strict=True)
        ),
        counts=exported.counts,
        model_counts=None,
        trained_parameters=None,
        parity=None,
        details=dict(exported.details),
        toolchain=dict(exporter.toolchain()),
    )


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


if __name__ == "__main__":
    serve("latbench-exporter", _handle)
