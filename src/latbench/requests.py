"""What is asked for, as a value that makes sense, or :class:`UsageError` with what to do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from latbench.api import Exporter
from latbench.defaults import FALLBACK, LOCAL
from latbench.devices.catalog import find_device, load_devices, user_devices_path
from latbench.devices.machine import this_device
from latbench.errors import UnfitError, UsageError, nearest
from latbench.schema.artifact import ModelIdentity
from latbench.schema.environment import Device, Machine
from latbench.schema.precision import PRECISIONS
from latbench.schema.protocol import TimingProtocol
from latbench.schema.protocol_catalog import SHIPPED, WARM
from latbench.schema.record import Request
from latbench.zoo.resolve import resolve

LONGEST_DEADLINE_S = 7 * 24 * 3600


def make_request(
    model: str,
    *,
    weights: str | Path | None = None,
    batch: int | None = None,
    resolution: int | tuple[int, int] | None = None,
    precision: str = "fp32",
    seed: int = 0,
    dims: Mapping[str, int] | None = None,
    protocol: str | None = None,
    backend: str = "",
    device: str = "",
    threads: int | None = None,
    options: Mapping[str, str] | None = None,
    calibration: str | Path | None = None,
) -> Request:
    """The request as a value, its numbers checked."""
    request = Request(
        model=model,
        backend=backend,
        device=device,
        weights=str(weights) if weights is not None else None,
        batch=batch,
        resolution=(resolution, resolution) if isinstance(resolution, int) else resolution,
        precision=precision,
        threads=threads,
        seed=seed,
        options=dict(options or {}),
        dims=dict(dims or {}),
        protocol=protocol,
        calibration=str(calibration) if calibration is not None else None,
    )
    if precision not in PRECISIONS:
        raise UsageError(f"unknown precision {precision!r}", hint=nearest(precision, PRECISIONS))
    if calibration is not None and precision != "int8":
        raise UsageError(
            f"calibration is of int8, not of {precision}", hint="give --precision int8 as well"
        )
    if threads is not None and threads < 1:
        raise UsageError(f"threads must be at least 1, not {threads}")
    if not 0 <= seed < 2**31:
        raise UsageError(f"seed must be from 0 to {2**31 - 1}, not {seed}")
    for name, size in request.dims.items():
        if size < 1:
            raise UsageError(f"axis {name} must have a size of at least 1, not {size}")
    return request


SIDE_KEYS = (
    "model",
    "backend",
    "threads",
    "batch",
    "resolution",
    "precision",
    "weights",
    "seed",
    "calibration",
)


DEFAULTS: Mapping[str, Any] = {
    "backend": FALLBACK,
    "device": LOCAL,
    "weights": None,
    "batch": None,
    "resolution": None,
    "precision": "fp32",
    "threads": None,
    "seed": 0,
    "dims": None,
    "calibration": None,
}


def side_request(side: str, **common: Any) -> Request:
    """One side of a comparison: ``[MODEL][,KEY=VALUE]...`` over what both sides have in common.

    A key that is none of :data:`SIDE_KEYS` is an option of the backend.
    """
    fields = {**DEFAULTS, **common}
    fields["options"] = dict(common.get("options") or {})
    for i, part in enumerate(side.split(",")):
        key, equals, value = part.partition("=")
        if not equals and i == 0 and part:
            fields["model"] = part
        elif not equals or not key or not value:
            raise UsageError(
                f"{side!r}: {part!r} is not KEY=VALUE",
                hint="a side is [MODEL][,KEY=VALUE]..., such as mobilevig_ti,threads=2",
            )
        elif key in ("threads", "batch", "seed"):
            if not value.isdecimal():
                raise UsageError(f"{side!r}: {key} is a whole number, not {value!r}")
            fields[key] = int(value)
        elif key == "resolution":
            fields[key] = read_resolution(value)
        elif key in SIDE_KEYS:
            fields[key] = value
        else:
            fields["options"][key] = value
    model = fields.pop("model", None)
    if not model:
        raise UsageError(
            f"{side!r} names no model", hint="name one on each side, or one for both with --model"
        )
    return make_request(model, **fields)


def read_resolution(text: str) -> tuple[int, int]:
    """Height and width from ``224`` or ``480x640``. Raises :class:`UsageError`."""
    parts = text.lower().split("x")
    if len(parts) in (1, 2) and all(part.isdecimal() and int(part) > 0 for part in parts):
        return int(parts[0]), int(parts[-1])
    raise UsageError(f"{text!r} is not a size such as 224 or 480x640 (height x width)")


def identify(request: Request) -> ModelIdentity:
    """Which network is meant, without building it."""
    return resolve(
        request.model,
        weights=Path(request.weights) if request.weights is not None else None,
        batch=request.batch,
        resolution=request.resolution,
        seed=request.seed,
    ).identity


def find_here(name: str, machine: Machine) -> Device:
    """This machine's row. Other devices are known, but nothing here reaches them yet."""
    here = this_device(machine)
    if name in (LOCAL, here.id):
        return here
    device = find_device(load_devices(user_devices_path()), name)
    if device.transport == "local":
        return device
    raise UsageError(
        f"device {name!r} ({device.name}) cannot be reached from here: only this machine can",
        hint=f"leave --device out, or give {LOCAL} or {here.id}",
    )


def check_export(exporter: Exporter, precision: str) -> None:
    """Refuse a precision that the format cannot have."""
    if precision not in exporter.precisions:
        raise UnfitError(
            f"{exporter.format} cannot be exported in {precision}",
            hint=f"it can be in: {', '.join(exporter.precisions)}",
        )


def check_options(what: str, options: Mapping[str, str], known: Mapping[str, str]) -> None:
    """Refuse options that neither the runner nor the exporter takes."""
    for name in options:
        if name not in known:
            raise UsageError(f"{what} has no option {name!r}", hint=nearest(name, known))


def named_protocol(name: str) -> TimingProtocol:
    """The shipped protocol ``name@version``; without a version the newest of that name."""
    found = [p for p in SHIPPED if name in (p.label, p.name)]
    if not found:
        raise UsageError(
            f"unknown protocol {name!r}", hint=nearest(name, (p.label for p in SHIPPED))
        )
    return max(found, key=lambda protocol: protocol.version)


def changed_protocol(
    protocol: TimingProtocol,
    *,
    budget_s: float | None = None,
    target: float | None = None,
    processes: int | None = None,
    warmup_calls: int | None = None,
    calls: int | None = None,
    block_calls: int | None = None,
) -> TimingProtocol:
    """``protocol`` with some of its numbers changed; the hash in the record then differs too.

    ``target`` is a relative half-width. A number of processes is exact; a number of warm-up calls
    is fixed; a number of calls for each session has no minimal time beside it.
    """
    changes: dict[str, object] = {}
    if budget_s is not None:
        _above_zero("the budget", budget_s, "s")
        changes |= {"budget_ns": round(budget_s * 1e9)}
    if target is not None:
        _above_zero("the target", target * 100, "%")
        changes |= {"target_ppm": max(1, round(target * 1e6))}
        if protocol.max_processes == protocol.processes:
            changes |= {"max_processes": max(protocol.processes, WARM.max_processes)}
    if processes is not None:
        changes |= {"processes": processes, "max_processes": processes}
    if warmup_calls is not None:
        changes |= {"warmup": "fixed", "warmup_calls": warmup_calls, "warmup_ns": 0}
    cold = protocol.statistic.kind == "cold"
    if cold and not (calls is None and target is None):
        option = "--calls" if calls is not None else "--target"
        raise UsageError(f"{protocol.label} times the first inference only: it takes no {option}")
    if calls is not None:
        changes |= {"min_calls": calls, "min_ns": 0}
    if block_calls is not None:
        changes |= {"block_calls": block_calls, "block_ns": None}
    return msgspec.structs.replace(protocol, **changes)


def _above_zero(what: str, value: float, unit: str) -> None:
    if not 0 < value < LONGEST_DEADLINE_S:
        raise UsageError(f"{what} must be above 0 and sensible, not {value:g} {unit}")


def check_protocol(protocol: TimingProtocol, deadline_s: float) -> None:
    """Refuse numbers with which nothing can be timed."""
    if not 0 < deadline_s <= LONGEST_DEADLINE_S:
        raise UsageError(
            f"the deadline must be above 0 and at most {LONGEST_DEADLINE_S} s, not {deadline_s:g}"
        )
    for name in ("processes", "sessions", "block_calls"):
        if getattr(protocol, name) < 1:
            raise UsageError(f"{name.replace('_', ' ')} must be at least 1")
    for name in ("warmup_calls", "min_calls", "settle_calls"):
        if getattr(protocol, name) < 0:
            raise UsageError(f"{name.replace('_', ' ')} must not be negative")
    if protocol.statistic.kind == "cold" and protocol.target_ppm is not None:
        raise UsageError("a protocol of cold starts does not stop when it is precise enough")
    if protocol.max_processes < protocol.processes:
        raise UsageError(
            f"at most {protocol.max_processes} processes are fewer than the "
            f"{protocol.processes} at least"
        )
