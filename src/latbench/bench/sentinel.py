"""The sentinel that is timed between the blocks of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latbench.api import Exporter, SentinelExporter
from latbench.artifacts.builder import obtain, obtain_sentinel
from latbench.artifacts.cache import ArtifactCache, CachedArtifact
from latbench.bench.job import Job
from latbench.bench.prepare import PreparedJob
from latbench.errors import LatbenchError
from latbench.events import Warn
from latbench.paths import cache_folder
from latbench.plugins import exporter_for
from latbench.schema.protocol import TimingProtocol
from latbench.schema.record import Sentinel
from latbench.schema.request import make_request
from latbench.zoo.resolver import identify

if TYPE_CHECKING:
    from latbench.devices.measured import MeasuredDevice

NO_SENTINEL = Sentinel(
    name=None, sha256=None, absent="models that are compared are timed beside each other"
)
"""In the records of a comparison, whose protocol may ask for a sentinel."""
SENTINEL, SENTINEL_MODEL = "inverted-residuals-224@1", "latbench.zoo.nets.sentinel:sentinel"
"""Sentinel of the formats whose exporter has none of its own."""


def sentinel_for(
    prepared: PreparedJob, protocol: TimingProtocol, device: MeasuredDevice, warn: Warn
) -> tuple[Job | None, Sentinel | None]:
    """Return the sentinel to time alternating with a job, on the same backend and settings.

    A sentinel that cannot be exported does not stop the run: the record gives the reason.
    """
    if protocol.sentinel_ns is None:
        return None, None
    try:
        precision = prepared.cached.artifact.precision
        name, cached = _obtain_sentinel(exporter_for(prepared.runner), precision, warn)
        path = device.place(cached.path)
    except LatbenchError as error:
        return None, without_sentinel(error)
    job = Job(
        backend=prepared.job.backend,
        artifact=cached.artifact,
        path=path,
        reference=cached.reference,
        threads=prepared.job.threads,
        cpus=prepared.job.cpus,
        seed=0,
        extra=prepared.job.extra,
    )
    return job, Sentinel(name=name, sha256=cached.artifact.sha256)


def _obtain_sentinel(exporter: Exporter, precision: str, warn: Warn) -> tuple[str, CachedArtifact]:
    """The format's own sentinel, which needs no PyTorch, else the same network from PyTorch.

    It is in fp16 next to a model in fp16: some units compute in nothing else, and a sentinel in
    fp32 would run elsewhere.
    """
    cache = ArtifactCache(cache_folder())
    if isinstance(exporter, SentinelExporter):
        return obtain_sentinel(exporter, cache, warn=warn)
    half = precision == "fp16" and "fp16" in exporter.precisions
    request = make_request(SENTINEL_MODEL, precision="fp16" if half else "fp32")
    name = SENTINEL.replace("@", "-fp16@") if half else SENTINEL
    return name, obtain(request, identify(request), exporter, cache, warn=warn)


def without_sentinel(error: LatbenchError, until: Sentinel | None = None) -> Sentinel:
    """Return the entry of a record without a sentinel, or with samples ``until`` one failed."""
    return Sentinel(
        name=until.name if until else None,
        sha256=until.sha256 if until else None,
        absent=error.message,
    )
