"""What is asked for, as a value that makes sense, or :class:`UsageError` with what to do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from latbench.api import Runner
from latbench.core.errors import UsageError
from latbench.core.records import Device, Machine, ModelIdentity, Request, TimingProtocol
from latbench.devices.catalog import find_device, load_devices, user_devices_path
from latbench.devices.machine import this_device
from latbench.plugins import nearest
from latbench.zoo.resolve import resolve

LOCAL = "local"
"""The device that is this machine."""
LONGEST_DEADLINE_S = 7 * 24 * 3600


def make_request(
    model: str,
    *,
    weights: str | Path | None,
    batch: int | None,
    resolution: int | tuple[int, int] | None,
    precision: str,
    seed: int,
    dims: Mapping[str, int] | None,
    backend: str = "",
    device: str = "",
    threads: int | None = None,
    options: Mapping[str, str] | None = None,
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
    )
    if threads is not None and threads < 1:
        raise UsageError(f"threads must be at least 1, not {threads}")
    if not 0 <= seed < 2**31:
        raise UsageError(f"seed must be from 0 to {2**31 - 1}, not {seed}")
    for name, size in request.dims.items():
        if size < 1:
            raise UsageError(f"axis {name} must have a size of at least 1, not {size}")
    return request


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


def check_options(runner: Runner, options: Mapping[str, str]) -> None:
    """Refuse options that the backend does not take."""
    for name in options:
        if name not in runner.options:
            raise UsageError(
                f"backend {runner.name!r} has no option {name!r}",
                hint=nearest(name, runner.options),
            )


def check_protocol(protocol: TimingProtocol, deadline_s: float) -> None:
    """Refuse numbers with which nothing can be timed."""
    if not 0 < deadline_s <= LONGEST_DEADLINE_S:
        raise UsageError(
            f"the deadline must be above 0 and at most {LONGEST_DEADLINE_S} s, not {deadline_s:g}"
        )
    for name in ("processes", "warmup_calls", "blocks", "block_calls"):
        if getattr(protocol, name) < 1:
            raise UsageError(f"{name.replace('_', ' ')} must be at least 1")
