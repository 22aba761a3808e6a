"""``latbench claims``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latbench.cli.options import json_option, registry_option, warn

if TYPE_CHECKING:
    from latbench.checking import Checked
    from latbench.claims_file import Registered
    from latbench.core.claims import Claim

KINDS = (
    *("value", "ratio", "difference", "ordering", "parity", "bound"),
    *("size", "scaling", "identity"),
)
METRICS = (
    *("latency", "throughput", "parameters", "macs", "size", "memory"),
    *("accuracy", "time-steps", "training-memory"),
)
QUESTIONS = ("value", "ordering", "static")


@click.group("claims")
def command() -> None:
    """Published figures: what they say, under which conditions, and whether it is so.

    The shipped claims are in claims.yaml; your own are added by `claims add`, or named by
    LATBENCH_CLAIMS (a file or a folder). Each subcommand takes --json.

    Where an entry is bad the others are still used; it is named, and the exit status is 2.
    """


def _filters(function: Callable[..., Any]) -> Callable[..., Any]:
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


@command.command("list")
@_filters
@json_option
def list_(*, as_json: bool, **filters: Any) -> int:
    """List claims, with how many of the conditions that matter are known."""
    from latbench.report.claims import claims_json, list_lines

    registered = _load()
    claims = _chosen(registered, **filters)
    if as_json:
        click.echo(claims_json(claims))
    else:
        click.echo("\n".join(list_lines(claims, registered.models, registered.sources)))
    return _told(registered)


@command.command("show")
@click.argument("id")
@json_option
def show(*, id: str, as_json: bool) -> int:
    """Show all that is known of one claim."""
    from latbench.report.claims import claims_json, show_lines

    registered = _load()
    claim = registered.find(id)
    if as_json:
        click.echo(claims_json([claim]))
    else:
        click.echo("\n".join(show_lines(claim, registered.models, registered.sources)))
    return _told(registered)


@command.command("validate")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@json_option
def validate(*, files: tuple[Path, ...], as_json: bool) -> int:
    """Check that FILES can be used; without any, the shipped claims and your own."""
    from latbench.report.json import to_json

    registered = _load(files)
    if as_json:
        click.echo(to_json({"claims": len(registered.claims), "errors": registered.errors}))
    else:
        click.echo(f"good claims: {len(registered.claims)}, errors: {len(registered.errors)}")
    return _told(registered)


@command.command("add")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--template", is_flag=True, help="Print a form to fill in.")
@json_option
def add(*, file: Path | None, template: bool, as_json: bool) -> int:
    """Check FILE, and copy it to your own claims if all of it is good."""
    from importlib.resources import files

    from latbench.claims_file import add_file
    from latbench.devices.catalog import load_devices, user_devices_path
    from latbench.report.json import to_json

    if template:
        form = files("latbench.data").joinpath("claim_template.yaml").read_text()
        click.echo(form, nl=False)
        return 0
    if file is None:
        raise click.UsageError("name a FILE of claims; --template prints a form for one")
    place, ids = add_file(file, load_devices(user_devices_path()))
    if as_json:
        click.echo(to_json({"file": str(place), "claims": ids}))
    else:
        click.echo(f"added to {place}: {', '.join(ids)}")
    return 0


@command.command("check")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "everything", is_flag=True, help="Check all claims.")
@click.option(
    "--question",
    "questions",
    type=click.Choice(QUESTIONS),
    multiple=True,
    help="Of the figure on the device that it names, of a comparison on any device, of parameters "
    "and MACs; may be given several times.  [default: all three]",
)
@_filters
@registry_option
@json_option
def check(
    *,
    ids: tuple[str, ...],
    everything: bool,
    questions: tuple[str, ...],
    registry: str | None,
    as_json: bool,
    **filters: Any,
) -> int:
    """Say of claims: confirmed, refuted, inconclusive, not testable here, or unverifiable.

    Parameters and MACs are counted, what is timed is looked for among the stored records. Records
    of a fallback are never counted for a claim.

    Exit status: 0 all confirmed, 1 one is refuted, 4 not refuted but not confirmed either.
    """
    from latbench.core.verdicts import overall, restricted
    from latbench.report.claims import verdict_lines, verdicts_json

    registered = _load()
    if ids:
        claims: Sequence[Claim] = [registered.find(id) for id in ids]
    elif everything or any(filters.values()):
        claims = _chosen(registered, **filters)
    else:
        raise click.UsageError("name claims by ID, or say --model, --headline, ... or --all")
    asked = questions or QUESTIONS
    checked = _checked(claims, registered, asked, registry)
    for why in checked.unread:
        warn(f"left out: {why}")
    verdicts = [restricted(each, asked) for each in checked.verdicts]
    pairs = [pair for pair in zip(claims, verdicts, strict=True) if pair[1].answers()]
    if as_json:
        click.echo(verdicts_json(pairs))
    else:
        click.echo("\n".join(verdict_lines(pairs, registered.models)))
    bad = _told(registered)
    return bad or {"refuted": 1, "confirmed": 0}.get(overall(verdicts), 4)


def _checked(
    claims: Sequence[Claim], registered: Registered, asked: Sequence[str], registry: str | None
) -> Checked:
    from latbench.checking import check as check_claims

    if set(asked) == {"static"}:
        return check_claims(claims, registered, None, device="", timed=False)
    from latbench.devices.machine import read_machine, this_device
    from latbench.store.registry import Registry

    here = this_device(read_machine()).id
    with Registry.open(registry) as store:
        return check_claims(claims, registered, store, device=here, static="static" in asked)


def _load(files: Sequence[Path] = ()) -> Registered:
    """Shipped claims and the user's own; or the shipped ones and ``files``."""
    from latbench.claims_file import load_claims, user_claims
    from latbench.devices.catalog import load_devices, user_devices_path

    return load_claims(load_devices(user_devices_path()), files or user_claims())


def _told(registered: Registered) -> int:
    """Name the bad entries; the exit status."""
    for error in registered.errors:
        warn(f"left out: {error}")
    return 2 if registered.errors else 0


def _chosen(
    registered: Registered,
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
