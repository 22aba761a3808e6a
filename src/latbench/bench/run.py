"""``latbench run``: time one model and store the record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from latbench.analysis.summary import Summary, summarize
from latbench.bench.context import RunContext
from latbench.bench.measure import measure_request
from latbench.bench.opening import opened
from latbench.bench.prepare import read_request, resolve_protocol
from latbench.bench.rest import cooldown
from latbench.defaults import LOCAL, RUN_PROTOCOL, TIMEOUT_S
from latbench.errors import StageError
from latbench.events import SILENT, Events
from latbench.schema.protocol import TimingProtocol
from latbench.schema.record import Record
from latbench.schema.request import Request, make_request
from latbench.zoo.in_memory import AnyModel, Examples, name_of


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """A stored record, its summary, and the registry that it is in."""

    record: Record
    summary: Summary | None
    """``None`` if there is not one sample: see ``record.outcome.failure``."""
    registry: str


def run(
    model: AnyModel,
    *,
    example_inputs: Examples | None = None,
    backend: str | None = None,
    device: str = LOCAL,
    weights: str | Path | None = None,
    weights_key: str | None = None,
    batch: int | None = None,
    resolution: int | tuple[int, int] | None = None,
    precision: str = "fp32",
    threads: int | None = None,
    seed: int = 0,
    options: Mapping[str, str] | None = None,
    dims: Mapping[str, int] | None = None,
    shapes: Mapping[str, Sequence[int]] | Sequence[str] = (),
    dtypes: Mapping[str, str] | None = None,
    inputs: Mapping[str, str] | Sequence[str] = (),
    signature: str | None = None,
    tolerance: float | None = None,
    arguments: Mapping[str, str] | None = None,
    imports: Sequence[str] = (),
    nondeterministic: bool = False,
    require: str | Sequence[str] = (),
    cpus: str | None = None,
    protocol: str | TimingProtocol = RUN_PROTOCOL,
    budget_s: float | None = None,
    target: float | None = None,
    calibration: str | Path | None = None,
    profile: bool = False,
    cooldown_s: float = 0.0,
    max_temperature_c: float | None = None,
    max_thermal_status: str | None = None,
    strict: bool = False,
    no_cache: bool = False,
    timeout_s: float = TIMEOUT_S,
    registry: str | None = None,
    events: Events = SILENT,
    raise_on_failure: bool = False,
) -> RunResult:
    """Measure ``model`` on ``backend`` and store the record.

    Without a ``backend``, the extension of a pre-exported file chooses it; other models run on
    ONNX Runtime.

    ``model`` is a name of the zoo, ``timm:NAME``, ``package.module:factory``,
    ``path/to/file.py:factory`` or a pre-exported file that the backend accepts. It may also be a
    ``torch.nn.Module``, which is exported in this process and timed with ``example_inputs``: a
    tensor, or several in the order of its ``forward`` or by name. ``resolution`` is
    in pixels, height before width. ``threads`` defaults to the CPUs available to this process.
    ``options`` are the backend's own (``latbench backends NAME`` lists them). ``precision`` is one
    of :data:`latbench.schema.precision.PRECISIONS`, and ``calibration`` a folder of images for
    int8.

    ``shapes`` gives the sizes of all axes by input, such as ``{"tokens": (1, 128)}``, ``dtypes``
    their types, and ``dims`` the sizes of a pre-exported file's named dynamic axes. ``inputs``
    says what an input holds, such as ``{"length": "1000"}`` (``docs/guides/inputs.md``). The texts
    of ``--shape`` and ``--input`` are accepted too. ``signature`` is one of several in a TFLite
    file. ``tolerance`` is the relative error of outputs that is accepted instead of that of the
    precision; ``nondeterministic`` permits outputs that differ from run to run, which are then not
    checked. ``arguments`` are those of the model's factory, as texts, and ``imports`` packages that
    are imported first, such as one that registers models with timm. ``require`` names units, such
    as ``npu``: unless every operator runs on one of them, the run fails before it is timed.
    ``cpus`` chooses CPUs of the device: ``big``, ``mid``, ``little``, a mask such as ``0xf0`` or a
    list such as ``4-7``.

    The other arguments are those of :func:`run_request`, and so are the errors.
    """
    request = make_request(
        name_of(model, example_inputs),
        backend=backend or "",
        device=device,
        weights=weights,
        weights_key=weights_key,
        batch=batch,
        resolution=resolution,
        precision=precision,
        threads=threads,
        seed=seed,
        options=options,
        dims=dims,
        shapes=shapes,
        dtypes=dtypes,
        inputs=inputs,
        signature=signature,
        tolerance=tolerance,
        arguments=arguments,
        imports=imports,
        nondeterministic=nondeterministic,
        require=require,
        cpus=cpus,
        protocol=protocol if isinstance(protocol, str) else protocol.label,
        calibration=calibration,
    )
    return run_request(
        request,
        protocol=protocol,
        budget_s=budget_s,
        target=target,
        profile=profile,
        cooldown_s=cooldown_s,
        max_temperature_c=max_temperature_c,
        max_thermal_status=max_thermal_status,
        strict=strict,
        no_cache=no_cache,
        timeout_s=timeout_s,
        registry=registry,
        events=events,
        raise_on_failure=raise_on_failure,
    )


def run_request(
    request: Request | str,
    *,
    protocol: str | TimingProtocol = RUN_PROTOCOL,
    budget_s: float | None = None,
    target: float | None = None,
    profile: bool = False,
    cooldown_s: float = 0.0,
    max_temperature_c: float | None = None,
    max_thermal_status: str | None = None,
    strict: bool = False,
    no_cache: bool = False,
    timeout_s: float = TIMEOUT_S,
    registry: str | None = None,
    events: Events = SILENT,
    raise_on_failure: bool = False,
) -> RunResult:
    """Measure a request, or a text such as ``mobilevig_ti,threads=1``, and store the record.

    ``protocol`` is a name (``latbench protocols`` lists them) or a value, which
    :func:`msgspec.structs.replace` derives from a shipped one. ``budget_s`` limits the time in
    seconds: no new block starts after it. ``target`` is the relative half-width of the 95 %
    interval at which to stop, such as 0.01. ``profile`` measures times by operator too.

    Before the timing, the device rests for ``cooldown_s`` seconds, and then until its hottest CPU
    sensor reports at most ``max_temperature_c`` degrees Celsius and the operating system of a phone
    at most ``max_thermal_status``; after :data:`~latbench.bench.rest.LONGEST_WAIT_S` more seconds
    above that, and on a device that does not report it, the run fails.

    Without ``strict``, a backend that cannot run here is replaced by ONNX Runtime on the CPU, and
    the record says so. ``no_cache`` exports again even if the cache has the artifact.
    ``timeout_s`` is how long to wait for each response of the runtime, in seconds.

    A run that fails or is interrupted is a record too: look at ``result.record.outcome``. With
    ``raise_on_failure``, a failure raises :class:`~latbench.StageError` after the record has been
    stored. Raises :class:`~latbench.UsageError` for an invalid request and
    :class:`~latbench.RegistryError` if the registry cannot be used.
    """
    timing = resolve_protocol(protocol, timeout_s, budget_s=budget_s, target=target)
    wait = cooldown(cooldown_s, max_temperature_c, max_thermal_status)
    with opened((read_request(request, timing),), registry) as bench:
        context = RunContext(
            device=bench.device,
            registry=bench.registry,
            events=events,
            timeout_s=timeout_s,
            strict=strict,
            no_cache=no_cache,
            profile=profile,
            cooldown=wait,
        )
        record = measure_request(bench.requests[0], timing, context)
        if raise_on_failure:
            _raise_failure(record)
        return RunResult(record=record, summary=summarize(record), registry=bench.registry.url)


def _raise_failure(record: Record) -> None:
    failure = record.outcome.failure
    if failure is not None:
        raise StageError(
            failure.stage,
            f"{failure.message} (record {record.id})",
            hint=failure.hint,
            kind=failure.kind,
            detail=failure.detail,
        )
