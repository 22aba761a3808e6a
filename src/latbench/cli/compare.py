"""``latbench compare``: two models, backends or settings, interleaved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from latbench.cli import completion
from latbench.cli.help_sections import Command
from latbench.cli.interruption import interrupted_once
from latbench.cli.measurement_options import (
    backend_options,
    protocol_options,
    resolved_protocol,
    rest_options,
    timeout_option,
)
from latbench.cli.model_options import model_options
from latbench.cli.options import json_option, registry_option, verbose_option
from latbench.cli.terminal import echo_result, live_events
from latbench.defaults import COMPARE_PROTOCOL, MARGIN

if TYPE_CHECKING:
    from latbench.analysis.comparison import Comparison
    from latbench.schema.record import Record


@click.command("compare", cls=Command)
@click.argument("a", metavar="A", shell_complete=completion.models)
@click.argument("b", metavar="B", shell_complete=completion.models)
@click.option("--records", is_flag=True, help="A and B are IDs of stored records.")
@click.option(
    "--margin",
    type=float,
    default=100 * MARGIN,
    show_default=True,
    metavar="PERCENT",
    help="Largest difference at which two latencies count as the same.",
)
@click.option(
    "--quantity",
    type=click.Choice(("typical", "best-case")),
    default="typical",
    show_default=True,
    help="Latency that decides the verdict: median or 10th percentile; the other is shown too.",
)
@click.option(
    "--fail-if",
    type=click.Choice(("slower", "faster", "different", "inconclusive")),
    multiple=True,
    help="Exit with status 1 on this verdict; repeatable.",
)
@click.option(
    "--order-seed",
    type=click.IntRange(min=0),
    metavar="N",
    default=0,
    show_default=True,
    help="Seed for the order of A and B in each round.",
)
@model_options(required=False)
@backend_options()
@protocol_options(default=COMPARE_PROTOCOL)
@rest_options
@timeout_option
@registry_option
@verbose_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    *,
    a: str,
    b: str,
    records: bool,
    margin: float,
    quantity: Any,
    fail_if: tuple[str, ...],
    order_seed: int,
    protocol: str,
    budget_s: float | None,
    target: float | None,
    processes: int | None,
    warmup_calls: int | None,
    calls: int | None,
    block_calls: int | None,
    cooldown_s: float,
    max_temperature_c: float | None,
    max_thermal_status: str | None,
    no_cache: bool,
    timeout_s: float,
    registry: str | None,
    verbose: bool,
    as_json: bool,
    **common: Any,
) -> None:
    """Time A and B interleaved: is B faster, slower, or the same?

    A and B are each [MODEL][,KEY=VALUE]…: a model and what differs from the options given. Keys:
    model, backend, threads, cpus, batch, resolution, precision, weights, weights_key, seed, and the
    backend's options. Examples:

    \b
    latbench compare mobilevig_ti timm:mobilenetv2_140 --threads 1
    latbench compare threads=1 threads=2 --model mobilevig_ti
    latbench compare old.onnx new.onnx --fail-if slower

    Exit status: 0 a verdict, 1 a verdict named by --fail-if, 2 invalid request, 3 could not
    measure, 4 inconclusive.
    """
    from latbench.analysis.summary import summarize
    from latbench.report.json import to_json
    from latbench.report.text.comparison import comparison_lines, detail_lines, side
    from latbench.store.registry import Registry

    if records:
        one, two, comparison, where = _stored(a, b, margin / 100, quantity, registry)
    else:
        from latbench.bench.compare import compare
        from latbench.schema.request_syntax import side_request

        requests = [side_request(each, protocol=protocol, **_plain(common)) for each in (a, b)]
        resolved = resolved_protocol(
            protocol,
            budget_s=budget_s,
            target=target,
            processes=processes,
            warmup_calls=warmup_calls,
            calls=calls,
            block_calls=block_calls,
        )
        with interrupted_once(), live_events(resolved) as events:
            done = compare(
                *requests,
                protocol=resolved,
                margin=margin / 100,
                quantity=quantity,
                order_seed=order_seed,
                cooldown_s=cooldown_s,
                max_temperature_c=max_temperature_c,
                max_thermal_status=max_thermal_status,
                no_cache=no_cache,
                timeout_s=timeout_s,
                registry=registry,
                events=events,
            )
        one, two, comparison, where = done.a, done.b, done.comparison, done.registry
    sides = side(one, summarize(one)), side(two, summarize(two))
    if as_json:
        found = {"comparison": comparison, "a": one.id, "b": two.id, "sides": sides}
        click.echo(to_json(found))
    else:
        with Registry.open(registry, create=False) as store:
            short = store.short_ids((one.id, two.id))
        lines = comparison_lines(*sides, comparison, short)
        echo_result([*lines, *(detail_lines(one, comparison, where) if verbose else [])])
    ctx.exit(_status(one, two, comparison, fail_if))


def _stored(
    a: str, b: str, margin: float, quantity: Any, registry: str | None
) -> tuple[Record, Record, Comparison, str]:
    from latbench.bench.compare import compare_records
    from latbench.store.registry import Registry

    with Registry.open(registry, create=False) as store:
        one, two = store.get(a), store.get(b)
        comparison = compare_records(one, two, margin=margin, quantity=quantity)
        return one, two, comparison, store.url


def _plain(common: dict[str, Any]) -> dict[str, Any]:
    """Options as click gives them, as :func:`latbench.schema.request.make_request` takes them."""
    pairs = ("options", "dims", "arguments")
    return {**common, **{name: dict(common[name]) for name in pairs}}


def _status(a: Record, b: Record, comparison: Comparison, fail_if: tuple[str, ...]) -> int:
    verdict = comparison.verdict
    if verdict in fail_if or ("different" in fail_if and verdict in ("faster", "slower")):
        return 1
    if a.outcome.status != "measured" or b.outcome.status != "measured":
        return 3
    return 4 if verdict == "inconclusive" else 0
