"""Worker program that builds, exports and checks a model.

What asks it is :mod:`latbench.artifacts.builder`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from latbench.analysis.parity import (
    finite,
)
from latbench.api import (
    Array,
    Exported,
    Exporter,
    ExportSpec,
    SentinelExporter,
    StageError,
    UsageError,
    make_inputs,
)
from latbench.artifacts import calibration
from latbench.artifacts.validation import (
    _checked_counts,
    _more_inputs,
    _parity,
    _source_outputs,
    _torch,
    reference_outputs,
)
from latbench.files import content_bytes, content_sha256
from latbench.plugins import load_exporter
from latbench.schema.artifact import (
    Artifact,
    TensorSpec,
)
from latbench.worker import messages
from latbench.worker.server import serve
from latbench.zoo.file_access import files_read
from latbench.zoo.model import read_form
from latbench.zoo.resolver import resolve

if TYPE_CHECKING:
    pass


def _handle(request: messages.WorkerRequest) -> messages.Response:
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
        details["calibration"] = calibration.identify_calibration(request.calibration)
    return msgspec.structs.replace(
        artifact,
        details=details,
        model_counts=counted,
        trained_parameters=model.trained_parameters(),
    )


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


if __name__ == "__main__":
    serve("latbench-exporter", _handle)
