"""``latbench bundle``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from latbench.cli import completion
from latbench.cli.claim_options import load_registered, trust_code_option
from latbench.cli.options import json_option, registry_option
from latbench.cli.streams import warn
from latbench.cli.terminal import echo_lines
from latbench.report.writers import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latbench.bundle.archive import BundleError
    from latbench.bundle.evidence import Evidence, OpenedBundle

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
key_option = click.option(
    "--key",
    type=FILE,
    metavar="FILE",
    help="Shared key of at least 16 bytes that signs the bundle or checks its signature.",
)


@click.group("bundle")
def command() -> None:
    """Evidence in one file: records, claims, and the verdicts on them.

    Whoever opens one computes the verdicts again from the raw samples. Nothing in a bundle is
    executed or written to disk. Each subcommand but `card` takes --json.

    Exit status: 0 success, 1 the bundle does not verify, 2 invalid request.
    """


@command.command("create")
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("ids", nargs=-1, metavar="[RECORD_ID]...", shell_complete=completion.record_ids)
@click.option(
    "--sweep", metavar="ID", shell_complete=completion.sweeps, help="All records of this sweep."
)
@click.option(
    "--claim",
    "claims",
    multiple=True,
    metavar="ID",
    shell_complete=completion.claims,
    help="A claim to include; repeatable.",
)
@trust_code_option
@key_option
@registry_option
@json_option
def create(
    *,
    out: Path,
    ids: tuple[str, ...],
    sweep: str | None,
    claims: tuple[str, ...],
    trust_code: bool,
    key: Path | None,
    registry: str | None,
    as_json: bool,
) -> int:
    """Write records to the new file OUT, with the verdicts that follow from them.

    With --claim and no record ids, the bundle holds the records that the verdicts rest on.
    """
    from latbench.bundle.evidence import pack_evidence
    from latbench.errors import UsageError
    from latbench.files import write_beside

    if not (ids or sweep or claims):
        raise click.UsageError("name records, --sweep or --claim")
    if out.exists():
        raise UsageError(
            f"file {out} exists already", hint="name a new file; evidence is never overwritten"
        )
    evidence = _gathered(ids, sweep, claims, registry, trust_code=trust_code)
    packed = pack_evidence(evidence, key=_key(key))
    write_beside(out, lambda beside: beside.write_bytes(packed))
    if not evidence.records and evidence.claims is not None:
        warn(
            "no stored record bears on these claims: the bundle contains no records, "
            "and its reader counts the models again"
        )
    _print_created(out, packed, evidence, as_json)
    return 0


@command.command("verify")
@click.argument("file", type=FILE)
@key_option
@json_option
def verify(*, file: Path, key: Path | None, as_json: bool) -> int:
    """Check the digests, the signature and every record, and recompute the verdicts."""
    from latbench.report.json import to_json

    opened = _open(file, key, as_json=as_json)
    if opened is None:
        return 1
    archive, evidence = opened.archive, opened.evidence
    notes = _other_claims(evidence)
    if as_json:
        click.echo(
            to_json(
                {
                    "verifies": True,
                    "signature": archive.signature,
                    "manifest_sha256": archive.manifest_sha256,
                    "latbench": archive.manifest.latbench,
                    "records": [record.id for record in evidence.records],
                    "reported": [each.id for each in evidence.reported],
                    "claims": [each.claim for each in evidence.verdicts],
                    "notes": notes,
                }
            )
        )
        return 0
    click.echo(
        f"{file} verifies: {_holds(evidence)}, by latbench {printable(archive.manifest.latbench)}"
    )
    click.echo(f"  signature   {archive.signature}")
    click.echo(f"  manifest    {archive.manifest_sha256}")
    for note in notes:
        click.echo(printable(f"  note        {note}"))
    return 0


@command.command("show")
@click.argument("file", type=FILE)
@key_option
@json_option
def show(*, file: Path, key: Path | None, as_json: bool) -> int:
    """Show the records and verdicts of a bundle, recomputed from its samples."""
    from latbench.analysis.summary import summarize
    from latbench.report.json import to_json
    from latbench.report.text.record import record_lines
    from latbench.report.text.reported import reported_lines
    from latbench.report.text.verdict import verdict_lines

    opened = _open(file, key)
    if opened is None:
        return 1
    evidence = opened.evidence
    pairs = evidence.pairs()
    if as_json:
        summaries = {record.id: summarize(record) for record in evidence.records}
        verdicts = [{"claim": claim, "verdict": verdict} for claim, verdict in pairs]
        manifest = opened.archive.manifest
        shown = {"manifest": manifest, "summaries": summaries, "verdicts": verdicts}
        click.echo(to_json(shown | {"reported": evidence.reported}))
        return 0
    click.echo(f"{file}: {_holds(evidence)}; {opened.archive.signature}")
    for record in evidence.records:
        echo_lines(["", *record_lines(record, summarize(record), None)])
    for each in evidence.reported:
        echo_lines(["", *reported_lines(each, None)])
    if pairs:
        echo_lines(["", *verdict_lines(pairs, evidence.models)])
    return 0


@command.command("import")
@click.argument("file", type=FILE)
@key_option
@registry_option
@json_option
def import_(*, file: Path, key: Path | None, registry: str | None, as_json: bool) -> int:
    """Verify a bundle and import its records; records that are stored already are skipped."""
    from latbench.bundle.evidence import import_records
    from latbench.report.json import to_json
    from latbench.store.registry import Registry

    opened = _open(file, key)
    if opened is None:
        return 1
    with Registry.open(registry) as store:
        new, there, other = import_records(opened, store)
    for id in other:
        warn(f"skipped {id}: the registry holds this id with different content")
    if as_json:
        click.echo(to_json({"stored": new, "there": there, "different": other}))
    else:
        click.echo(f"imported {len(new)}, skipped {len(there)} already stored")
        click.echo("\n".join(new), nl=bool(new))
    return 1 if other else 0


@command.command("card")
@click.argument(
    "what",
    nargs=-1,
    required=True,
    metavar="FILE|RECORD_ID...",
    shell_complete=completion.files_or_record_ids,
)
@click.option(
    "--claim",
    "claim_id",
    required=True,
    metavar="ID",
    shell_complete=completion.claims,
    help="The claim.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(("markdown", "html")),
    default="markdown",
    show_default=True,
)
@key_option
@registry_option
def card(
    *, what: tuple[str, ...], claim_id: str, form: str, key: Path | None, registry: str | None
) -> int:
    """Print one page on a claim: its quote, the verdict, the numbers and how to repeat them.

    Reads a bundle, or records of the registry.
    """
    from latbench.analysis.summary import summarize
    from latbench.report.html.claim_card import card_html, card_markdown, claim_card

    bundle = None
    if len(what) == 1 and Path(what[0]).is_file():
        opened = _open(Path(what[0]), key)
        if opened is None:
            return 1
        evidence = opened.evidence
        bundle = (Path(what[0]).name, opened.archive.manifest_sha256)
    else:
        if key is not None:
            raise click.UsageError("--key requires a bundle FILE, not record ids")
        evidence = _gathered(what, None, (claim_id,), registry, trust_code=False)
    claim, verdict = evidence.about(claim_id)
    records = [(record, summarize(record)) for record in evidence.records]
    page = claim_card(claim, verdict, records, evidence.models, evidence.sources, bundle=bundle)
    click.echo(card_html(page) if form == "html" else card_markdown(page))
    return 0


def _gathered(
    ids: Sequence[str],
    sweep: str | None,
    claims: Sequence[str],
    registry: str | None,
    *,
    trust_code: bool,
) -> Evidence:
    """Collect the evidence from the registry of this machine."""
    import msgspec

    from latbench.bundle.evidence import chosen, gather
    from latbench.devices.local import LocalDevice
    from latbench.store.registry import Registry

    registered = load_registered(trust_code=trust_code)
    wanted = [registered.find(id) for id in dict.fromkeys(claims)]
    here = LocalDevice().row.id
    with Registry.open(registry, create=False) as store:
        found = chosen(store, registered, wanted, ids=ids, sweep=sweep, device=here)
    for why in found.unread:
        warn(f"left out: {why}")
    evidence = gather(found.records, wanted, registered, device=here)
    return msgspec.structs.replace(evidence, reported=found.reported)


def _open(file: Path, key: Path | None, *, as_json: bool = False) -> OpenedBundle | None:
    """Open a bundle; return ``None`` and report the reason if it does not verify."""
    from latbench.bundle.archive import MAX_FILE_BYTES, BundleError
    from latbench.bundle.evidence import open_bundle

    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
        return open_bundle(data, key=_key(key))
    except BundleError as error:
        _report_failure(file, error, as_json)
        return None


def _report_failure(file: Path, error: BundleError, as_json: bool) -> None:
    from latbench.report.json import to_json

    if as_json:
        click.echo(to_json({"verifies": False, "reason": error.message, "hint": error.hint}))
        return
    warn(f"{file} does not verify: {error.message}")
    if error.hint:
        click.echo(f"  hint: {printable(error.hint)}", err=True)


def _key(path: Path | None) -> bytes | None:
    from latbench.errors import UsageError

    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the key {path}: {error.strerror}") from error


def _other_claims(evidence: Evidence) -> list[str]:
    """Notes on claims that differ from the local ones: a bundle may redefine a known id."""
    if not evidence.verdicts:
        return []
    known = {claim.id: claim for claim in load_registered().claims}
    notes = []
    for claim, _ in evidence.pairs():
        if claim.id not in known:
            notes.append(f"claim {claim.id} is unknown here")
        elif claim != known[claim.id]:
            notes.append(
                f"claim {claim.id} differs from the local one: `latbench claims show {claim.id}`"
            )
    return notes


def _holds(evidence: Evidence) -> str:
    records, claims = len(evidence.records), len(evidence.verdicts)
    holds = [f"{records} record{'' if records == 1 else 's'}"]
    if evidence.reported:
        holds.append(f"{len(evidence.reported)} reported by other tools")
    return ", ".join([*holds, f"{claims} claim{'' if claims == 1 else 's'}"])


def _print_created(out: Path, packed: bytes, evidence: Evidence, as_json: bool) -> None:
    import hashlib

    from latbench.report.json import to_json
    from latbench.report.units import size

    sha256 = hashlib.sha256(packed).hexdigest()
    if as_json:
        ids = [record.id for record in evidence.records]
        claims = [each.claim for each in evidence.verdicts]
        shown = {"file": str(out), "sha256": sha256, "records": ids, "claims": claims}
        click.echo(to_json(shown | {"reported": [each.id for each in evidence.reported]}))
    else:
        click.echo(f"{out}: {_holds(evidence)}, {size(len(packed))}, SHA-256 {sha256}")
