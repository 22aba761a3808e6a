"""``latbench doctor``."""

from __future__ import annotations

import click

from latbench.cli.options import json_option, registry_option


@click.command("doctor")
@registry_option
@json_option
@click.pass_context
def command(ctx: click.Context, /, *, registry: str | None, as_json: bool) -> None:
    """Check what works on this machine, what does not, and what to install.

    Exit status 3 if not even ONNX Runtime on the CPU works.
    """
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
