"""A model's checked artifact: out of the cache, or made by the exporting program.

Converters print, leak gigabytes and crash; and a process that has torch loaded is a poor place to
measure from. So what makes an artifact is :mod:`latbench.artifacts.export_worker`, a program of its
own that is
spoken to like a worker, and a cache hit needs no torch at all.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path

from latbench.api import Exporter, SentinelExporter
from latbench.artifacts import calibration
from latbench.artifacts.cache import ArtifactCache, ArtifactChanged, CachedArtifact
from latbench.errors import LatbenchError, StageError, UsageError
from latbench.schema.artifact import ModelIdentity
from latbench.schema.codec import digest
from latbench.schema.request import Request
from latbench.version import latbench_version
from latbench.worker import messages
from latbench.worker.client import WorkerClient
from latbench.zoo.resolver import identify

EXPORT_TIMEOUT_S = 1800.0
PACKAGE = Path(__file__).parent.parent
CHECKS = tuple(
    PACKAGE / name
    for name in (
        "artifacts/calibration.py",
        "artifacts/export_worker.py",
        "artifacts/validation.py",
        "analysis/parity.py",
        "schema/seeded_inputs.py",
    )
)
"""What calibrates an artifact, writes its reference outputs and judges it, whatever the format."""


def obtain(
    request: Request,
    model: ModelIdentity,
    exporter: Exporter,
    cache: ArtifactCache,
    *,
    fresh: bool = False,
    warn: Callable[[str], None],
) -> CachedArtifact:
    """The artifact for ``request``, made if the cache has none or ``fresh`` is set.

    ``model`` is what the request named when it was understood, which may be hours ago. Raises
    :class:`StageError` where the artifact cannot be made, is not the model, or is made of files
    that have changed since.
    """
    options = {k: v for k, v in request.options.items() if k in exporter.options}
    if request.precision == "int8" and request.calibration is None:
        warn(
            "the ranges of int8 are from seeded noise: the latency is that of the quantised model, "
            "its accuracy is not; --calibration FOLDER takes images"
        )
    key = digest(_ingredients(request, model, exporter, options))

    def export(made: Path, reference: Path) -> messages.WorkerRequest:
        return messages.Export(
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

    def key_now() -> str:
        return digest(_ingredients(request, identify(request), exporter, options))

    return _found_or_made(key, export, exporter, cache, key_now=key_now, fresh=fresh, warn=warn)


def obtain_sentinel(
    exporter: SentinelExporter, cache: ArtifactCache, *, warn: Callable[[str], None]
) -> tuple[str, CachedArtifact]:
    """The name and the artifact of the sentinel that the format's exporter makes itself.

    Raises :class:`StageError` where it cannot be made.
    """
    key = digest(
        {
            "sentinel": exporter.sentinel,
            "format": exporter.format,
            "code": _code_digest(exporter),
        }
    )

    def export(made: Path, reference: Path) -> messages.WorkerRequest:
        return messages.ExportSentinel(
            format=exporter.format, out=str(made), reference=str(reference)
        )

    return exporter.sentinel, _found_or_made(
        key, export, exporter, cache, key_now=lambda: key, fresh=False, warn=warn
    )


def _found_or_made(
    key: str,
    export: Callable[[Path, Path], messages.WorkerRequest],
    exporter: Exporter,
    cache: ArtifactCache,
    *,
    key_now: Callable[[], str],
    fresh: bool,
    warn: Callable[[str], None],
) -> CachedArtifact:
    """What the cache has under ``key``, else what the exporting program makes of ``export``.

    ``key_now`` computes the key again from what is on disk by then. Raises :class:`StageError`.
    """
    try:
        found = None if fresh else cache.find(key, exporter.suffix)
    except ArtifactChanged as changed:
        warn(f"{changed.message}; the artifact is made again")
        found = None
    if found is not None:
        _warn_of_reads(found, warn)
        return found
    with cache.workspace() as folder:
        made, reference = folder / f"made{exporter.suffix}", folder / "reference.npz"
        done = _exported(export(made, reference), folder)
        # The program has read the files again: under this key belongs only what they were then.
        if _or_none(key_now) != key:
            raise StageError(
                "export",
                "the model's file, or another that the artifact is made of, was changed before or "
                "while it was exported",
                hint="run it again; a sweep takes files as they were at its start, so leave them "
                "alone until it ends",
            )
        stored = cache.store(key, done.artifact, exporter.suffix, made, reference)
    _warn_of_reads(stored, warn)
    return stored


def _warn_of_reads(cached: CachedArtifact, warn: Callable[[str], None]) -> None:
    if reads := cached.artifact.details.get("reads"):
        warn(
            f"the model's code reads {reads}, which is no part of its identity: after a change "
            "of it, export with --no-cache"
        )


def _exported(asked: messages.WorkerRequest, folder: Path) -> messages.ExportDone:
    """Let the exporting program do what is ``asked``. Raises :class:`StageError`.

    Whatever a converter leaves when it is killed lies in ``folder``.
    """
    with WorkerClient.with_module("latbench.artifacts.export_worker", temporary=folder) as program:
        try:
            return program.ask(
                asked, messages.ExportDone, stage="export", deadline_s=EXPORT_TIMEOUT_S
            )
        except StageError as error:
            if error.kind != "timeout":
                raise
            # No option of a command reaches this deadline.
            raise StageError(
                error.stage,
                error.message,
                hint="try a smaller batch or resolution, or convert it by other means and name the "
                "ready file",
                kind=error.kind,
                detail=error.detail,
            ) from error


def _or_none(key_now: Callable[[], str]) -> str | None:
    """The key, or ``None`` where a file is no longer there."""
    try:
        return key_now()
    except UsageError:
        return None


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
        "calibration": calibration.identify_calibration(request.calibration)
        if request.precision == "int8"
        else None,
        "toolchain": dict(exporter.toolchain()),
        "latbench": latbench_version(),
        "code": _code_digest(exporter, PACKAGE / "zoo"),
    }


def _code_digest(exporter: Exporter, *more: Path) -> str:
    """Digest of the Python files that make and check an artifact: those of the exporter's package,
    those of the folders ``more``, and :data:`CHECKS`.

    Raises :class:`LatbenchError` where one cannot be read.
    """
    total = hashlib.sha256()
    for place in (_code_of(exporter), *more, *CHECKS):
        paths = sorted(place.rglob("*.py")) if place.is_dir() else [place]
        # A link to nowhere is no file, and an editor may leave one.
        for path in (path for path in paths if path.is_file()):
            try:
                total.update(path.name.encode() + b"\0" + path.read_bytes())
            except OSError as error:
                raise LatbenchError(f"cannot read {path}: {error.strerror}") from error
    return total.hexdigest()


def _code_of(exporter: Exporter) -> Path:
    """The folder of the exporter's package, or its file where it is a module in none: beside that
    one lies whatever is installed."""
    kind = type(exporter)
    if "." not in kind.__module__:
        return Path(inspect.getfile(kind))
    package = sys.modules[kind.__module__.partition(".")[0]]
    return Path(package.__path__[0])
