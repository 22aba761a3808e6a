"""Export a model, or take it from the cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from latbench.artifacts.builder import obtain
from latbench.artifacts.cache import ArtifactCache, CachedArtifact
from latbench.defaults import FORMAT
from latbench.errors import UsageError
from latbench.events import SILENT, Events
from latbench.paths import cache_folder
from latbench.plugins import check_export, check_options, load_exporter
from latbench.schema.request import Request, make_request
from latbench.zoo.in_memory import AnyModel, Examples, name_of
from latbench.zoo.resolver import artifact_extension, identify


def export(
    model: AnyModel,
    *,
    example_inputs: Examples | None = None,
    format: str = FORMAT,
    weights: str | Path | None = None,
    weights_key: str | None = None,
    batch: int | None = None,
    resolution: int | tuple[int, int] | None = None,
    precision: str = "fp32",
    seed: int = 0,
    dims: Mapping[str, int] | None = None,
    shapes: Mapping[str, Sequence[int]] | Sequence[str] = (),
    dtypes: Mapping[str, str] | None = None,
    inputs: Mapping[str, str] | Sequence[str] = (),
    signature: str | None = None,
    tolerance: float | None = None,
    arguments: Mapping[str, str] | None = None,
    imports: Sequence[str] = (),
    nondeterministic: bool = False,
    options: Mapping[str, str] | None = None,
    calibration: str | Path | None = None,
    no_cache: bool = False,
    events: Events = SILENT,
) -> CachedArtifact:
    """Export ``model``, or take it from the cache; arguments as for :func:`run`.

    Raises :class:`~latbench.StageError` if it cannot be built or exported, or is not the model.
    """
    name = name_of(model, example_inputs)
    request = make_request(
        name,
        weights=weights,
        weights_key=weights_key,
        batch=batch,
        resolution=resolution,
        precision=precision,
        seed=seed,
        dims=dims,
        shapes=shapes,
        dtypes=dtypes,
        inputs=inputs,
        signature=signature,
        tolerance=tolerance,
        arguments=arguments,
        imports=imports,
        nondeterministic=nondeterministic,
        options=options,
        calibration=calibration,
    )
    return export_request(request, format, no_cache=no_cache, events=events)


def export_request(
    request: Request, format: str, *, no_cache: bool = False, events: Events = SILENT
) -> CachedArtifact:
    """Export the model of ``request``, or take it from the cache. Raises as :func:`export`."""
    exporter = load_exporter(format)
    check_export(exporter, request.precision)
    check_options(f"format {format!r}", request.options, exporter.options)
    suffix = artifact_extension(request.model)
    if suffix is not None and suffix not in exporter.reads:
        raise UsageError(f"a pre-exported {suffix} file cannot be converted to format {format!r}")
    return obtain(
        request,
        identify(request),
        exporter,
        ArtifactCache(cache_folder()),
        no_cache=no_cache,
        warn=events.warn,
    )
