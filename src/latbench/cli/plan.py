"""``latbench plan``: what a target precision takes."""

from __future__ import annotations

from typing import Any

import click

from latbench.cli.help_sections import Command
from latbench.cli.interruption import interrupted_once
from latbench.cli.measurement_options import (
    backend_options,
    rest_options,
    strict_option,
    timeout_option,
)
from latbench.cli.model_options import model_options
from latbench.cli.options import json_option, registry_option
from latbench.cli.terminal import echo_result, live_events


@click.command("plan", cls=Command)
@model_options(positional=True)
@backend_options()
@click.option(
    "--target",
    type=float,
    default=1.0,
    show_default=True,
    metavar="PERCENT",
    help="Target half-width of the 95% confidence interval.",
)
@click.option(
    "--effect",
    type=float,
    default=3.0,
    show_default=True,
    metavar="PERCENT",
    help="Smallest change that a comparison should detect.",
)
@click.option(
    "--builds",
    type=click.IntRange(min=1),
    metavar="N",
    default=1,
    show_default=True,
    help="Number of exports, to see whether builds differ.",
)
@rest_options
@strict_option
@timeout_option
@registry_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    *,
    target: float,
    effect: float,
    builds: int,
    cooldown_s: float,
    max_temperature_c: float | None,
    max_thermal_status: str | None,
    strict: bool,
    no_cache: bool,
    timeout_s: float,
    registry: str | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Estimate from a short pilot run how long a target precision takes.

    Also shows where the variance comes from, and what an interleaved comparison takes to find a
    change of a given size. The pilot's records are stored like any other.
    """
    from latbench.analysis.summary import summarize
    from latbench.bench.plan import make_plan
    from latbench.report.json import to_json
    from latbench.report.text.answer import head_lines, title
    from latbench.report.text.layout import labeled
    from latbench.report.text.plan import plan_lines
    from latbench.schema.request import make_request

    pairs = ("options", "dims", "arguments")
    request = {**given, **{name: dict(given[name]) for name in pairs}}
    with interrupted_once(), live_events() as events:
        planned = make_plan(
            make_request(**request),
            builds=builds,
            target=target / 100,
            effect=effect / 100,
            cooldown_s=cooldown_s,
            max_temperature_c=max_temperature_c,
            max_thermal_status=max_thermal_status,
            strict=strict,
            no_cache=no_cache,
            timeout_s=timeout_s,
            registry=registry,
            events=events,
        )
    last = planned.pilots[-1]
    if as_json:
        click.echo(
            to_json({"plan": planned.plan, "pilots": [record.id for record in planned.pilots]})
        )
    else:
        if planned.plan is not None:
            lines = plan_lines(planned.plan, title(last))
        elif last.outcome.status != "measured":
            lines = head_lines(last, summarize(last))
        else:
            lines = [
                "INCONCLUSIVE: the pilot gave too few samples to plan from",
                labeled("measured", title(last)),
            ]
        echo_result(lines)
    measured = last.outcome.status == "measured"
    ctx.exit(0 if planned.plan is not None else 4 if measured else 3)
