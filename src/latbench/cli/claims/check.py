"""``latbench claims check``."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latbench.cli import completion
from latbench.cli.claim_options import (
    chosen_claims,
    claim_filters,
    load_registered,
    reported_results,
    status_of,
    trust_code_option,
)
from latbench.cli.interruption import interrupted_once
from latbench.cli.options import json_option, registry_option, require_one_format
from latbench.cli.streams import warn
from latbench.events import Events
from latbench.report.writers import printable

if TYPE_CHECKING:
    from latbench.audit.check import AuditResult
    from latbench.audit.library import ClaimLibrary
    from latbench.audit.measure import TrialProgress
    from latbench.claims.model import Claim
    from latbench.claims.verdict import Verdict
    from latbench.store.registry import Registry

QUESTIONS = ("static", "value", "ordering")
"""As in latbench.claims.verdict; repeated here because importing it is slow."""
TIMED = ("value", "ordering")
"""Questions that need records."""


@click.command("check")
@click.argument("ids", nargs=-1, metavar="[ID]...", shell_complete=completion.claims)
@click.option("--all", "everything", is_flag=True, help="Check all claims.")
@click.option(
    "--question",
    "questions",
    type=click.Choice(QUESTIONS),
    multiple=True,
    help="static: parameters and MACs; value: the published value on the device it names; "
    "ordering: a comparison, on any device. Repeatable.  [default: all three]",
)
@click.option(
    "--measure",
    is_flag=True,
    help="First measure the missing evidence that the device can provide.",
)
@click.option(
    "--backend",
    "backends",
    multiple=True,
    metavar="NAME",
    shell_complete=completion.backends,
    help="With --measure: backend for comparisons; repeatable.  [default: onnxruntime]",
)
@click.option(
    "--cpus",
    metavar="CPUS",
    help="With --measure: CPUs of the device to run on: big, mid, little, 0xf0 or 4-7.",
)
@click.option(
    "--format", type=click.Choice(("text", "markdown")), default="text", show_default=True
)
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file."
)
@trust_code_option
@claim_filters
@registry_option
@json_option
def command(
    *,
    ids: tuple[str, ...],
    everything: bool,
    questions: tuple[str, ...],
    measure: bool,
    backends: tuple[str, ...],
    cpus: str | None,
    format: str,
    output: Path | None,
    trust_code: bool,
    registry: str | None,
    as_json: bool,
    **filters: Any,
) -> int:
    """Check claims: confirmed, refuted, inconclusive, not testable here, or unverifiable.

    A comparison on another device or under other conditions than the claim's neither confirms nor
    refutes it: it holds here, or does not hold here.

    Parameters and MACs are counted; latencies come from stored records. Records of a fallback
    backend never count as evidence, nor do results that other tools report, which are listed beside
    the verdict. Verdicts are stored with the records that they rest on:
    `latbench claims history ID`.

    With --measure, --device may name one of your own devices (`latbench devices`): what is missing
    is then measured there, and all claims that the other options choose are checked.

    Exit status: 0 all confirmed, 1 one is refuted, 2 unknown names or an invalid file of claims
    (its valid claims are checked), 3 measuring was interrupted, 4 not refuted but not confirmed
    either.
    """
    from latbench.audit.check import reported_beside
    from latbench.claims.judge import restricted, worst_answer
    from latbench.devices.connections import find_connection
    from latbench.files import write_beside
    from latbench.report.text.verdict import verdict_lines, verdicts_json, verdicts_markdown

    asked: tuple[str, ...] = questions or QUESTIONS
    place = find_connection(filters["device"]) if filters["device"] else None
    if place is not None:
        # One of the user's devices is where to measure; any other one is what claims are about.
        filters["device"] = None
        if not measure:
            raise click.UsageError(
                f"--device {place.id} requires --measure: records of every device are evidence"
            )
    several = everything or any(filters.values())
    if ids and several:
        raise click.UsageError("give claim IDs or filters (--all, --model, ...), not both")
    if not ids and not several:
        raise click.UsageError(
            "no claims selected: give IDs, filters (--model, --headline, ...) or --all"
        )
    if backends and not measure:
        raise click.UsageError("--backend requires --measure")
    if cpus is not None and not measure:
        raise click.UsageError("--cpus requires --measure")
    if measure and not set(TIMED) & set(asked):
        raise click.UsageError(
            "--measure requires --question value or ordering: sizes are counted, not measured"
        )
    require_one_format(format, as_json=as_json)
    registered = load_registered(trust_code=trust_code)
    claims: Sequence[Claim] = [registered.find(id) for id in dict.fromkeys(ids)]
    if several:
        claims = chosen_claims(registered, **filters)
    whole = (
        _measure(claims, registered, backends, place.id if place else "", cpus, registry)
        if measure
        else True
    )
    if not whole:
        # Counting takes a minute, and whoever interrupts wants the end now.
        asked = tuple(question for question in asked if question in TIMED)
    checked = _checked(claims, registered, asked, registry)
    for why in checked.unread:
        warn(f"left out: {why}")
    verdicts = [restricted(each, asked) for each in checked.verdicts]
    pairs = [pair for pair in zip(claims, verdicts, strict=True) if pair[1].answers()]
    results = reported_results(registry) if set(TIMED) & set(asked) else ()
    beside = {claim.id: reported_beside(claim, registered, results) for claim, _ in pairs}
    if as_json:
        text = verdicts_json(pairs, beside)
    elif format == "markdown":
        page = verdicts_markdown(
            pairs,
            registered.models,
            device=checked.device,
            made_by=_command_line(),
            reported=beside,
        )
        text = "\n".join(page)
    else:
        lines = verdict_lines(pairs, registered.models, beside)
        if ids:
            lines += _how_to_measure(pairs, checked.device)
        text = "\n".join(map(printable, lines))
    if output is None:
        click.echo(text)
    else:
        write_beside(output, lambda path: path.write_text(text + "\n"))
    if set(asked) == set(QUESTIONS):
        # Only complete verdicts: a partial one would look like a change.
        _store_verdicts(claims, checked, registry)
    bad = status_of(registered)
    return bad or (
        3 if not whole else {"refuted": 1, "confirmed": 0}.get(worst_answer(verdicts), 4)
    )


def _how_to_measure(pairs: Sequence[tuple[Claim, Verdict]], here: str) -> list[str]:
    """What it takes to measure the published values that are not decided, on their devices."""
    from latbench.claims.verdict import CONCLUSIVE
    from latbench.devices.catalog import load_devices, user_devices_path
    from latbench.devices.connections import load_connections
    from latbench.report.text.verdict import needed_commands

    lines: list[str] = []
    rows = {each.id: each for each in load_devices(user_devices_path())}
    for claim, verdict in pairs:
        device = claim.conditions.device
        if verdict.value is None or verdict.value.answer in CONCLUSIVE or device == here:
            continue
        own = [each.id for each in load_connections() if each.same_as == device]
        lines += needed_commands(claim, rows.get(device or ""), own)
    return lines


def _command_line() -> str:
    """The command line, for a page that states how it was created."""
    from latbench.file_names import shell_command
    from latbench.store.engine import without_credentials

    return shell_command(["latbench", *map(without_credentials, sys.argv[1:])])


def _checked(
    claims: Sequence[Claim], registered: ClaimLibrary, asked: Sequence[str], registry: str | None
) -> AuditResult:
    from latbench.audit.check import check as check_claims

    if set(asked) == {"static"}:
        return check_claims(claims, registered, None, device="", timed=False)
    from latbench.devices.local import LocalDevice

    here = LocalDevice().row.id
    with _to_read(registry) as store:
        return check_claims(claims, registered, store, device=here, static="static" in asked)


def _to_read(registry: str | None) -> Registry:
    """Open the registry, also a read-only one: checking only reads records."""
    from latbench.errors import RegistryError
    from latbench.store.registry import Registry

    try:
        return Registry.open(registry)
    except RegistryError:
        with suppress(RegistryError):
            return Registry.open(registry, create=False)
        raise


def _store_verdicts(claims: Sequence[Claim], checked: AuditResult, registry: str | None) -> None:
    """Store the verdicts; warn if they cannot be stored."""
    from latbench.audit.check import stored_verdicts
    from latbench.errors import LatbenchError
    from latbench.store.registry import Registry

    try:
        with Registry.open(registry) as store:
            store.add_verdicts(stored_verdicts(claims, checked, store, at_unix_ns=time.time_ns()))
    except LatbenchError as error:
        warn(f"the verdicts could not be stored: {error.message}")


def _measure(
    claims: Sequence[Claim],
    registered: ClaimLibrary,
    backends: tuple[str, ...],
    device_name: str,
    cpus: str | None,
    registry: str | None,
) -> bool:
    """Measure what is not decided yet; return whether all was tried. An interruption keeps the
    records measured so far."""
    from latbench.audit.check import check as check_claims
    from latbench.audit.measure import carry_out, trials
    from latbench.defaults import FALLBACK
    from latbench.devices.opening import Devices
    from latbench.plugins import load_runner
    from latbench.store.registry import Registry

    for name in backends:
        load_runner(name)
    with Devices() as devices:
        device = devices.open(device_name)
        with Registry.open(registry) as store:
            here = device.row.hardware
            now = check_claims(claims, registered, store, device=here, static=False).verdicts
        wanted = trials(
            claims,
            registered,
            {verdict.claim: verdict for verdict in now},
            device=device,
            backends=backends or (FALLBACK,),
            cpus=cpus,
        )
        place = device_name or "this machine"
        warn(
            f"{len(wanted)} measurements to do" if wanted else f"nothing left to measure on {place}"
        )
        with interrupted_once() as interrupted:
            whole = carry_out(
                wanted,
                device,
                registry=registry,
                events=Events(warn=warn, step=_print_progress),
                interrupted=interrupted,
            )
    if not whole:
        warn("interrupted: repeat the command to resume")
    return whole


def _print_progress(tried: TrialProgress) -> None:
    status = ", ".join(dict.fromkeys(record.outcome.status for record in tried.records))
    left = f", about {tried.left_s / 60:.0f} min left" if tried.left_s else ""
    warn(f"{tried.done} of {tried.trials}: {tried.trial.name}: {status}{left}")
