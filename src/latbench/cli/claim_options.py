"""Which claims are meant: filters, and the files that they are read from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latbench.cli.options import warn

if TYPE_CHECKING:
    from latbench.audit.library import ClaimLibrary
    from latbench.claims.model import Claim

# As latbench.claims.model has them, which takes 6 ms to import; a test sees that they agree.
KINDS = (
    *("value", "ratio", "difference", "ordering", "parity", "bound"),
    *("size", "scaling", "identity"),
)
METRICS = (
    *("latency", "throughput", "parameters", "macs", "size", "memory"),
    *("accuracy", "time-steps", "training-memory"),
)


def claim_filters(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options that narrow a list of claims."""
    for option in (
        click.option("--source", metavar="ID", help="Of one paper or other source."),
        click.option("--headline", is_flag=True, help="Of abstracts and titles alone."),
        click.option("--metric", type=click.Choice(METRICS), help="About this quantity."),
        click.option("--device", metavar="ID", help="Taken on this device."),
        click.option("--model", metavar="MODEL", help="About this model, by id, name or builder."),
        click.option("--kind", type=click.Choice(KINDS), help="Of this kind of statement."),
    ):
        function = option(function)
    return function


def load_registered(files: Sequence[Path] = ()) -> ClaimLibrary:
    """Shipped claims and the user's own; or the shipped ones and ``files``. Bad entries are told at
    once: one of them may be why a name is not found."""
    from latbench.audit.library import load_claims, user_claims
    from latbench.devices.catalog import load_devices, user_devices_path

    registered = load_claims(load_devices(user_devices_path()), files or user_claims())
    for error in registered.errors:
        warn(f"left out: {error}")
    return registered


def status_of(registered: ClaimLibrary) -> int:
    """The exit status: 2 where an entry is bad."""
    return 2 if registered.errors else 0


def chosen_claims(
    registered: ClaimLibrary,
    *,
    kind: str | None,
    model: str | None,
    device: str | None,
    metric: str | None,
    headline: bool,
    source: str | None,
) -> list[Claim]:
    """The claims that all given filters let through; a name that nothing has is an error."""
    models = None if model is None else registered.models_called(model)
    if device is not None:
        registered.require_device(device)
    if source is not None:
        registered.require_source(source)
    return [
        claim
        for claim in registered.claims
        if (kind is None or claim.kind == kind)
        and (models is None or claim.model in models)
        and (device is None or claim.conditions.device == device)
        and (metric is None or claim.says.metric == metric)
        and (source is None or claim.source.id == source)
        and (claim.headline or not headline)
    ]
