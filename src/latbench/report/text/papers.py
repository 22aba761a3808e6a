"""The papers, what stands for each, and what is known of its claims, as text and Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from latbench.audit.papers import Paper
from latbench.claims.model import Claim
from latbench.claims.verdict import QUESTIONS, Answer, Verdict
from latbench.report.text.layout import table
from latbench.report.text.verdict import ASKED
from latbench.schema.value import Value

DEVICE = "the device "


class PaperRow(Value, frozen=True, kw_only=True):
    """What a list shows of a paper."""

    number: int
    paper: Paper
    claims: dict[str, int]
    """Its own, by kind of statement."""
    others: int
    """What other sources say of its models."""
    answers: dict[str, dict[str, int]]
    """To each question that its claims ask, how many of which answer."""
    devices: tuple[str, ...]
    """Without a record of which values cannot be tested."""


def paper_rows(
    papers: Sequence[Paper],
    claims: Sequence[Claim],
    builds: Mapping[str, str | None],
    verdicts: Mapping[str, Verdict],
) -> list[PaperRow]:
    """A row for each paper; ``builds`` maps a claim's model to the name it is built by, and
    ``verdicts`` a claim's id to what was found."""
    rows = []
    for number, paper in enumerate(papers, 1):
        own = [claim for claim in claims if claim.source.id in paper.sources]
        others = [
            claim
            for claim in claims
            if claim.source.id not in paper.sources and builds.get(claim.model) in paper.models
        ]
        given = _by_question([verdicts[claim.id] for claim in own])
        missing = [_devices(answer) for answers in given.values() for answer in answers]
        rows.append(
            PaperRow(
                number=number,
                paper=paper,
                claims=dict(Counter(claim.kind for claim in own)),
                others=len(others),
                answers={
                    question: dict(Counter(answer.answer for answer in answers))
                    for question, answers in given.items()
                    if answers
                },
                devices=tuple(sorted({name for names in missing for name in names})),
            )
        )
    return rows


def papers_text(rows: Sequence[PaperRow]) -> list[str]:
    """A line for each, and how many are in scope."""
    head = ("no", "paper", "scope", "models", "claims", "answers")
    shown = [
        (
            str(row.number),
            row.paper.id,
            row.paper.scope,
            str(len(row.paper.models)),
            str(sum(row.claims.values())),
            _answers(row) or row.paper.why or "it claims no figure",
        )
        for row in rows
    ]
    return [*table(head, shown), _total(rows)]


def papers_markdown(rows: Sequence[PaperRow]) -> list[str]:
    """A document of one table."""
    head = ("", "paper", "year", "models here", "its claims", "what is found")
    body = [
        (
            str(row.number),
            _linked(row.paper),
            str(row.paper.year or "not known"),
            _models(row.paper),
            _claims(row),
            _found(row),
        )
        for row in rows
    ]
    return [
        "# Papers",
        "",
        "Made by `latbench papers --format markdown --output docs/PAPERS.md` with a registry that "
        "has no records: do not edit. With records, the same command says what they tell.",
        "",
        "`size`: parameters and MACs, counted. `value`: the figure on just the device that it "
        "names, not testable without a record of that device. `comparison`: which of two is "
        "faster, on any device; inconclusive without records of both. [CLAIMS](CLAIMS.md) has the "
        "rules, and `latbench claims check --source ID` each answer with its reasons.",
        "",
        *(
            f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
            for cells in (head, ["---"] * len(head), *body)
        ),
        "",
        _total(rows),
    ]


def _by_question(verdicts: Sequence[Verdict]) -> dict[str, list[Answer]]:
    return {
        ASKED[question]: [a for verdict in verdicts for a in verdict.by_question()[question]]
        for question in QUESTIONS
    }


def _devices(answer: Answer) -> list[str]:
    return [need.removeprefix(DEVICE) for need in answer.needs if need.startswith(DEVICE)]


def _linked(paper: Paper) -> str:
    return f"[{paper.title}]({paper.link})" if paper.link is not None else paper.title


def _models(paper: Paper) -> str:
    return ", ".join(f"`{name}`" for name in paper.models) or "none"


def _claims(row: PaperRow) -> str:
    own = ", ".join(f"{count} {kind}" for kind, count in row.claims.items()) or "none"
    return f"{own}; {row.others} of its models by others" if row.others else own


def _answers(row: PaperRow) -> str:
    return "; ".join(
        f"{question}: {', '.join(f'{count} {name}' for name, count in found.items())}"
        for question, found in row.answers.items()
    )


def _found(row: PaperRow) -> str:
    """Why it is out of scope, or the answers; what is missing for more."""
    parts = [_answers(row)]
    if row.devices:
        parts.append(f"no record of {', '.join(row.devices)}")
    parts.append(row.paper.why or "")
    told = "; ".join(part for part in parts if part)
    if row.paper.scope == "out":
        return f"**out of scope**: {row.paper.why}" + (f"; {parts[0]}" if parts[0] else "")
    return told or "it claims no figure of speed or size"


def _total(rows: Sequence[PaperRow]) -> str:
    inside = [row for row in rows if row.paper.scope == "in"]
    built = sum(bool(row.paper.models) for row in inside)
    claims = sum(sum(row.claims.values()) for row in rows)
    return (
        f"{len(rows)} papers: {len(inside)} in scope, {built} of them with a model here, "
        f"{len(rows) - len(inside)} out of scope; {claims} claims of their own."
    )
