"""A model's checked artifact, from the cache or from the exporting program.

Converters print, leak gigabytes and crash, and a process with torch loaded is a poor place to
measure from. So :mod:`latbench.artifacts.export_worker`, a separate program, exports and checks
artifacts, and a cache hit does not load torch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import msgspec

from latbench.api import Exporter, SentinelExporter
from latbench.artifacts import calibration
from latbench.artifacts.cache import ArtifactCache, ArtifactChanged, CachedArtifact
from latbench.artifacts.code_digest import BUILDING, CHECKING, code_digest
from latbench.errors import StageError, UsageError
from latbench.events import Warn
from latbench.schema.artifact import Artifact, ModelIdentity
from latbench.schema.codec import digest
from latbench.schema.request import Request
from latbench.version import latbench_version
from latbench.worker import messages
from latbench.worker.client import WorkerClient
from latbench.zoo import catalog
from latbench.zoo.given_inputs import identify_inputs
from latbench.zoo.in_memory import find_module_in_memory
from latbench.zoo.resolver import identify

PROGRAM = "latbench.artifacts.export_worker"
REMARKS = {
    "weights": "weights: {}",
    "network": "the network: {}",
    "not_read": "not compared with the file: {}",
    "not_fused": "branches that are not fused: {}",
    "inputs": "inputs are {}",
    "decided_by": "how much is computed depends on the value of an input, which is seeded here: "
    "{}; use --input NAME=VALUE to time another value",
    "not_executed": "the file was not executed here, only counted: {}",
    "unchecked": "the outputs are not checked: {}",
}
"""Details of an artifact that users should know, and how they are said."""
EXPORT_TIMEOUT_S = 1800.0
TIMEOUT_HINT = (
    "try a smaller batch or resolution, or convert the model by other means and give the "
    "pre-exported file"
)


def obtain(
    request: Request,
    model: ModelIdentity,
    exporter: Exporter,
    cache: ArtifactCache,
    *,
    no_cache: bool = False,
    warn: Warn,
) -> CachedArtifact:
    """The artifact for ``request``, exported if the cache has none or ``no_cache`` is set.

    ``model`` is the identity at the time when the request was resolved, possibly hours ago. Raises
    :class:`StageError` if the model cannot be exported, the artifact is not the model, or the files
    that it depends on have changed since.
    """
    options = {k: v for k, v in request.options.items() if k in exporter.options}
    if request.precision == "int8" and request.calibration is None:
        warn(
            "int8 ranges are calibrated on seeded noise: the latency is that of the quantized "
            "model, the accuracy is not; use --calibration FOLDER to calibrate on images"
        )
    key = digest(_ingredients(request, model, exporter, options))

    def export(made: Path, reference: Path, inputs: Path) -> messages.ExportRequest:
        return messages.Export(
            request=msgspec.structs.replace(request, options=options),
            format=exporter.format,
            out=str(made),
            reference=str(reference),
            inputs=str(inputs),
        )

    def key_now() -> str:
        return digest(_ingredients(request, identify(request), exporter, options))

    return _cached_or_exported(
        key, export, exporter, cache, key_now=key_now, no_cache=no_cache, warn=warn
    )


def obtain_sentinel(
    exporter: SentinelExporter, cache: ArtifactCache, *, warn: Warn
) -> tuple[str, CachedArtifact]:
    """The name and the artifact of the exporter's own sentinel.

    Raises :class:`StageError` if it cannot be created.
    """
    key = digest(
        {
            "sentinel": exporter.sentinel,
            "format": exporter.format,
            "code": code_digest(exporter, CHECKING),
        }
    )

    def export(made: Path, reference: Path, inputs: Path) -> messages.ExportRequest:
        return messages.ExportSentinel(
            format=exporter.format, out=str(made), reference=str(reference)
        )

    return exporter.sentinel, _cached_or_exported(
        key, export, exporter, cache, key_now=lambda: key, no_cache=False, warn=warn
    )


def _cached_or_exported(
    key: str,
    export: Callable[[Path, Path, Path], messages.ExportRequest],
    exporter: Exporter,
    cache: ArtifactCache,
    *,
    key_now: Callable[[], str],
    no_cache: bool,
    warn: Warn,
) -> CachedArtifact:
    """The artifact in the cache under ``key``, or the one that the exporting program creates.

    ``key_now`` computes the key again, from the files as they are after the export. Raises
    :class:`StageError`.
    """
    try:
        found = None if no_cache else cache.find(key, exporter.suffix)
    except ArtifactChanged as changed:
        warn(f"{changed.message}; exporting it again")
        found = None
    if found is not None:
        _warn_of(found.artifact, warn)
        return found
    with cache.workspace() as folder:
        made, reference = folder / f"made{exporter.suffix}", folder / "reference.npz"
        inputs = folder / "inputs.npz"
        done = _exported(export(made, reference, inputs), folder)
        # The program has read the files again: they must be those that the key was computed from.
        if _or_none(key_now) != key:
            raise StageError(
                "export",
                "the model's file, or another file that the artifact depends on, changed before or "
                "during the export",
                hint="run it again; do not change files during a sweep",
            )
        given = inputs if inputs.exists() else None
        stored = cache.store(key, done.artifact, exporter.suffix, made, reference, given)
    _warn_of(stored.artifact, warn)
    return stored


def _warn_of(artifact: Artifact, warn: Warn) -> None:
    """What the user must know of an artifact, whenever it is used."""
    if reads := artifact.details.get("reads"):
        warn(
            f"the model's code reads {reads}, which is not part of its identity: after changing "
            "it, use --no-cache"
        )
    for name, remark in REMARKS.items():
        if detail := artifact.details.get(name):
            warn(remark.format(detail))
    if others := artifact.details.get("signatures"):
        warn(
            f"the file has several signatures ({others}) and runs "
            f"{artifact.details['signature']}; --signature selects another"
        )


def _exported(request: messages.ExportRequest, folder: Path) -> messages.ExportDone:
    """Send ``request`` to the exporting program. Raises :class:`StageError`.

    Temporary files of a converter that is killed stay in ``folder``. A network that exists in this
    process only is exported here.
    """
    if isinstance(request, messages.Export) and find_module_in_memory(request.request.model):
        from latbench.artifacts.export_worker import handle

        with redirect_stdout(sys.stderr):
            done = handle(request)
        assert isinstance(done, messages.ExportDone)
        return done
    with WorkerClient.with_module(
        PROGRAM,
        stage="export",
        environment={"TMPDIR": str(folder)},
        timeout_hint=TIMEOUT_HINT,
    ) as program:
        return program.ask(request, messages.ExportDone, stage="export", timeout_s=EXPORT_TIMEOUT_S)


def _or_none(key_now: Callable[[], str]) -> str | None:
    """The key, or ``None`` if a file no longer exists."""
    try:
        return key_now()
    except UsageError:
        return None


def _ingredients(
    request: Request, model: ModelIdentity, exporter: Exporter, options: dict[str, str]
) -> dict[str, object]:
    """Everything that shapes the file, including the code that exports it."""
    return {
        "model": model,
        # The identity has the module's digest, not which of its factories is called.
        "entry": catalog.find(model.name) if model.source == "zoo" else None,
        # A module's name has the digest of its example inputs.
        "module": request.model if find_module_in_memory(request.model) else None,
        "seed": request.seed,
        "dims": request.dims,
        "inputs": (request.shapes, request.dtypes, identify_inputs(request), request.signature),
        "factory": (request.arguments, request.imports),
        "checks": (request.tolerance, request.nondeterministic),
        "format": exporter.format,
        "precision": request.precision,
        "options": options,
        "calibration": calibration.identify_calibration(request.calibration)
        if request.precision == "int8"
        else None,
        "toolchain": dict(exporter.toolchain()),
        "latbench": latbench_version(),
        "code": code_digest(exporter, (*CHECKING, *BUILDING)),
    }
