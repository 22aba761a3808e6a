"""A claim and what was found of it on one page, as Markdown or as HTML that needs nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape

import msgspec

from latbench.analysis.summary import Summary
from latbench.claims.completeness import completeness
from latbench.claims.model import (
    Claim,
    ClaimConditions,
    ClaimedModel,
    ClaimSource,
)
from latbench.claims.verdict import Answer, Verdict
from latbench.file_names import restored_name, shell_command
from latbench.report.placement import placed
from latbench.report.text.answer import title
from latbench.report.text.claim import statement
from latbench.report.text.device import conditions
from latbench.report.text.layout import moment
from latbench.report.units import decimals, duration, time
from latbench.report.writers import markdown_table, markdown_text
from latbench.schema.record import Record
from latbench.schema.request_syntax import option_words, side_word
from latbench.schema.value import Value

STYLE = (
    "body{font:16px/1.5 sans-serif;max-width:52em;margin:2em auto;padding:0 1em;color:#222}"
    "table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;"
    "padding:.25em .8em .25em 0;border-bottom:1px solid #ddd}th{width:11em;font-weight:600}"
    "pre{background:#f4f4f4;padding:.8em;overflow-x:auto}td{overflow-wrap:anywhere}"
)
CardRow = tuple[str, str]


class Section(Value, frozen=True, kw_only=True):
    """A heading, named facts, and commands to copy."""

    heading: str
    rows: tuple[CardRow, ...] = ()
    commands: tuple[str, ...] = ()


class Card(Value, frozen=True, kw_only=True):
    """The page before it has a format."""

    title: str
    sections: tuple[Section, ...]


def claim_card(
    claim: Claim,
    verdict: Verdict,
    records: Sequence[tuple[Record, Summary | None]],
    models: Mapping[str, ClaimedModel],
    sources: Mapping[str, ClaimSource],
    *,
    bundle: CardRow | None = None,
) -> Card:
    """The claim, the verdict, and the records that it rests on.

    ``bundle`` is the name of the file and the SHA-256 of its manifest.
    """
    cited = {id for answer in verdict.answers() for id in answer.records}
    shown = [pair for pair in records if pair[0].id in cited]
    return Card(
        title=f"{models[claim.model].name}: {statement(claim, models)}",
        sections=(
            Section(heading="Claim", rows=_claim_rows(claim, sources[claim.source.id])),
            Section(heading="Verdict", rows=_verdict_rows(verdict)),
            Section(heading="Conditions of the claim", rows=_condition_rows(claim)),
            *(
                Section(heading=f"Record {record.id}", rows=_record_rows(record, summary))
                for record, summary in shown
            ),
            _repeat(claim, [record for record, _ in shown], bundle),
        ),
    )


def card_markdown(card: Card) -> str:
    """Each text escaped: a claim's words are not markup."""
    lines = [f"# {_markdown(card.title)}"]
    for section in card.sections:
        lines += ["", f"## {_markdown(section.heading)}", ""]
        if section.rows:
            rows = [(_markdown(name), _markdown(text)) for name, text in section.rows]
            lines += markdown_table(("", ""), rows)
        if section.commands:
            # A fence that is longer than any run of backquotes inside.
            runs = [len(run) for c in section.commands for run in re.findall("`+", c)]
            fence = "`" * max(3, *(run + 1 for run in runs), 3)
            gap = [""] if section.rows else []
            lines += [*gap, f"{fence}bash", *map(_one_line, section.commands), fence]
    return "\n".join(lines)


def card_html(card: Card) -> str:
    """One file: no script, no picture, nothing from elsewhere."""
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width">',
        f"<title>{escape(card.title)}</title><style>{STYLE}</style></head><body>",
        f"<h1>{escape(card.title)}</h1>",
    ]
    for section in card.sections:
        parts.append(f"<h2>{escape(section.heading)}</h2>")
        if section.rows:
            rows = (
                f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>"
                for name, text in section.rows
            )
            parts += ["<table>", *rows, "</table>"]
        if section.commands:
            commands = "\n".join(map(_one_line, section.commands))
            parts.append(f"<pre>{escape(commands)}</pre>")
    return "\n".join([*parts, "</body></html>"])


def _claim_rows(claim: Claim, source: ClaimSource) -> tuple[CardRow, ...]:
    cited = [source.title, claim.source.where]
    cited += [f"version {claim.source.version}"] if claim.source.version else []
    cited += [f"arXiv {source.arxiv}"] if source.arxiv else []
    cited += [str(source.year)] if source.year else []
    correction = claim.correction
    rows = (
        ("claim", f"{claim.id} ({claim.kind}, by {claim.by})"),
        ("printed", claim.figure),
        ("quote", f"“{claim.source.quote}”" if claim.source.quote else "none is kept"),
        ("source", ", ".join(cited)),
        ("address", source.url),
        ("how it was taken", source.note),
        ("corrected", f"{correction.figure}: {correction.reason}" if correction else None),
        ("contradicted by", ", ".join(claim.conflicts) or None),
        ("note", claim.note),
    )
    return tuple((name, text) for name, text in rows if text is not None)


def _verdict_rows(verdict: Verdict) -> tuple[CardRow, ...]:
    questions = (
        ("value", (verdict.value,) if verdict.value is not None else ()),
        ("comparison", verdict.ordering),
        ("size", (verdict.static,) if verdict.static is not None else ()),
    )
    rows: list[CardRow] = []
    for question, answers in questions:
        for answer in answers:
            rows.append(
                (question, f"{answer.answer}{f' on {answer.where}' if answer.where else ''}")
            )
            rows += _figure_rows(answer)
            rows += [("because", reason) for reason in answer.reasons]
            rows += [("needs", need) for need in answer.needs]
    return tuple(rows) or (("verdict", "nothing that can be asked is claimed"),)


def _figure_rows(answer: Answer) -> list[CardRow]:
    """Found with its interval, and what would confirm."""
    rows = []
    if answer.found is not None:
        what = "found ratio" if answer.unit == "ratio" else "found"
        rows.append((what, _range(answer.found, answer.interval, answer.unit)))
    if answer.claimed is not None:
        low, high = (_figure(end, answer.unit) for end in answer.claimed)
        rows.append(("would confirm", f"{low} to {high}"))
    return rows


def _range(value: float, interval: tuple[float, float] | None, unit: str | None) -> str:
    if interval is None:
        return _figure(value, unit)
    low, high = interval
    half = max((high - low) / 2, 0.0)
    if unit == "ns":
        (middle, lower, upper), name = duration(value, low, high, uncertainty_ns=max(half, 1))
        return f"{middle} {name} (95 % interval {lower} to {upper})"
    if unit == "count":
        return f"{value:,.0f} ({low:,.0f} to {high:,.0f})"
    digits = decimals(half) if half > 0 else 3
    return f"{value:.{digits}f} (95 % interval {low:.{digits}f} to {high:.{digits}f})"


def _figure(value: float, unit: str | None) -> str:
    if value == float("inf"):
        return "anything"
    if unit == "ns":
        return time(value)
    return f"{value:,.0f}" if unit == "count" else f"{value:.3g}"


def _condition_rows(claim: Claim) -> tuple[CardRow, ...]:
    known, of = completeness(claim)
    rows = [("known", f"{known} of {of} that matter")] if of else []
    for name in ClaimConditions.__struct_fields__:
        value = getattr(claim.conditions, name)
        if value is not None:
            rows.append((name.replace("_", " "), str(value)))
    if claim.open:
        rows.append(("left open", ", ".join(claim.open).replace("_", " ")))
    return tuple(rows) or (("known", "none is needed"),)


def _record_rows(record: Record, summary: Summary | None) -> tuple[CardRow, ...]:
    machine, software = record.environment.machine, record.environment.software
    rows: list[CardRow] = [("timed", title(record)), ("when", moment(record.created_unix_ns))]
    if summary is not None and not summary.warm:
        reported = summary.reported
        rows += [
            (reported.statistic, _range(reported.value, None, reported.unit)),
            ("reliability", "; ".join((summary.reliability, *summary.reasons))),
        ]
    elif summary is not None:
        typical = _range(summary.median_ns, summary.interval_ns, "ns")
        rows += [
            (
                "typical (median)",
                f"{typical}; {summary.samples} samples in {summary.processes} processes",
            ),
            (
                "undisturbed (10th percentile)",
                _range(summary.best_case_ns, summary.best_case_interval_ns, "ns"),
            ),
            ("reliability", "; ".join((summary.reliability, *summary.reasons))),
        ]
    if (failure := record.outcome.failure) is not None:
        rows.append(("failed", f"at {failure.stage}: {failure.message}"))
    if (runtime := record.runtime) is not None:
        settings = ", ".join(f"{name} {value}" for name, value in runtime.settings.items())
        rows.append(("runtime", f"{runtime.name} {runtime.version or ''}: {settings}"))
        if runtime.placement is not None:
            rows.append(("placement", placed(runtime.placement)))
    if (artifact := record.artifact) is not None:
        rows.append(("artifact", f"{artifact.format} {artifact.precision}, {artifact.sha256}"))
    hardware = (machine.cpu_model, machine.os, machine.kernel, machine.architecture)
    rows += [
        ("protocol", f"{record.protocol.label}, SHA-256 {record.protocol_sha256}"),
        ("device", f"{record.device.name} ({record.device.id})"),
        ("machine", ", ".join(part for part in hardware if part) or "unknown"),
        ("its state", conditions(record)),
        ("software", f"latbench {software.latbench}, {software.python}"),
    ]
    return tuple(rows)


def _repeat(claim: Claim, records: Sequence[Record], bundle: CardRow | None) -> Section:
    rows: list[CardRow] = []
    commands = [*dict.fromkeys(_asking(record, records) for record in records)]
    commands.append(shell_command(["latbench", "claims", "check", claim.id]))
    if bundle is not None:
        name, sha256 = bundle
        rows.append(("evidence", f"{name}, manifest SHA-256 {sha256}"))
        commands.append(shell_command(["latbench", "bundle", "verify", name]))
    return Section(heading="How to repeat it", rows=tuple(rows), commands=tuple(commands))


def _asking(record: Record, records: Sequence[Record]) -> str:
    """The command that asks for the same, as far as options can say it."""
    if (part := record.interleaved) is not None:
        beside = {
            other.interleaved.part: other.request
            for other in records
            if other.interleaved is not None and other.interleaved.comparison == part.comparison
        }
        models = [side_word(beside[i].model) for i in sorted(beside)]
        alike = {
            msgspec.json.encode(msgspec.structs.replace(asked, model=""))
            for asked in beside.values()
        }
        # If the two differ in more than the model, each is described by itself.
        if len(models) == part.parts and len(alike) == 1:
            return shell_command(["latbench", "compare", *models, *option_words(record.request)])
    model = restored_name(record.request.model)
    return shell_command(["latbench", "run", "--model", model, *option_words(record.request)])


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _markdown(text: str) -> str:
    return markdown_text(_one_line(text))
