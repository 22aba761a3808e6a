"""Options that select claims, and the claim files."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latbench.cli import completion
from latbench.cli.streams import warn

if TYPE_CHECKING:
    from latbench.audit.library import ClaimLibrary
    from latbench.claims.model import Claim
    from latbench.schema.reported import ReportedResult

# As in latbench.claims.model, which takes 6 ms to import; a test checks that they agree.
KINDS = (
    *("value", "ratio", "difference", "ordering", "parity", "bound"),
    *("size", "scaling", "identity"),
)
METRICS = (
    *("latency", "throughput", "parameters", "macs", "size", "memory"),
    *("accuracy", "time-steps", "training-memory"),
)


def claim_filters(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that filter claims."""
    for option in (
        click.option(
            "--source",
            metavar="ID",
            shell_complete=completion.sources,
            help="Claims of this paper or other source.",
        ),
        click.option("--headline", is_flag=True, help="Claims in abstracts and titles only."),
        click.option("--metric", type=click.Choice(METRICS), help="Claims about this quantity."),
        click.option(
            "--device",
            metavar="ID",
            shell_complete=completion.devices,
            help="Claims measured on this device.",
        ),
        click.option(
            "--model",
            metavar="MODEL",
            shell_complete=completion.claim_models,
            help="Claims about this model (id, name or builder).",
        ),
        click.option("--kind", type=click.Choice(KINDS), help="Claims of this kind of statement."),
    ):
        function = option(function)
    return function


trust_code_option = click.option(
    "--trust-code",
    is_flag=True,
    help="Execute the code (module:factory) that a claims file names which LATBENCH_CLAIMS sets.",
)


def load_registered(files: Sequence[Path] = (), *, trust_code: bool = False) -> ClaimLibrary:
    """Load the shipped claims and the user's own, or the shipped ones and ``files``.

    Files in the configuration folder are the user's own; of those that ``LATBENCH_CLAIMS`` names,
    code is executed only with ``trust_code``.

    Invalid entries are reported immediately: one of them may be why a name is not found."""
    from latbench.audit.library import load_claims, user_claims
    from latbench.devices.catalog import load_devices, user_devices_path

    registered = load_claims(
        load_devices(user_devices_path()),
        files or user_claims(),
        trust_code=trust_code or not os.environ.get("LATBENCH_CLAIMS"),
    )
    for error in registered.errors:
        warn(f"left out: {error}")
    return registered


def status_of(registered: ClaimLibrary) -> int:
    """Exit status: 2 if an entry is invalid."""
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


def reported_results(registry: str | None) -> tuple[ReportedResult, ...]:
    """Results of other tools, to be listed beside claims; none if there is no registry yet.

    What is wrong with the registry is a warning: nothing depends on them.
    """
    from latbench.errors import RegistryError
    from latbench.store.engine import registry_url
    from latbench.store.registry import Registry

    url = registry_url(registry)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        return ()
    try:
        with Registry.open(registry, create=False) as store:
            return store.reported()
    except RegistryError as error:
        warn(f"results of other tools are left out: {error.message}")
        return ()
