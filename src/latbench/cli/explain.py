"""``latbench claims explain``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from latbench.cli import completion
from latbench.cli.claim_options import load_registered, trust_code_option
from latbench.cli.interruption import interrupted_once
from latbench.cli.measurement_options import timeout_option
from latbench.cli.options import json_option, registry_option
from latbench.cli.streams import warn
from latbench.cli.terminal import echo_lines, list_width
from latbench.defaults import LOCAL
from latbench.events import Events

if TYPE_CHECKING:
    from latbench.attribution.subject import Side

OF_MEASURING = {
    **{"rounds": "--rounds", "budget_s": "--budget", "order_seed": "--order-seed"},
    "device": "--device",
}
"""Parameters that require ``--measure``."""


@click.command("explain")
@click.argument("a", metavar="ID", shell_complete=completion.records_or_claims)
@click.option(
    "--against",
    required=True,
    metavar="RECORD",
    shell_complete=completion.record_ids,
    help="The record to compare with.",
)
@click.option(
    "--measure/--no-measure",
    default=True,
    show_default=True,
    help="Measure the factors that can be switched here, or only read stored records.",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    metavar="N",
    default=3,
    show_default=True,
    help="Measurements of each configuration; a confidence interval needs three.",
)
@click.option(
    "--budget",
    "budget_s",
    type=float,
    default=15.0,
    show_default=True,
    metavar="SECONDS",
    help="Time budget of each measurement.",
)
@click.option(
    "--order-seed",
    type=click.IntRange(min=0),
    metavar="N",
    default=0,
    show_default=True,
    help="Seed of the order of the configurations in each round.",
)
@click.option(
    "--device",
    default=LOCAL,
    show_default=True,
    metavar="ID",
    help="Device of yours to measure on.",
    shell_complete=completion.devices,
)
@timeout_option
@trust_code_option
@registry_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    *,
    a: str,
    against: str,
    measure: bool,
    rounds: int,
    budget_s: float,
    order_seed: int,
    device: str,
    timeout_s: float,
    trust_code: bool,
    registry: str | None,
    as_json: bool,
) -> int:
    """Break the ratio of two latencies of one model down into contributions of its factors.

    ID is a claim or a record (A), RECORD a record (B). Factors that can be switched on the machine
    that was measured, this one or --device, are measured, and each measurement is stored as a
    record; the others are reported from stored facts.

    Exit status: 0 success, 2 the two cannot be compared, 3 could not measure.
    """
    from latbench.bench.explain import explain
    from latbench.errors import UsageError
    from latbench.report.json import to_json
    from latbench.report.text.attribution import account_lines

    default = click.core.ParameterSource.DEFAULT
    given = [
        flag for name, flag in OF_MEASURING.items() if ctx.get_parameter_source(name) is not default
    ]
    if given and not measure:
        raise UsageError(f"{', '.join(given)} cannot be combined with --no-measure")
    one, two, where = _sides(a, against, registry, trust_code=trust_code)
    with interrupted_once():
        found = explain(
            one,
            two,
            measure=measure,
            rounds=rounds,
            budget_s=budget_s,
            order_seed=order_seed,
            timeout_s=timeout_s,
            device=device,
            registry=registry,
            events=Events(warn=warn, step=lambda message: click.echo(message, err=True)),
        )
    if as_json:
        click.echo(to_json(found))
    else:
        echo_lines(account_lines(found, where, list_width()))
    return 0


def _sides(a: str, b: str, registry: str | None, *, trust_code: bool) -> tuple[Side, Side, str]:
    """Both sides; a claim takes precedence over a record of the same id."""
    from latbench.attribution.subject import side_of, side_of_claim
    from latbench.errors import UsageError
    from latbench.store.registry import Registry

    registered = load_registered(trust_code=trust_code)
    claim = next((each for each in registered.claims if each.id == a), None)
    with Registry.open(registry, create=False) as store:
        against = side_of(store.get(b))
        if claim is not None:
            model = registered.models[claim.model]
            return side_of_claim(claim, model, against), against, store.url
        try:
            record = store.get(a)
        except UsageError as error:
            raise UsageError(
                f"{error.message}, and no claim has this id", hint=error.hint
            ) from None
        return side_of(record), against, store.url
