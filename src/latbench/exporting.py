"""From a model to a checked artifact: out of the cache, or made in a program of its own.

Converters print, leak gigabytes and crash; and a process that has torch loaded is a poor place to
measure from. So the model is built, exported and checked in ``python -m latbench.exporting``,
spoken to like a worker, and a cache hit needs no torch at all.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

import latbench
from latbench import calibration
from latbench.api import (
    Array,
    Exported,
    Exporter,
    ExportSpec,
    Model,
    SentinelExporter,
    StageError,
    make_inputs,
)
from latbench.cache import ArtifactCache, Cached, Changed, content_bytes, content_sha256
from latbench.core.checks import (
    check_cosine,
    check_counts,
    check_parity,
    cosine,
    errors,
    finite,
    tolerance_of,
    top1_agreement,
)
from latbench.core.codec import digest
from latbench.core.records import Artifact, ModelIdentity, Parity, Request, TensorSpec
from latbench.measure import wire
from latbench.measure.conversation import Conversation
from latbench.measure.program import serve
from latbench.plugins import load_exporter
from latbench.zoo.deploy import foldable_pairs
from latbench.zoo.resolve import read_form, resolve

if TYPE_CHECKING:
    import torch

DEADLINE_S = 1800.0
PARITY_INPUTS = 8
"""Sets of seeded inputs on which a precision below fp32 is compared."""


def obtain(
    request: Request,
    model: ModelIdentity,
    exporter: Exporter,
    cache: ArtifactCache,
    *,
    fresh: bool = False,
    warn: Callable[[str], None],
) -> Cached:
    """The artifact for ``request``, made if the cache has none or ``fresh`` is set.

    Raises :class:`StageError` where it cannot be made or is not the model.
    """
    options = {k: v for k, v in request.options.items() if k in exporter.options}
    if request.precision == "int8" and request.calibration is None:
        warn(
            "the ranges of int8 are from seeded noise: the latency is that of the quantised model, "
            "its accuracy is not; --calibration FOLDER takes images"
        )
    key = digest(_ingredients(request, model, exporter, options))

    def export(made: Path, reference: Path) -> wire.Request:
        return wire.Export(
            model=request.model,
            weights=request.weights,
            batch=request.batch,
            resolution=request.resolution,
            seed=request.seed,
            format=exporter.format,
            precision=request.precision,
            dims=request.dims,
            options=options,
            calibration=request.calibration,
            out=str(made),
            reference=str(reference),
        )

    return _found_or_made(key, export, exporter, cache, fresh=fresh, warn=warn)


def obtain_sentinel(
    exporter: SentinelExporter, cache: ArtifactCache, *, warn: Callable[[str], None]
) -> tuple[str, Cached]:
    """The name and the artifact of the sentinel that the format's exporter makes itself.

    Raises :class:`StageError` where it cannot be made.
    """
    key = digest(
        {
            "sentinel": exporter.sentinel,
            "format": exporter.format,
            "code": _code_digest(Path(inspect.getfile(type(exporter)))),
        }
    )

    def export(made: Path, reference: Path) -> wire.Request:
        return wire.ExportSentinel(format=exporter.format, out=str(made), reference=str(reference))

    return exporter.sentinel, _found_or_made(key, export, exporter, cache, fresh=False, warn=warn)


def _found_or_made(
    key: str,
    export: Callable[[Path, Path], wire.Request],
    exporter: Exporter,
    cache: ArtifactCache,
    *,
    fresh: bool,
    warn: Callable[[str], None],
) -> Cached:
    """What the cache has under ``key``, else what the exporting program makes of ``export``."""
    try:
        found = None if fresh else cache.find(key, exporter.suffix)
    except Changed as changed:
        warn(f"{changed.message}; the artifact is made again")
        found = None
    if found is not None:
        return found
    with cache.workspace() as folder:
        made, reference = folder / f"made{exporter.suffix}", folder / "reference.npz"
        with Conversation.with_module("latbench.exporting") as program:
            done = program.ask(
                export(made, reference), wire.ExportDone, stage="export", deadline_s=DEADLINE_S
            )
        return cache.store(key, done.artifact, exporter.suffix, made, reference)


def _ingredients(
    request: Request, model: ModelIdentity, exporter: Exporter, options: dict[str, str]
) -> dict[str, object]:
    """Everything that shapes the file. The code that makes it counts as its toolchain."""
    return {
        "model": model,
        "seed": request.seed,
        "dims": request.dims,
        "format": exporter.format,
        "precision": request.precision,
        "options": options,
        "calibration": calibration.identify(request.calibration)
        if request.precision == "int8"
        else None,
        "toolchain": dict(exporter.toolchain()),
        "latbench": latbench.__version__,
        "code": _code_digest(Path(__file__).parent / "zoo", Path(inspect.getfile(type(exporter)))),
    }


def _code_digest(*places: Path) -> str:
    """Digest of the zoo's Python files and of the exporter's folder."""
    total = hashlib.sha256()
    for place in places:
        folder = place if place.is_dir() else place.parent
        for path in sorted(folder.rglob("*.py")):
            total.update(path.name.encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


def _handle(request: wire.Request) -> wire.Answer:
    match request:
        case wire.Export():
            return wire.ExportDone(artifact=_make(request))
        case wire.ExportSentinel():
            return wire.ExportDone(artifact=_make_sentinel(request))
        case _:
            raise StageError("export", "this program exports; it does not time")


def _make_sentinel(request: wire.ExportSentinel) -> Artifact:
    """Write the sentinel and its outputs. It is its own reference: there is no PyTorch model."""
    exporter = load_exporter(request.format)
    if not isinstance(exporter, SentinelExporter):
        raise StageError("export", f"the {request.format} exporter has no sentinel")
    out = Path(request.out)
    exported = exporter.export_sentinel(out)
    actual = exporter.evaluate(out, make_inputs(exported.inputs, 0))
    assert actual is not None, "a format with a sentinel of its own can execute it"
    return _artifact(exporter, exported, out, "fp32", actual, actual, Path(request.reference))


def _make(request: wire.Export) -> Artifact:
    """Build, export, check, and write the file and its reference outputs."""
    model = resolve(
        request.model,
        weights=Path(request.weights) if request.weights else None,
        batch=request.batch,
        resolution=request.resolution,
        seed=request.seed,
    )
    form = read_form(request.options.get("form", "deploy"))
    model = replace(model, form=form)
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
    counted = None
    if model.path is None and exported.from_module:
        counted = model.counts()
        foldable = 0 if form == "deploy" else _norm_bytes(model)
        check_counts(counted, exported.counts, request.precision, foldable_bytes=foldable)
    precision = exported.precision or request.precision
    inputs = make_inputs(exported.inputs, request.seed)
    actual = exporter.evaluate(out, inputs)
    parity, reference = None, actual
    if counted is not None:
        reference = _reference_outputs(model, inputs)
        if actual is not None:
            more = [
                (_reference_outputs(model, seeded), exporter.evaluate(out, seeded) or ())
                for seeded in _more_inputs(exported.inputs, request)
            ]
            parity = _parity([(reference, actual), *more], request, precision)
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
    artifact = _artifact(
        exporter, exported, out, precision, actual, reference, Path(request.reference)
    )
    if counted is None:
        return artifact
    details = {**artifact.details, "form": form}
    if request.precision == "int8":
        details["calibration"] = calibration.identify(request.calibration)
    return msgspec.structs.replace(
        artifact,
        details=details,
        model_counts=counted,
        trained_parameters=model.trained_parameters(),
        parity=parity,
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


def _norm_bytes(model: Model) -> int:
    """Of the parameters of BatchNorms right after a layer: converters fold them, whoever wants them
    kept or not."""
    module = model.module()
    inputs = _as_tensors(model, make_inputs(model.inputs(), 0))
    norms = [module.get_submodule(norm) for _, norm in foldable_pairs(module, inputs)]
    return sum(p.numel() * p.element_size() for norm in norms for p in norm.parameters(False))


def _more_inputs(specs: Sequence[TensorSpec], request: wire.Export) -> list[tuple[Array, ...]]:
    """More inputs to compare outputs on, where a lower precision makes that worth telling."""
    if request.precision == "fp32":
        return []
    return [make_inputs(specs, request.seed + k) for k in range(1, PARITY_INPUTS)]


def _reference_outputs(model: Model, inputs: Sequence[Array]) -> tuple[Array, ...]:
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
    request: wire.Export,
    precision: str,
) -> Parity:
    """The worst over all inputs. Raises :class:`StageError` where that is too bad."""
    import torch

    found = [errors(reference, actual) for reference, actual in compared]
    cosines = [cosine(reference, actual) for reference, actual in compared]
    agreement = [top1_agreement(reference, actual) for reference, actual in compared]
    relative = max(error for _, error in found)
    smallest = None if None in cosines else min(value for value in cosines if value is not None)
    tolerance = tolerance_of(precision)
    what = "the exported file differs from the PyTorch model"
    check_parity(relative, tolerance, "verify", what)
    check_cosine(smallest, precision, "verify", what)
    return Parity(
        reference=f"torch {torch.__version__}",
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
