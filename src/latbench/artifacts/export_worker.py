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
    countable,
    more_inputs,
    parity_of,
    reference_outputs,
    source_outputs,
    torch_version,
)
from latbench.file_names import shown_name, stored_name
from latbench.files import content_bytes, content_sha256
from latbench.plugins import load_exporter
from latbench.schema.artifact import Artifact, TensorSpec
from latbench.schema.input_content import described_contents
from latbench.schema.request import Request
from latbench.worker import messages
from latbench.worker.server import serve
from latbench.zoo.given_inputs import FilledInputs, GivenInputs, load_inputs
from latbench.zoo.lazy_model import LazyModel
from latbench.zoo.model import read_form
from latbench.zoo.resolver import resolve_model

VALUES_HINT = "values for an input: --input NAME=VALUE or NAME=LOW:HIGH"


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
    resolved = replace(
        resolved,
        form=read_form(request.options.get("form", "deploy")),
        given=load_inputs(request) if resolved.module is None else resolved.given,
    )
    if resolved.path is not None:
        return _adopt(message, _utf8_name(resolved.path, Path(message.out)), resolved.given)
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
    try:
        exported = exporter.export(model, _model_spec(request, model), out)
        exported = countable(model, exported)
        if exported.from_module:
            exported = replace(exported, details={**exported.details, **model.notes()})
        counted = checked_counts(model, exported, request)
    except StageError as error:
        raise _of_random_network(error, model) from error
    precision = exported.precision or request.precision
    filled = FilledInputs(specs=exported.inputs)
    if counted is not None:
        filled = model.filled_inputs().renamed(exported.inputs)
        exported = replace(exported, inputs=filled.specs)
    inputs = filled.arrays(request.seed)
    _store(filled, Path(message.inputs))
    actual, not_executed = None, None
    try:
        actual = _evaluated(exporter, out, inputs, filled)
    except StageError as error:
        # The timed session is compared with the network, whatever executes the file here.
        if counted is None or error.kind != "unavailable":
            raise
        not_executed = error.message
    parity, reference, unchecked = None, actual, None
    if counted is not None:
        reference = _finite(reference_outputs(model, inputs), filled)
        unchecked = _randomness(reference, reference_outputs(model, inputs), exported, request)
        if actual is not None and unchecked is None:
            more = [
                (reference_outputs(model, seeded), exporter.evaluate(out, seeded) or ())
                for seeded in more_inputs(filled, request)
            ]
            compared = [(reference, actual), *more]
            parity = parity_of(compared, request, precision, torch_version())
    reference = _checked_reference(reference, exporter, filled)
    exported = _noted(exported, filled, inputs, unchecked, not_executed)
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


def _of_random_network(error: StageError, model: LazyModel) -> StageError:
    """``error``, with the cause named if it may be that converters know no random operators."""
    if error.stage == "build" or (random := model.notes().get("random")) is None:
        return error
    return StageError(
        error.stage,
        f"{error.message}; the network has {random}",
        hint="turn off what is random in inference, such as dropout or noise",
        kind=error.kind,
        detail=error.detail,
    )


def _utf8_name(path: Path, out: Path) -> Path:
    """``path``, or a link to it beside ``out``: native readers refuse names that are not UTF-8."""
    if shown_name(str(path)) == str(path):
        return path
    folder = out.parent / "named"
    folder.mkdir()
    link = folder / shown_name(path.name)
    link.symlink_to(path)
    return link


def _adopt(message: messages.Export, path: Path, given: GivenInputs) -> Artifact:
    """Fix the input shapes of a pre-exported file, or convert it, and check the result."""
    request, out = message.request, Path(message.out)
    exporter = load_exporter(message.format)
    spec = _file_spec(request, given, path)
    exported = exporter.adopt(path, spec, out)
    precision = exported.precision or request.precision
    filled = given.applied(exported.inputs, path.name)
    exported = replace(exported, inputs=filled.specs)
    inputs = filled.arrays(request.seed)
    _store(filled, Path(message.inputs))
    actual = _evaluated(exporter, out, inputs, filled)
    unchecked = None
    if actual is not None:
        _finite(actual, filled)
        again = exporter.evaluate(out, inputs) or ()
        unchecked = _randomness(actual, again, exported, request)
    source = source_outputs(path, exporter, spec, inputs, out.parent)
    parity = None
    if source is not None and actual is not None and unchecked is None:
        against = f"the ready {path.suffix} file"
        parity = parity_of([(source, actual)], request, precision, against)
    reference = _checked_reference(actual if source is None else source, exporter, filled)
    exported = _noted(exported, filled, inputs, unchecked)
    return msgspec.structs.replace(
        _artifact(exporter, exported, out, precision, actual, reference, Path(message.reference)),
        parity=parity,
    )


def _model_spec(request: Request, model: LazyModel) -> ExportSpec:
    """How to export a network."""
    return ExportSpec(
        precision=request.precision,
        batch=model.identity.batch,
        resolution=model.identity.resolution,
        options=request.options,
        calibration=calibration.load(request.calibration, model.filled_inputs())
        if request.precision == "int8"
        else (),
    )


def _file_spec(request: Request, given: GivenInputs, path: Path) -> ExportSpec:
    """How to adopt a pre-exported file."""

    def arrays(specs: Sequence[TensorSpec]) -> tuple[Array, ...]:
        return given.applied(specs, path.name).arrays(request.seed)

    return ExportSpec(
        precision=request.precision,
        batch=request.batch,
        resolution=request.resolution,
        dims=request.dims,
        shapes=given.all_shapes(),
        signature=request.signature,
        options=request.options,
        make_inputs=arrays,
    )


def _store(filled: FilledInputs, path: Path) -> None:
    """Write the arrays that come from files, for the program that times the artifact."""
    import numpy as np

    if filled.stored:
        with path.open("wb") as file:
            np.savez(file, **dict(filled.stored))  # type: ignore[arg-type]  # taken for its options


def _evaluated(
    exporter: Exporter, out: Path, inputs: Sequence[Array], filled: FilledInputs
) -> tuple[Array, ...] | None:
    """The outputs of the file; a failure names what the inputs were."""
    try:
        return exporter.evaluate(out, inputs)
    except StageError as error:
        if error.kind == "unavailable":
            raise
        raise StageError(
            error.stage,
            f"{error.message} (inputs: {described_contents(filled.specs)})",
            hint="; ".join((*((error.hint,) if error.hint else ()), VALUES_HINT)),
            kind=error.kind,
            detail=error.detail,
        ) from error


def _checked_reference(
    reference: tuple[Array, ...] | None, exporter: Exporter, filled: FilledInputs
) -> tuple[Array, ...]:
    """The reference outputs, if there are any and they are finite. Raises :class:`StageError`."""
    if reference is None:
        raise StageError(
            "verify",
            f"nothing here can execute a pre-exported {exporter.format} file, so there is no "
            "reference",
            hint="start from the PyTorch model: its outputs are then the reference",
        )
    return _finite(reference, filled)


def _finite(reference: tuple[Array, ...], filled: FilledInputs) -> tuple[Array, ...]:
    if not finite(reference):
        raise StageError(
            "verify",
            f"the outputs are not finite for {described_contents(filled.specs)}",
            hint="give inputs that the network is made for, such as --input 0:1 for an image in "
            "[0, 1]; or the network overflows at these weights or shapes",
            kind="mismatch",
        )
    return reference


def _randomness(
    first: Sequence[Array], second: Sequence[Array], exported: Exported, request: Request
) -> str | None:
    """Why the outputs cannot be checked; ``None`` if they can.

    There may be none, or two runs of the reference may differ and the request accept that.

    Raises :class:`StageError` if they differ otherwise: then nothing can be checked against the
    reference, and the file is not to blame.
    """
    if not exported.outputs:
        return f"no output is a tensor of numbers: {exported.details.get('not_compared')}"
    found = output_difference(first, second, "fp32")
    random = exported.details.get("random")
    if found.relative <= found.bound and random is None:
        return None
    # A runtime may seed each session alike, so two of them may agree.
    why = f"it has {random}" if random else f"two runs differ by {found.relative:.2g}"
    if request.nondeterministic:
        return f"not deterministic: {why}"
    raise StageError(
        "verify",
        f"the outputs are not deterministic: {why}",
        hint="turn off what is random in inference, such as dropout or noise, or time it without "
        "a check of its outputs: --allow-nondeterministic",
        kind="mismatch",
    )


def _noted(
    exported: Exported,
    filled: FilledInputs,
    inputs: Sequence[Array],
    unchecked: str | None,
    not_executed: str | None = None,
) -> Exported:
    """``exported`` with details about its inputs and about checks that were not made."""
    details = dict(exported.details)
    if unchecked is not None:
        details["unchecked"] = unchecked
    if not_executed is not None:
        details["not_executed"] = not_executed
    names = [name for name in details.pop("decided_by", "").split(", ") if name]
    seeded = [
        f"{spec.name}={_brief(array)}"
        for spec, array in zip(filled.specs, inputs, strict=True)
        if spec.name in names and spec.content is None
    ]
    if seeded:
        details["decided_by"] = ", ".join(seeded)
    return replace(exported, details=details)


def _brief(array: Array) -> str:
    """The elements of a small array; of a large one, the first three."""
    flat = [str(value) for value in array.ravel()[:4].tolist()]
    return ",".join(flat[:3]) + (",..." if len(flat) > 3 else "")


def _details(request: Request, model: LazyModel) -> dict[str, str]:
    """What the artifact records about the model that it was exported from."""
    details = {"form": str(model.resolved.form)}
    source = model.resolved.source
    if source is not None and (paths := model.files_read(source.parent)):
        details["reads"] = ", ".join(map(stored_name, paths))
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
    outputs = exported.outputs
    if actual is not None:
        # As executed: shape inference does not always find the shapes.
        outputs = tuple(
            TensorSpec(name=spec.name, shape=array.shape, dtype=array.dtype.name)
            for spec, array in zip(exported.outputs, actual, strict=True)
        )
    elif len(reference) == len(outputs):
        outputs = tuple(
            TensorSpec(name=spec.name, shape=array.shape, dtype=spec.dtype)
            for spec, array in zip(exported.outputs, reference, strict=True)
        )
    return Artifact(
        sha256=content_sha256(out),
        size_bytes=content_bytes(out),
        format=exporter.format,
        precision=precision,
        inputs=exported.inputs,
        outputs=outputs,
        counts=exported.counts,
        model_counts=None,
        trained_parameters=None,
        parity=None,
        details=dict(exported.details),
        toolchain=dict(exporter.toolchain()),
    )


if __name__ == "__main__":
    serve("latbench-exporter", msgspec.json.Decoder(messages.ExportRequest).decode, handle)
