"""``latbench claims check``."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latbench.cli.claim_options import (
    chosen_claims,
    claim_filters,
    load_registered,
    status_of,
)
from latbench.cli.options import (
    interrupted_once,
    json_option,
    registry_option,
    require_one_format,
    warn,
)
from latbench.events import Events

if TYPE_CHECKING:
    from latbench.audit.check import AuditResult
    from latbench.audit.library import ClaimLibrary
    from latbench.audit.measure import TrialProgress
    from latbench.claims.model import Claim
    from latbench.store.registry import Registry

QUESTIONS = ("static", "value", "ordering")
"""As latbench.claims.verdict has them; see ``claims_options``."""
TIMED = ("value", "ordering")
"""Those that records answer."""


@click.command("check")
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
@click.option(
    "--measure",
    is_flag=True,
    help="Before that, measure what answers lack and this machine can tell.",
)
@click.option(
    "--backend",
    "backends",
    multiple=True,
    metavar="NAME",
    help="With --measure: where to time comparisons; may be given several times.  "
    "[default: onnxruntime]",
)
@click.option(
    "--format", type=click.Choice(("text", "markdown")), default="text", show_default=True
)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write a file.")
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
    format: str,
    output: Path | None,
    registry: str | None,
    as_json: bool,
    **filters: Any,
) -> int:
    """Say of claims: confirmed, refuted, inconclusive, not testable here, or unverifiable.

    Parameters and MACs are counted, what is timed is looked for among the stored records. Records
    of a fallback are never counted for a claim. What is said is stored, with the records that it
    rests on: `latbench claims history ID`.

    Exit status: 0 all confirmed, 1 one is refuted, 2 wrong names or a bad file of claims (its other
    claims are checked all the same), 3 measuring was interrupted, 4 not refuted but not confirmed
    either.
    """
    from latbench.claims.judge import restricted, worst_answer
    from latbench.files import write_beside
    from latbench.report.text.verdict import verdict_lines, verdicts_json, verdicts_markdown

    asked = questions or QUESTIONS
    several = everything or any(filters.values())
    if ids and several:
        raise click.UsageError("name claims by ID, or choose by --all, --model, ...: not both")
    if not ids and not several:
        raise click.UsageError("name claims by ID, or say --model, --headline, ... or --all")
    if backends and not measure:
        raise click.UsageError("--backend is of --measure")
    if measure and not set(TIMED) & set(asked):
        raise click.UsageError("--measure is of --question value or ordering: sizes are counted")
    require_one_format(format, as_json=as_json)
    registered = load_registered()
    claims: Sequence[Claim] = [registered.find(id) for id in dict.fromkeys(ids)]
    if several:
        claims = chosen_claims(registered, **filters)
    whole = _measure(claims, registered, backends, registry) if measure else True
    checked = _checked(claims, registered, asked, registry)
    for why in checked.unread:
        warn(f"left out: {why}")
    verdicts = [restricted(each, asked) for each in checked.verdicts]
    pairs = [pair for pair in zip(claims, verdicts, strict=True) if pair[1].answers()]
    if as_json:
        text = verdicts_json(pairs)
    elif format == "markdown":
        page = verdicts_markdown(pairs, registered.models, device=checked.device, made_by=_said())
        text = "\n".join(page)
    else:
        text = "\n".join(verdict_lines(pairs, registered.models))
    if output is None:
        click.echo(text)
    else:
        write_beside(output, lambda path: path.write_text(text + "\n"))
    if set(asked) == set(QUESTIONS):
        # Only a whole verdict: a part of one would look like a change.
        _keep(claims, checked, registry)
    bad = status_of(registered)
    return bad or (
        3 if not whole else {"refuted": 1, "confirmed": 0}.get(worst_answer(verdicts), 4)
    )


def _said() -> str:
    """The command as it was given, for a page that says how it was made."""
    return shlex.join(["latbench", *sys.argv[1:]])


def _checked(
    claims: Sequence[Claim], registered: ClaimLibrary, asked: Sequence[str], registry: str | None
) -> AuditResult:
    from latbench.audit.check import check as check_claims

    if set(asked) == {"static"}:
        return check_claims(claims, registered, None, device="", timed=False)
    from latbench.host.info import read_machine, this_device

    here = this_device(read_machine()).id
    with _to_read(registry) as store:
        return check_claims(claims, registered, store, device=here, static="static" in asked)


def _to_read(registry: str | None) -> Registry:
    """The registry, also one that nothing can be written to: answers need its records alone."""
    from latbench.errors import RegistryError
    from latbench.store.registry import Registry

    try:
        return Registry.open(registry)
    except RegistryError:
        with suppress(RegistryError):
            return Registry.open(registry, create=False)
        raise


def _keep(claims: Sequence[Claim], checked: AuditResult, registry: str | None) -> None:
    """Store what was said; where that cannot be done, it has been said all the same."""
    from latbench.audit.check import stored_verdicts
    from latbench.errors import LatbenchError
    from latbench.store.registry import Registry

    try:
        with Registry.open(registry) as store:
            store.add_verdicts(stored_verdicts(claims, checked, store, at_unix_ns=time.time_ns()))
    except LatbenchError as error:
        warn(f"these verdicts are not stored: {error.message}")


def _measure(
    claims: Sequence[Claim],
    registered: ClaimLibrary,
    backends: tuple[str, ...],
    registry: str | None,
) -> bool:
    """Records of what is not decided yet; whether all were tried. An interruption keeps those that
    there are by then."""
    from latbench.audit.check import check as check_claims
    from latbench.audit.measure import carry_out, trials
    from latbench.defaults import FALLBACK
    from latbench.host.info import read_machine, this_device, usable_cpus
    from latbench.plugins import load_runner
    from latbench.store.registry import Registry

    for name in backends:
        load_runner(name)
    here = this_device(read_machine()).id
    with Registry.open(registry) as store:
        now = check_claims(claims, registered, store, device=here, static=False).verdicts
    wanted = trials(
        claims,
        registered,
        {verdict.claim: verdict for verdict in now},
        device=here,
        cpus=usable_cpus(),
        backends=backends or (FALLBACK,),
    )
    warn(f"{len(wanted)} to measure" if wanted else "nothing is left that could be measured here")
    with interrupted_once() as interrupted:
        whole = carry_out(
            wanted,
            registry=registry,
            events=Events(warn=warn, step=_tell),
            interrupted=interrupted,
        )
    if not whole:
        warn("interrupted: the same command goes on with what is left")
    return whole


def _tell(tried: TrialProgress) -> None:
    status = ", ".join(dict.fromkeys(record.outcome.status for record in tried.records))
    left = f", about {tried.left_s / 60:.0f} min left" if tried.left_s else ""
    warn(f"{tried.done} of {tried.trials}: {tried.trial.name}: {status}{left}")
