"""Sweep files: a YAML file that names the points of a sweep."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product
from typing import TypeVar

import msgspec

from latbench.defaults import FALLBACK, LOCAL
from latbench.errors import UsageError, suggest
from latbench.schema.codec import digest
from latbench.schema.request import Request, make_request
from latbench.schema.request_syntax import read_resolution
from latbench.schema.value import Value
from latbench.schema.yaml_document import Document

T = TypeVar("T")


class SweepPointEntry(Value, frozen=True, kw_only=True):
    """A single point of a file; what it leaves out has the value of the combinations."""

    model: str
    backend: str | None = None
    precision: str = "fp32"
    batch: int | None = None
    resolution: int | str | None = None
    threads: int | None = None
    seed: int | None = None
    weights: str | None = None
    weights_key: str | None = None
    calibration: str | None = None
    dims: dict[str, int] = msgspec.field(default_factory=dict)
    shapes: tuple[str, ...] = ()
    """Texts as of ``--shape``; with any, those of the file do not apply. So do ``inputs``."""
    inputs: tuple[str, ...] = ()
    arguments: dict[str, str] = msgspec.field(default_factory=dict)
    signature: str | None = None
    tolerance: float | None = None
    nondeterministic: bool | None = None
    require: tuple[str, ...] = ()
    """With any, those of the file do not apply."""
    cpus: int | str | None = None
    options: dict[str, str] = msgspec.field(default_factory=dict)
    """Options of its backend, which override those of the file."""


class SweepFile(Value, frozen=True, kw_only=True):
    """A sweep file: every combination of the lists, and single points."""

    models: tuple[str, ...] = ()
    backends: tuple[str, ...] = (FALLBACK,)
    precisions: tuple[str, ...] = ("fp32",)
    batches: tuple[int | None, ...] = (None,)
    resolutions: tuple[int | str | None, ...] = (None,)
    threads: tuple[int | None, ...] = (None,)
    options: dict[str, str] = msgspec.field(default_factory=dict)
    """Options of any of the backends; each backend gets those that it has."""
    device: str = LOCAL
    seed: int = 0
    calibration: str | None = None
    dims: dict[str, int] = msgspec.field(default_factory=dict)
    shapes: tuple[str, ...] = ()
    """Texts as of ``--shape``, for all points."""
    inputs: tuple[str, ...] = ()
    """Texts as of ``--input``, for all points."""
    arguments: dict[str, str] = msgspec.field(default_factory=dict)
    imports: tuple[str, ...] = ()
    signature: str | None = None
    tolerance: float | None = None
    nondeterministic: bool = False
    require: tuple[str, ...] = ()
    cpus: int | str | None = None
    """Text as of ``--cpus``, for all points."""
    protocol: str | None = None
    points: tuple[SweepPointEntry, ...] = ()


AXES = ("backends", "precisions", "batches", "resolutions", "threads")
"""Lists that must not be empty, or there would be no combination."""


def read_sweep(document: Document) -> SweepFile:
    """Read a sweep file. Raises :class:`UsageError` with file, line and key."""
    found = document.convert(SweepFile)
    if not found.models and not found.points:
        raise document.error((), "the sweep names no models", "give `models:` or `points:`")
    for axis in AXES:
        if not getattr(found, axis):
            raise document.error((axis,), "the list is empty", "leave it out for the default")
    _check_calibration(found, document)
    return found


def _check_calibration(file: SweepFile, document: Document) -> None:
    """Refuse a calibration that no point uses. Raises :class:`UsageError`."""
    for i, point in enumerate(file.points):
        if point.calibration is not None and point.precision != "int8":
            raise document.error(
                ("points", i, "calibration"),
                f"calibration requires precision int8 (got {point.precision})",
                "give the point `precision: int8`",
            )
    combined = file.precisions if file.models else ()
    if file.calibration is not None and "int8" not in (
        *combined,
        *(point.precision for point in file.points),
    ):
        raise document.error(
            ("calibration",),
            "calibration requires precision int8, which no point has",
            "add int8 to `precisions:`",
        )


def requests_of(file: SweepFile, takes: Callable[[str], Mapping[str, str]]) -> tuple[Request, ...]:
    """Return the request of every point, without duplicates.

    ``takes`` returns the options of a backend and its exporter. Raises :class:`UsageError` for an
    option that none of the backends has.
    """
    grid = product(
        file.models, file.backends, file.precisions, file.batches, file.resolutions, file.threads
    )
    entries = [
        SweepPointEntry(
            model=model,
            backend=backend,
            precision=precision,
            batch=batch,
            resolution=resolution,
            threads=threads,
        )
        for model, backend, precision, batch, resolution, threads in grid
    ]
    entries += file.points
    used = {_backend(entry, file) for entry in entries}
    known = {name for backend in used for name in takes(backend)}
    if strange := sorted(set(file.options) - known):
        raise UsageError(
            f"none of the backends has an option {strange[0]!r}", hint=suggest(strange[0], known)
        )
    requests = [_request(entry, file, takes) for entry in entries]
    return tuple({digest(request): request for request in requests}.values())


def _request(
    entry: SweepPointEntry, file: SweepFile, takes: Callable[[str], Mapping[str, str]]
) -> Request:
    backend = _backend(entry, file)
    common = {k: v for k, v in file.options.items() if k in takes(backend)}
    calibration = file.calibration if entry.calibration is None else entry.calibration
    resolution, cpus = entry.resolution, _first(entry.cpus, file.cpus)
    return make_request(
        entry.model,
        backend=backend,
        device=file.device,
        precision=entry.precision,
        batch=entry.batch,
        resolution=read_resolution(resolution) if isinstance(resolution, str) else resolution,
        threads=entry.threads,
        seed=file.seed if entry.seed is None else entry.seed,
        weights=entry.weights,
        weights_key=entry.weights_key,
        dims={**file.dims, **entry.dims},
        shapes=entry.shapes or file.shapes,
        inputs=entry.inputs or file.inputs,
        arguments={**file.arguments, **entry.arguments},
        imports=file.imports,
        signature=_first(entry.signature, file.signature),
        tolerance=_first(entry.tolerance, file.tolerance),
        nondeterministic=bool(_first(entry.nondeterministic, file.nondeterministic)),
        require=entry.require or file.require,
        cpus=None if cpus is None else str(cpus),
        options=common | entry.options,
        calibration=calibration if entry.precision == "int8" else None,
    )


def _first(own: T | None, common: T | None) -> T | None:
    return common if own is None else own


def _backend(entry: SweepPointEntry, file: SweepFile) -> str:
    return file.backends[0] if entry.backend is None else entry.backend
