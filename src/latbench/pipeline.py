"""``latbench run``, step by step: from a request to a stored record.

Store first, then compute: nothing below looks at a number before the record is safe.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from latbench.api import Runner
from latbench.cache import ArtifactCache, Cached, cache_folder
from latbench.core.codec import encode_record
from latbench.core.errors import RegistryError, StageError
from latbench.core.protocols import FIXED
from latbench.core.records import (
    SCHEMA,
    Device,
    Environment,
    Machine,
    ModelIdentity,
    Outcome,
    Record,
    Request,
    Runtime,
    TimingProtocol,
)
from latbench.core.summary import Summary, summarise
from latbench.devices.machine import (
    read_conditions,
    read_machine,
    read_software,
    usable_cpus,
)
from latbench.exporting import obtain
from latbench.measure.execute import Execution, Job, Progress, failure_of
from latbench.plugins import FALLBACK, exporter_for, load_exporter, load_runner
from latbench.requests import (
    LOCAL,
    check_options,
    check_protocol,
    find_here,
    identify,
    make_request,
)

if TYPE_CHECKING:
    from latbench.store.registry import Registry

DEADLINE_S = 300.0
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


@dataclass(frozen=True, kw_only=True)
class Result:
    """A stored record, what it says, and where it is."""

    record: Record
    summary: Summary | None
    """``None`` where not one sample was taken: see ``record.outcome.failure``."""
    registry: str


def run(
    model: str,
    *,
    backend: str = FALLBACK,
    device: str = LOCAL,
    weights: str | Path | None = None,
    batch: int | None = None,
    resolution: int | tuple[int, int] | None = None,
    precision: str = "fp32",
    threads: int | None = None,
    seed: int = 0,
    options: Mapping[str, str] | None = None,
    dims: Mapping[str, int] | None = None,
    protocol: TimingProtocol = FIXED,
    strict: bool = False,
    fresh: bool = False,
    deadline_s: float = DEADLINE_S,
    registry: str | None = None,
    progress: Progress = lambda done, total: None,
    warn: Callable[[str], None] = lambda message: None,
) -> Result:
    """Measure ``model`` on ``backend`` and store the record.

    ``model`` is a name of the zoo, ``timm:NAME``, ``package.module:factory``,
    ``path/to/file.py:factory`` or a ready ``.onnx`` file. ``resolution`` is in pixels, height
    before width. ``threads`` defaults to the CPUs that this process may really use. ``options``
    are the backend's own (``latbench backends NAME`` lists them), ``dims`` the sizes of a ready
    file's named dynamic axes. Without ``strict``, a backend that cannot run here is replaced by
    ONNX Runtime on the CPU; the record then says so. ``fresh`` exports again even where the cache
    has the artifact. ``deadline_s`` bounds every single answer of a runtime, in seconds.

    A run that fails or is interrupted is a record too: look at ``result.record.outcome``. Raises
    :class:`~latbench.UsageError` for a request that makes no sense and
    :class:`~latbench.RegistryError` where the registry cannot be used.
    """
    request = make_request(
        model,
        backend=backend,
        device=device,
        weights=weights,
        batch=batch,
        resolution=resolution,
        precision=precision,
        threads=threads,
        seed=seed,
        options=options,
        dims=dims,
    )
    check_protocol(protocol, deadline_s)
    identity = identify(request)
    machine = read_machine()
    where = find_here(device, machine)
    runner = load_runner(backend)
    check_options(runner, request.options)
    from latbench.store.registry import Registry

    with Registry.open(registry) as store:
        record = _measure(
            _Plan(
                request=request,
                identity=identity,
                machine=machine,
                device=where,
                protocol=protocol,
                strict=strict,
                fresh=fresh,
                deadline_s=deadline_s,
            ),
            runner,
            progress,
            warn,
        )
        _keep(record, store)
        return Result(record=record, summary=summarise(record), registry=store.url)


def export(
    model: str,
    *,
    format: str = "onnx",
    weights: str | Path | None = None,
    batch: int | None = None,
    resolution: int | tuple[int, int] | None = None,
    precision: str = "fp32",
    seed: int = 0,
    dims: Mapping[str, int] | None = None,
    fresh: bool = False,
    warn: Callable[[str], None] = lambda message: None,
) -> Cached:
    """Export ``model``, or take it from the cache; arguments as for :func:`run`.

    Raises :class:`~latbench.StageError` where it cannot be built or exported, or is not the model.
    """
    request = make_request(
        model,
        weights=weights,
        batch=batch,
        resolution=resolution,
        precision=precision,
        seed=seed,
        dims=dims,
    )
    exporter = load_exporter(format)
    return obtain(
        request,
        identify(request),
        exporter,
        ArtifactCache(cache_folder()),
        fresh=fresh,
        warn=warn,
    )


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """A request that makes sense."""

    request: Request
    identity: ModelIdentity
    machine: Machine
    device: Device
    protocol: TimingProtocol
    strict: bool
    fresh: bool
    deadline_s: float


def _measure(
    plan: _Plan, runner: Runner, progress: Progress, warn: Callable[[str], None]
) -> Record:
    """Everything between understanding the request and storing the record."""
    request = plan.request
    created = time.time_ns()
    software = read_software(PACKAGES)
    before = read_conditions()
    cached: Cached | None = None
    runtime: Runtime | None = None
    try:
        runner, options = _able(runner, request, plan.strict, warn)
        cached = obtain(
            request,
            plan.identity,
            exporter_for(runner),
            ArtifactCache(cache_folder()),
            fresh=plan.fresh,
            warn=warn,
        )
        before = read_conditions()
        execution = Execution(
            Job(
                backend=runner.name,
                artifact=cached.artifact,
                path=cached.path,
                reference=cached.reference,
                threads=request.threads or usable_cpus(),
                seed=request.seed,
                extra=options,
                protocol=plan.protocol,
                deadline_s=plan.deadline_s,
            ),
            progress,
        )
        outcome = execution.run()
        runtime = execution.runtime
    except StageError as error:
        outcome = Outcome(status="failed", failure=failure_of(error))
    except KeyboardInterrupt:
        outcome = Outcome(status="interrupted")
    return Record(
        schema=SCHEMA,
        id=_new_id(created),
        created_unix_ns=created,
        request=request,
        model=plan.identity,
        backend=runner.name,
        device=plan.device,
        artifact=cached.artifact if cached else None,
        runtime=runtime,
        environment=Environment(
            machine=plan.machine, software=software, before=before, after=read_conditions()
        ),
        protocol=plan.protocol,
        outcome=outcome,
    )


def _able(
    runner: Runner, request: Request, strict: bool, warn: Callable[[str], None]
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


def _keep(record: Record, store: Registry) -> None:
    """Store the record; where the registry will not take it, leave it in a file."""
    try:
        store.add(record)
    except RegistryError as error:
        path = Path(f"latbench-{record.id}.json")
        folder = Path.cwd() if os.access(Path.cwd(), os.W_OK) else Path.home()
        (folder / path).write_bytes(encode_record(record))
        raise RegistryError(
            f"{error.message}. The measurement is not lost: {folder / path}",
            hint=f"mend the registry, then: latbench import {folder / path}",
        ) from error


def _new_id(unix_ns: int) -> str:
    """26 characters that sort by time: a ULID (48 bits of milliseconds, 80 random bits)."""
    number = (unix_ns // 1_000_000) << 80 | secrets.randbits(80)
    alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
    return "".join(alphabet[number >> shift & 31] for shift in range(125, -1, -5))
