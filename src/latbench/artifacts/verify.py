"""``latbench verify``: execute a pre-exported file and compare it with a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from latbench.analysis.parity import (
    TOLERANCE,
    check_counts,
    check_outputs,
    check_share,
    cosine,
    output_difference,
    top1_agreement,
)
from latbench.api import Array, Exporter, make_inputs
from latbench.artifacts.cache import CachedArtifact
from latbench.artifacts.export import export
from latbench.artifacts.validation import norm_bytes, reference_outputs
from latbench.errors import StageError, UsageError, suggest
from latbench.events import Events, Warn
from latbench.file_names import stored_name
from latbench.files import read_arrays
from latbench.plugins import format_names, load_exporter, who_reads
from latbench.schema.artifact import Artifact, Counts, Parity, shape_text
from latbench.schema.request import Request, make_request
from latbench.zoo.given_inputs import load_inputs
from latbench.zoo.lazy_model import LazyModel
from latbench.zoo.model import Form
from latbench.zoo.resolver import artifact_extension, resolve_model

if TYPE_CHECKING:
    from latbench.api import Array


@dataclass(frozen=True, kw_only=True)
class Against:
    """A file compared with a PyTorch model."""

    model: str
    form: Form
    """The form that the file was compared with: deploy, or trained if only that one fits."""
    counts: Counts
    parity: Parity | None
    """``None`` if the outputs cannot be compared, which is then a difference."""
    differences: tuple[str, ...]
    not_compared: tuple[str, ...] = ()
    """What could not be compared: neither a difference nor a proof of equality."""


@dataclass(frozen=True, kw_only=True)
class VerifyResult:
    """A file that was read and executed."""

    path: str
    artifact: Artifact
    against: Against | None

    @property
    def equal(self) -> bool | None:
        """Whether the file is the named model, if any; ``None`` if that is inconclusive."""
        if self.against is None:
            return True
        if self.against.differences:
            return False
        return None if self.against.not_compared else True


def verify(
    path: str | Path,
    *,
    format: str | None = None,
    model: str | None = None,
    weights: str | Path | None = None,
    weights_key: str | None = None,
    batch: int | None = None,
    resolution: int | tuple[int, int] | None = None,
    dims: Mapping[str, int] | None = None,
    shapes: Mapping[str, Sequence[int]] | Sequence[str] = (),
    dtypes: Mapping[str, str] | None = None,
    inputs: Mapping[str, str] | Sequence[str] = (),
    signature: str | None = None,
    tolerance: float | None = None,
    arguments: Mapping[str, str] | None = None,
    imports: Sequence[str] = (),
    nondeterministic: bool = False,
    seed: int = 0,
    warn: Warn = lambda message: None,
) -> VerifyResult:
    """Execute the file at ``path`` on seeded inputs in a separate program, and count it.

    With ``model``, build that model from PyTorch in this process and compare operators, MACs, bytes
    of parameters and outputs: in deploy form, or in the trained form if only its counts fit.
    ``format`` is needed only for a file extension that several formats use.
    Raises :class:`~latbench.StageError` if the file cannot be read or executed.
    """
    name = stored_name(str(path))
    exporter = _reader(name, format)
    named = None
    if model is not None:
        named = _named(
            make_request(
                model,
                weights=weights,
                weights_key=weights_key,
                batch=batch,
                resolution=resolution,
                shapes=shapes,
                dtypes=dtypes,
                inputs=inputs,
                arguments=arguments,
                imports=imports,
                seed=seed,
            )
        )
    if model is None and weights is not None:
        raise UsageError("--weights requires --model")
    cached = export(
        str(path),
        format=exporter.format,
        batch=batch,
        resolution=resolution,
        dims=dims,
        shapes=shapes,
        dtypes=dtypes,
        inputs=inputs,
        signature=signature,
        tolerance=tolerance,
        nondeterministic=nondeterministic,
        seed=seed,
        # A cached result is not a verification.
        no_cache=True,
        events=Events(warn=warn),
    )
    outputs = tuple(read_arrays(cached.reference, "verify", "the outputs").values())
    against = None
    if named is not None:
        against = _against(named, cached, outputs, seed, tolerance)
    return VerifyResult(path=name, artifact=cached.artifact, against=against)


def _reader(path: str, format: str | None) -> Exporter:
    """The exporter that reads files with this extension, preferably one that also writes them."""
    suffix = artifact_extension(path)
    if suffix is None:
        raise UsageError(
            f"{path} is not a pre-exported file", hint="to export a model: latbench export"
        )
    if format is not None:
        exporter = load_exporter(format)
        if suffix not in exporter.reads:
            raise UsageError(f"format {format!r} cannot read pre-exported {suffix} files")
        return exporter
    found: list[Exporter] = []
    endings: set[str] = set()
    for name in format_names():
        # An exporter that cannot be loaded does not affect the others.
        with suppress(UsageError):
            exporter = load_exporter(name)
            endings.update(exporter.reads)
            if suffix in exporter.reads:
                found.append(exporter)
    if not found:
        raise UsageError(
            f"no format reads pre-exported {suffix} files",
            hint=who_reads(suffix) or suggest(suffix, endings),
        )
    return next((exporter for exporter in found if exporter.suffix == suffix), found[0])


def _named(request: Request) -> LazyModel:
    if artifact_extension(request.model) is not None:
        raise UsageError(
            f"{request.model} is a pre-exported file; a file is compared with a PyTorch model",
            hint="give the name of a zoo model, timm:NAME, or path/to/file.py:factory",
        )
    return LazyModel(resolved=replace(resolve_model(request), given=load_inputs(request)))


def _against(
    model: LazyModel,
    cached: CachedArtifact,
    outputs: Sequence[Array],
    seed: int,
    tolerance: float | None,
) -> Against:
    artifact = cached.artifact
    differences, not_compared = _compared_counts(model, artifact)
    if differences:
        trained = LazyModel(resolved=replace(model.resolved, form="trained"))
        others, also_not = _compared_counts(trained, artifact)
        if not others:
            model, differences, not_compared = trained, others, also_not
    wanted = model.inputs()
    shapes = [tensor.shape for tensor in artifact.inputs]
    parity = None
    if shapes != [tensor.shape for tensor in wanted]:
        differences.append(
            f"inputs: {_listed(tensor.shape for tensor in wanted)} in the model, "
            f"{_listed(shapes)} in the file"
        )
    else:
        path = cached.inputs
        stored = {} if path is None else read_arrays(path, "verify", "the inputs")
        reference = reference_outputs(model, make_inputs(artifact.inputs, seed, stored))
        # Only a known precision has a tolerance; outputs that are close are enough for any.
        far = differences if artifact.precision in TOLERANCE else not_compared
        parity = _parity(reference, outputs, artifact.precision, seed, tolerance, differences, far)
    return Against(
        model=model.identity.name,
        form=model.resolved.form,
        counts=model.counts(),
        parity=parity,
        differences=tuple(differences),
        not_compared=tuple(not_compared),
    )


def _compared_counts(model: LazyModel, artifact: Artifact) -> tuple[list[str], list[str]]:
    """How the file's counts differ from the model's, and which cannot be compared."""
    counts, found, precision = model.counts(), artifact.counts, artifact.precision
    if found is None:
        return [], ["operators, MACs and parameters: the file cannot be counted"]
    not_compared = []
    if precision not in TOLERANCE:
        not_compared.append(f"bytes of parameters: unknown for {precision}")
        found = msgspec.structs.replace(found, parameter_bytes=counts.parameter_bytes)
    try:
        # The precision of a pre-exported file is the lowest in it; most of it may be in another.
        check_share(counts, found, precision)
    except StageError as error:
        not_compared.append(error.message)
    try:
        foldable = 0 if model.resolved.form == "deploy" else norm_bytes(model)
        check_counts(counts, found, precision, foldable_bytes=foldable)
    except StageError as error:
        return [error.message], not_compared
    return [], not_compared


def _parity(
    reference: Sequence[Array],
    outputs: Sequence[Array],
    precision: str,
    seed: int,
    tolerance: float | None,
    differences: list[str],
    far: list[str],
) -> Parity | None:
    """Compare the outputs. Outputs that do not match in shape are added to ``differences``, outputs
    that exceed the tolerance to ``far``."""
    import torch

    ours, theirs = [a.shape for a in reference], [a.shape for a in outputs]
    if ours != theirs:
        differences.append(f"outputs: {_listed(ours)} in the model, {_listed(theirs)} in the file")
        return None
    found = output_difference(reference, outputs, precision, tolerance)
    near, agreed = cosine(reference, outputs), top1_agreement(reference, outputs)
    try:
        check_outputs(found, near, precision, "verify", "outputs", tolerance)
    except StageError as error:
        far.append(error.message)
    return Parity(
        reference=f"torch {torch.__version__}",
        seed=seed,
        max_abs_error=found.absolute,
        max_rel_error=found.relative,
        tolerance=found.bound,
        cosine=near,
        top1_agreement_ppm=None if agreed is None else round(agreed * 1e6),
    )


def _listed(shapes: Iterable[Sequence[int]]) -> str:
    return ", ".join(shape_text(shape) for shape in shapes)
