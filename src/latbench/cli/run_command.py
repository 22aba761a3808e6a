"""``latbench run``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from latbench.cli.options import (
    backend_options,
    interrupted_once,
    json_option,
    model_options,
    progress_bar,
    protocol_options,
    registry_option,
    resolved_protocol,
    running_options,
    warn,
)

if TYPE_CHECKING:
    from latbench.pipeline import Result


@click.command("run")
@model_options()
@backend_options
@protocol_options(default="latbench-warm@1")
@click.option(
    "--require-precision",
    is_flag=True,
    help="Exit with 4 where the protocol's target precision is not reached.",
)
@running_options
@registry_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    *,
    model: str,
    weights: str | None,
    batch: int | None,
    resolution: tuple[int, int] | None,
    dims: tuple[tuple[str, int], ...],
    precision: str,
    seed: int,
    fresh: bool,
    backend: str,
    device: str,
    threads: int | None,
    options: tuple[tuple[str, str], ...],
    protocol: str,
    budget_s: float | None,
    target: float | None,
    processes: int | None,
    warmup_calls: int | None,
    calls: int | None,
    block_calls: int | None,
    require_precision: bool,
    strict: bool,
    deadline_s: float,
    registry: str | None,
    as_json: bool,
) -> None:
    """Measure a model and store the record."""
    from latbench.pipeline import run

    resolved = resolved_protocol(
        protocol,
        budget_s=budget_s,
        target=target,
        processes=processes,
        warmup_calls=warmup_calls,
        calls=calls,
        block_calls=block_calls,
    )
    if require_precision and resolved.target_ppm is None:
        raise click.UsageError(f"{resolved.label} aims at no precision; give one with --target")
    with interrupted_once(), progress_bar() as progress:
        result = run(
            model,
            backend=backend,
            device=device,
            weights=weights,
            batch=batch,
            resolution=resolution,
            precision=precision,
            threads=threads,
            seed=seed,
            options=dict(options),
            dims=dict(dims),
            protocol=resolved,
            strict=strict,
            fresh=fresh,
            deadline_s=deadline_s,
            registry=registry,
            progress=progress,
            warn=warn,
        )
    _print(result, as_json)
    if result.record.outcome.status != "measured":
        ctx.exit(3)
    reached = result.summary is not None and result.summary.reached
    ctx.exit(4 if require_precision and not reached else 0)


def _print(result: Result, as_json: bool) -> None:
    if as_json:
        from latbench.report.json import record_json

        click.echo(record_json(result.record, result.summary))
        return
    from latbench.report.text import record_lines

    for line in record_lines(result.record, result.summary, result.registry):
        click.echo(line)
