"""Worker program ``python -m latbench.artifacts.export_worker``: build, export and check a model.

:mod:`latbench.artifacts.builder` starts it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from latbench.analysis.parity import finite, output_difference
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
    checked_counts,
    more_inputs,
    parity_of,
    reference_outputs,
    source_outputs,
    torch_version,
)
from latbench.files import content_bytes, content_sha256
from latbench.plugins import load_exporter
from latbench.schema.artifact import Artifact, TensorSpec
from latbench.schema.request import Request
from latbench.worker import messages
from latbench.worker.server import serve
from latbench.zoo.lazy_model import LazyModel
from latbench.zoo.model import read_form
from latbench.zoo.resolver import resolve_model


def handle(request: messages.ExportRequest) -> messages.Response:
    """Handle one request. Raises :class:`StageError` or :class:`UsageError`."""
    match request:
        case messages.Export():
            return messages.ExportDone(artifact=_export(request))
        case messages.ExportSentinel():
            return messages.ExportDone(artifact=_export_sentinel(request))


def _export_sentinel(message: messages.ExportSentinel) -> Artifact:
    """Write the sentinel and its outputs, which are their own reference."""
    exporter = load_exporter(message.format)
    if not isinstance(exporter, SentinelExporter):
        raise StageError("export", f"the {message.format} exporter has no sentinel")
    out = Path(message.out)
    exported = exporter.export_sentinel(out)
    actual = exporter.evaluate(out, make_inputs(exported.inputs, 0))
    assert actual is not None, "an exporter with a sentinel can execute it"
    return _artifact(exporter, exported, out, "fp32", actual, actual, Path(message.reference))


def _export(message: messages.Export) -> Artifact:
    """Build, export and check; write the file and its reference outputs."""
    request = message.request
    resolved = resolve_model(request)
    resolved = replace(resolved, form=read_form(request.options.get("form", "deploy")))
    if resolved.path is not None:
        return _adopt(message, resolved.path)
    if request.dims:
        raise UsageError(
            f"{request.model} has no axis named {', '.join(sorted(request.dims))}: it is exported "
            "at fixed sizes",
            hint="--dim is for named axes of a pre-exported file; use --batch and --resolution",
        )
    return _export_model(message, LazyModel(resolved=resolved))


def _export_model(message: messages.Export, model: LazyModel) -> Artifact:
    """Export a network and compare the file with it."""
    request, out = message.request, Path(message.out)
    exporter = load_exporter(message.format)
    exported = exporter.export(model, _spec(request, model), out)
    counted = checked_counts(model, exported, request)
    precision = exported.precision or request.precision
    inputs = make_inputs(exported.inputs, request.seed)
    actual = exporter.evaluate(out, inputs)
    parity, reference = None, actual
    if counted is not None:
        reference = _finite(reference_outputs(model, inputs))
        _check_repeats(reference, reference_outputs(model, inputs), exported)
        if actual is not None:
            more = [
                (reference_outputs(model, seeded), exporter.evaluate(out, seeded) or ())
                for seeded in more_inputs(exported.inputs, request)
            ]
            compared = [(reference, actual), *more]
            parity = parity_of(compared, request, precision, torch_version())
    reference = _checked_reference(reference, exporter)
    artifact = msgspec.structs.replace(
        _artifact(exporter, exported, out, precision, actual, reference, Path(message.reference)),
        parity=parity,
    )
    if counted is None:
        return artifact
    return msgspec.structs.replace(
        artifact,
        details={**artifact.details, **_details(request, model)},
        model_counts=counted,
        trained_parameters=model.trained_parameters(),
    )


def _adopt(message: messages.Export, path: Path) -> Artifact:
    """Fix the input shapes of a pre-exported file, or convert it, and check the result."""
    request, out = message.request, Path(message.out)
    exporter = load_exporter(message.format)
    spec = _spec(request, None)
    exported = exporter.adopt(path, spec, out)
    precision = exported.precision or request.precision
    inputs = make_inputs(exported.inputs, request.seed)
    actual = exporter.evaluate(out, inputs)
    if actual is not None:
        _check_repeats(_finite(actual), exporter.evaluate(out, inputs) or (), exported)
    source = source_outputs(path, exporter, spec, inputs, out.parent)
    parity = None
    if source is not None and actual is not None:
        against = f"the ready {path.suffix} file"
        parity = parity_of([(source, actual)], request, precision, against)
    reference = _checked_reference(actual if source is None else source, exporter)
    return msgspec.structs.replace(
        _artifact(exporter, exported, out, precision, actual, reference, Path(message.reference)),
        parity=parity,
    )


def _spec(request: Request, model: LazyModel | None) -> ExportSpec:
    """How to export; ``model`` is ``None`` for a pre-exported file."""
    return ExportSpec(
        precision=request.precision,
        batch=request.batch,
        resolution=request.resolution,
        dims=request.dims,
        options=request.options,
        calibration=calibration.load(request.calibration, model.inputs())
        if request.precision == "int8" and model is not None
        else (),
    )


def _checked_reference(
    reference: tuple[Array, ...] | None, exporter: Exporter
) -> tuple[Array, ...]:
    """The reference outputs, if there are any and they are finite. Raises :class:`StageError`."""
    if reference is None:
        raise StageError(
            "verify",
            f"nothing here can execute a pre-exported {exporter.format} file, so there is no "
            "reference",
            hint="start from the PyTorch model: its outputs are then the reference",
        )
    return _finite(reference)


def _finite(reference: tuple[Array, ...]) -> tuple[Array, ...]:
    if not finite(reference):
        raise StageError(
            "verify",
            "the outputs on the seeded inputs are not finite",
            hint="the network overflows at these weights or shapes; try another seed or weights",
            kind="mismatch",
        )
    return reference


def _check_repeats(first: Sequence[Array], second: Sequence[Array], exported: Exported) -> None:
    """Raise :class:`StageError` if two runs of the reference differ: then nothing can be checked
    against it, and the file is not to blame."""
    found = output_difference(first, second, "fp32")
    random = exported.details.get("random")
    if found.relative <= found.bound and random is None:
        return
    # A runtime may seed each session alike, so two of them may agree.
    why = f"the file has {random}" if random else f"two runs differ by {found.relative:.2g}"
    raise StageError(
        "verify",
        f"the outputs are not deterministic: {why}",
        hint="turn off what is random in inference, such as dropout or noise",
        kind="mismatch",
    )


def _details(request: Request, model: LazyModel) -> dict[str, str]:
    """What the artifact records about the model that it was exported from."""
    details = {"form": str(model.resolved.form)}
    source = model.resolved.source
    if source is not None and (paths := model.files_read(source.parent)):
        details["reads"] = ", ".join(paths)
    if request.precision == "int8":
        details["calibration"] = calibration.identify_calibration(request.calibration)
    return details


def _artifact(
    exporter: Exporter,
    exported: Exported,
    out: Path,
    precision: str,
    actual: Sequence[Array] | None,
    reference: Sequence[Array],
    reference_path: Path,
) -> Artifact:
    """The file at ``out`` as a value. Writes the reference outputs to ``reference_path``."""
    import numpy as np

    np.savez(reference_path, *reference)
    return Artifact(
        sha256=content_sha256(out),
        size_bytes=content_bytes(out),
        format=exporter.format,
        precision=precision,
        inputs=exported.inputs,
        # As executed, where possible: shape inference does not always find the shapes.
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
    serve("latbench-exporter", msgspec.json.Decoder(messages.ExportRequest).decode, handle)
