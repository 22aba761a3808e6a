"""From a request to a job that can be timed, and from its outcome to a record.

What ``run``, ``compare`` and ``plan`` have in common.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from latbench.api import Runner
from latbench.cache import ArtifactCache, Cached, cache_folder
from latbench.core.codec import encode_record
from latbench.core.errors import LatbenchError, RegistryError, StageError
from latbench.core.protocols import TimingProtocol, protocol_sha256
from latbench.core.records import (
    SCHEMA,
    Conditions,
    Device,
    Environment,
    Interleaved,
    Machine,
    ModelIdentity,
    Outcome,
    Record,
    Request,
    Runtime,
    Sentinel,
    Software,
)
from latbench.devices.machine import read_conditions, usable_cpus
from latbench.exporting import obtain, obtain_sentinel
from latbench.measure.timed import Job
from latbench.plugins import FALLBACK, exporter_for, load_runner
from latbench.requests import check_options, find_here, identify

if TYPE_CHECKING:
    from latbench.store.registry import Registry

PACKAGES = (
    "latbench",
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "torch",
    "timm",
    "torchvision",
)
"""Packages whose versions matter for a number, as far as they are installed."""
Warn = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A request that makes sense."""

    request: Request
    identity: ModelIdentity
    device: Device
    runner: Runner
    strict: bool
    fresh: bool


@dataclass(frozen=True, kw_only=True)
class Ready:
    """What can be timed now."""

    runner: Runner
    """The one that will execute it: another than was asked for after a fallback."""
    cached: Cached
    job: Job


def subject(request: Request, machine: Machine, *, strict: bool, fresh: bool) -> Subject:
    """Understand ``request``. Raises :class:`UsageError`."""
    identity = identify(request)
    device = find_here(request.device, machine)
    runner = load_runner(request.backend)
    check_options(runner, request.options)
    return Subject(
        request=request,
        identity=identity,
        device=device,
        runner=runner,
        strict=strict,
        fresh=fresh,
    )


def ready(what: Subject, protocol: TimingProtocol, warn: Warn) -> Ready:
    """Find who can execute it, and export it or take it from the cache.

    Raises :class:`StageError`.
    """
    request = what.request
    runner, options = _able(what.runner, request, what.strict, warn)
    cached = obtain(
        request,
        what.identity,
        exporter_for(runner),
        ArtifactCache(cache_folder()),
        fresh=what.fresh,
        warn=warn,
    )
    job = Job(
        backend=runner.name,
        artifact=cached.artifact,
        path=cached.path,
        reference=cached.reference,
        threads=request.threads or protocol.threads or usable_cpus(),
        seed=request.seed,
        extra=options,
    )
    return Ready(runner=runner, cached=cached, job=job)


def sentinel_for(
    what: Ready, protocol: TimingProtocol, warn: Warn
) -> tuple[Job | None, Sentinel | None]:
    """The sentinel to time beside a job, on the same backend with the same settings.

    One that cannot be had costs the sentinel and not the run: the record says why.
    """
    if protocol.sentinel_ns is None:
        return None, None
    try:
        name, cached = obtain_sentinel(
            exporter_for(what.runner), ArtifactCache(cache_folder()), warn=warn
        )
    except LatbenchError as error:
        return None, without_sentinel(error)
    job = Job(
        backend=what.job.backend,
        artifact=cached.artifact,
        path=cached.path,
        reference=cached.reference,
        threads=what.job.threads,
        seed=0,
        extra=what.job.extra,
    )
    return job, Sentinel(name=name, sha256=cached.artifact.sha256)


def without_sentinel(error: LatbenchError, until: Sentinel | None = None) -> Sentinel:
    """Why there was none, or none any more: what was measured ``until`` then keeps its name."""
    return Sentinel(
        name=until.name if until else None,
        sha256=until.sha256 if until else None,
        absent=error.message,
    )


def make_record(
    what: Subject,
    *,
    created_unix_ns: int,
    machine: Machine,
    software: Software,
    before: Conditions,
    protocol: TimingProtocol,
    prepared: Ready | None,
    runtime: Runtime | None,
    outcome: Outcome,
    sentinel: Sentinel | None = None,
    interleaved: Interleaved | None = None,
) -> Record:
    """The record; the conditions after it are read now."""
    return Record(
        schema=SCHEMA,
        id=_new_id(created_unix_ns),
        created_unix_ns=created_unix_ns,
        request=what.request,
        model=what.identity,
        backend=(prepared.runner if prepared else what.runner).name,
        device=what.device,
        artifact=prepared.cached.artifact if prepared else None,
        runtime=runtime,
        environment=Environment(
            machine=machine, software=software, before=before, after=read_conditions()
        ),
        protocol=protocol,
        protocol_sha256=protocol_sha256(protocol),
        sentinel=sentinel,
        interleaved=interleaved,
        outcome=outcome,
    )


def keep(records: Sequence[Record], store: Registry) -> None:
    """Store them; where the registry will not take them, leave them in files."""
    try:
        store.add_many(records)
    except RegistryError as error:
        folder = Path.cwd() if os.access(Path.cwd(), os.W_OK) else Path.home()
        paths = [folder / f"latbench-{record.id}.json" for record in records]
        for path, record in zip(paths, records, strict=True):
            path.write_bytes(encode_record(record))
        listed = " ".join(map(str, paths))
        raise RegistryError(
            f"{error.message}. The measurement is not lost: {listed}",
            hint=f"mend the registry, then: latbench import {listed}",
        ) from error


def new_comparison_id() -> str:
    """Shared by the records of one comparison."""
    return _new_id(time.time_ns())


def _able(
    runner: Runner, request: Request, strict: bool, warn: Warn
) -> tuple[Runner, dict[str, str]]:
    """The runner, or the portable one where it cannot run here and that is allowed."""
    capability = runner.probe()
    if capability.available:
        return runner, request.options
    why = f"{runner.name} cannot run here: {capability.reason or 'no reason given'}"
    if strict or runner.name == FALLBACK:
        raise StageError("probe", why, hint=capability.hint, kind="unavailable")
    warn(f"{why}. What follows is {FALLBACK} on this machine's CPU")
    return load_runner(FALLBACK), {}


def _new_id(unix_ns: int) -> str:
    """26 characters that sort by time: a ULID (48 bits of milliseconds, 80 random bits)."""
    number = (unix_ns // 1_000_000) << 80 | secrets.randbits(80)
    alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
    return "".join(alphabet[number >> shift & 31] for shift in range(125, -1, -5))
