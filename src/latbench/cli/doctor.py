"""``latbench doctor``."""

from __future__ import annotations

import math

import click

from latbench.cli.options import json_option, registry_option
from latbench.cli.terminal import echo_result, live_events

LONGEST_NOISE_S = 3600.0


@click.command("doctor")
@click.option(
    "--noise",
    "noise_s",
    type=float,
    is_flag=False,
    flag_value=20.0,
    metavar="[SECONDS]",
    help="Measure instead, for 20 s or SECONDS, how steady this machine is: what disturbs "
    "latencies, what to do about it, and the smallest difference that a comparison can find.",
)
@registry_option
@json_option
@click.pass_context
def command(
    ctx: click.Context, /, *, noise_s: float | None, registry: str | None, as_json: bool
) -> None:
    """Check what works on this machine, what does not, and what to install.

    Exit status 3 if not even ONNX Runtime on the CPU works.
    """
    if noise_s is not None:
        _show_noise(noise_s, as_json=as_json)
        return
    from latbench.doctor import examine
    from latbench.report.json import to_json

    findings = examine(registry)
    if as_json:
        click.echo(to_json(findings))
    else:
        for finding in findings:
            mark = {True: "ok  ", False: "no  ", None: "note"}[finding.works]
            click.echo(f"{mark}  {finding.subject}: {finding.message}")
            if finding.hint:
                click.echo(f"      hint: {finding.hint}")
    broken = any(finding.works is False and finding.needed for finding in findings)
    ctx.exit(3 if broken else 0)


def _show_noise(seconds: float, *, as_json: bool) -> None:
    from latbench.doctor import examine_noise
    from latbench.report.json import to_json
    from latbench.report.text.noise import noise_lines

    if not (math.isfinite(seconds) and 0 < seconds <= LONGEST_NOISE_S):
        raise click.UsageError(
            f"--noise takes a number of seconds above 0, at most {LONGEST_NOISE_S:g}, "
            f"not {seconds:g}"
        )
    with live_events() as events:
        report = examine_noise(
            seconds, lambda left: events.waiting(f"measuring noise, {math.ceil(left)} s left")
        )
    if as_json:
        click.echo(to_json(report))
    else:
        echo_result(noise_lines(report))
