"""``latbench claims``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from latbench.cli import completion
from latbench.cli.claim_options import (
    chosen_claims,
    claim_filters,
    load_registered,
    reported_results,
    status_of,
)
from latbench.cli.claims.check import command as check
from latbench.cli.explain import command as explain
from latbench.cli.options import json_option, registry_option
from latbench.cli.streams import warn
from latbench.cli.terminal import echo_lines, list_width
from latbench.report.writers import printable


@click.group("claims")
def command() -> None:
    """Published latency claims: what they state, under which conditions, and whether they hold.

    The shipped claims are in claims.yaml. Add your own with `claims add`, or name a file or folder
    in LATBENCH_CLAIMS. Each subcommand takes --json.

    Invalid entries are reported and skipped; the exit status is then 2.
    """


@command.command("list")
@claim_filters
@json_option
def list_(*, as_json: bool, **filters: Any) -> int:
    """List claims, with the number of known conditions."""
    from latbench.report.text.claim import claims_json, list_lines

    registered = load_registered()
    claims = chosen_claims(registered, **filters)
    if as_json:
        click.echo(claims_json(claims))
    else:
        lines = list_lines(claims, registered.models, registered.sources, list_width())
        echo_lines(lines)
    return status_of(registered)


@command.command("show")
@click.argument("id", shell_complete=completion.claims)
@registry_option
@json_option
def show(*, id: str, registry: str | None, as_json: bool) -> int:
    """Show one claim with its source, quote and conditions.

    Results of other tools for its models are listed below it; they decide nothing.
    """
    from latbench.audit.check import reported_beside
    from latbench.report.text.claim import claims_json, show_lines
    from latbench.report.text.reported import lines_beside

    registered = load_registered()
    claim = registered.find(id)
    if as_json:
        click.echo(claims_json([claim]))
    else:
        lines = show_lines(claim, registered.models, registered.sources)
        beside = reported_beside(claim, registered, reported_results(registry))
        echo_lines([*lines, *(f"  {line}" for line in lines_beside(beside))])
    return status_of(registered)


@command.command("validate")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@json_option
def validate(*, files: tuple[Path, ...], as_json: bool) -> int:
    """Validate FILES; without FILES, the shipped claims and your own."""
    from latbench.report.json import to_json

    registered = load_registered(files)
    if as_json:
        click.echo(to_json({"claims": len(registered.claims), "errors": registered.errors}))
    else:
        click.echo(f"{len(registered.claims)} valid claims, {len(registered.errors)} errors")
    return status_of(registered)


@command.command("add")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--template", is_flag=True, help="Print a template to fill in.")
@click.option("--trust-code", is_flag=True, help="Accept a file that names code (module:factory).")
@json_option
def add(*, file: Path | None, template: bool, trust_code: bool, as_json: bool) -> int:
    """Validate FILE and, if it is valid, copy it to your own claims."""
    from importlib.resources import files

    from latbench.audit.library import add_file
    from latbench.devices.catalog import load_devices, user_devices_path
    from latbench.report.json import to_json

    if template:
        form = files("latbench.data").joinpath("claim_template.yaml").read_text()
        click.echo(form, nl=False)
        return 0
    if file is None:
        raise click.UsageError(
            "no FILE given: name a file of claims, or print a template with --template"
        )
    place, ids = add_file(file, load_devices(user_devices_path()), trust_code=trust_code)
    if as_json:
        click.echo(to_json({"file": str(place), "claims": ids}))
    else:
        click.echo(f"added to {place}: {', '.join(ids)}")
    return 0


@command.command("history")
@click.argument("id", shell_complete=completion.claims)
@registry_option
@json_option
def history(*, id: str, registry: str | None, as_json: bool) -> None:
    """Show the stored verdicts on one claim: when, by which version, from which records."""
    from latbench.errors import UsageError
    from latbench.report.json import to_json
    from latbench.report.text.verdict import history_lines
    from latbench.store.registry import Registry

    with Registry.open(registry, create=False) as store:
        (found, unread), where = store.verdicts_on(id), store.url
    for why in unread:
        warn(why)
    if not found:
        raise UsageError(
            f"no verdict on {id!r} is stored in {where}", hint=f"latbench claims check {id}"
        )
    click.echo(to_json(found) if as_json else "\n".join(map(printable, history_lines(found))))


command.add_command(check)
command.add_command(explain)
