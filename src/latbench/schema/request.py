"""Define and validate measurement requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from latbench.errors import UsageError, suggest
from latbench.schema.precision import PRECISIONS
from latbench.schema.value import Value

if TYPE_CHECKING:
    from pathlib import Path


class Request(Value, frozen=True, kw_only=True):
    """A measurement request, as the user entered it."""

    model: str
    backend: str
    device: str
    weights: str | None
    batch: int | None
    resolution: tuple[int, int] | None
    precision: str
    threads: int | None
    seed: int
    options: dict[str, str]
    dims: dict[str, int]
    protocol: str | None = None
    """Requested name; ``None`` in records from before protocols had names."""
    calibration: str | None = None
    """Folder of the images for int8 calibration; ``None``: seeded data."""


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
    """Create a request and check its values. Raise :class:`UsageError`."""
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
    check_request(request)
    return request


def check_request(request: Request) -> None:
    """Reject values that no model or backend accepts. Raise :class:`UsageError`."""
    precision, threads, seed = request.precision, request.threads, request.seed
    if precision not in PRECISIONS:
        raise UsageError(f"unknown precision {precision!r}", hint=suggest(precision, PRECISIONS))
    if request.calibration is not None and precision != "int8":
        raise UsageError(
            f"--calibration requires --precision int8 (got {precision})",
            hint="add --precision int8",
        )
    if threads is not None and threads < 1:
        raise UsageError(f"threads must be at least 1, not {threads}")
    if not 0 <= seed < 2**31:
        raise UsageError(f"seed must be from 0 to {2**31 - 1}, not {seed}")
    for name, size in request.dims.items():
        if size < 1:
            raise UsageError(f"axis {name} must have a size of at least 1, not {size}")
