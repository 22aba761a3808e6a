"""Verdicts on claims as text, Markdown and JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import get_args

from latbench.claims.model import Claim, ClaimedModel
from latbench.claims.verdict import (
    QUESTIONS,
    Answer,
    AnswerName,
    Question,
    StoredVerdict,
    Verdict,
)
from latbench.report.json import to_json
from latbench.report.text.claim import statement
from latbench.report.text.layout import moment
from latbench.report.units import duration
from latbench.version import latbench_version

Models = Mapping[str, ClaimedModel]
ASKED: Mapping[Question, str] = {"value": "value", "ordering": "comparison", "static": "size"}
STATIC = {"identity": "graph", "scaling": "growth"}
"""What the static question is of, where it is not of a size."""


def verdict_lines(pairs: Sequence[tuple[Claim, Verdict]], models: Models) -> list[str]:
    """Each claim, the answer to each question that it asks, and a count of the answers."""
    lines: list[str] = []
    totals: Counter[str] = Counter()
    for claim, verdict in pairs:
        lines.append(f"{claim.id}: {models[claim.model].name}, {statement(claim, models)}")
        for question, answers in verdict.by_question().items():
            for answer in answers:
                totals[answer.answer] += 1
                lines += _answer_lines(_asked(question, claim), answer)
        if (other := claim.correction) is not None:
            lines.append(f"    the source corrects itself: {other.figure}, {other.reason}")
    told = ", ".join(f"{count} {name}" for name, count in totals.most_common())
    return [*lines, told or "nothing of this kind is claimed"]


def verdicts_markdown(
    pairs: Sequence[tuple[Claim, Verdict]], models: Models, *, device: str, made_by: str
) -> list[str]:
    """A page: how many answers of each kind, those that are decided, and why the others are not."""
    answers = [
        (claim, question, answer)
        for claim, verdict in pairs
        for question, found in verdict.by_question().items()
        for answer in found
    ]
    totals = Counter((question, answer.answer) for _, question, answer in answers)
    names = get_args(AnswerName)
    decided = [each for each in answers if each[2].answer in ("confirmed", "refuted")]
    open_ = [each for each in answers if each[2].answer not in ("confirmed", "refuted")]
    return [
        "# What is found of the claims",
        "",
        f"Made by `{made_by}` with latbench {latbench_version()} on {device}: do not edit. "
        "[CLAIMS](CLAIMS.md) has the rules; a comparison is of the device and backend that it "
        "names, and says nothing of another one.",
        "",
        *_grid(
            ("question", *names),
            [(ASKED[q], *(str(totals[q, name]) for name in names)) for q in QUESTIONS],
        ),
        "",
        "## Decided",
        "",
        *_grid(
            ("claim", "says", "question", "on", "answer", "found"),
            [
                (*_what(claim, models), _asked(q, claim), a.where or "", a.answer, _evidence(a))
                for claim, q, a in decided
            ],
        ),
        "",
        "## Not decided",
        "",
        *_grid(
            ("claim", "says", "question", "answer", "why, and what it needs"),
            [
                (
                    *_what(claim, models),
                    _asked(q, claim),
                    a.answer,
                    "; ".join((*a.reasons, *a.needs)),
                )
                for claim, q, a in open_
            ],
        ),
    ]


def history_lines(verdicts: Sequence[StoredVerdict]) -> list[str]:
    """Each with its date, version and device; of each answer the records that it rests on."""
    lines: list[str] = []
    for each in verdicts:
        lines.append(f"{moment(each.created_unix_ns)}  latbench {each.latbench} on {each.device}")
        for answer in each.answers:
            where = f" on {answer.where}" if answer.where else ""
            asked = _asked(answer.question, each.claim)
            lines.append(f"  {asked}{where}: {answer.answer}")
            lines += [f"    record {id}" for id in answer.records]
    return lines


def verdicts_json(pairs: Sequence[tuple[Claim, Verdict]]) -> str:
    """``[{"claim": …, "verdict": …}, …]``."""
    return to_json([{"claim": claim, "verdict": verdict} for claim, verdict in pairs])


def _asked(question: Question, claim: Claim) -> str:
    own = STATIC.get(claim.kind) if question == "static" else None
    return own or ASKED[question]


def _what(claim: Claim, models: Models) -> tuple[str, str]:
    return f"`{claim.id}`", f"{models[claim.model].name}: {statement(claim, models)}"


def _evidence(answer: Answer) -> str:
    shown = _figures(answer).removeprefix(": ")
    return "; ".join(part for part in (shown, *answer.reasons) if part)


def _grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
        for cells in (header, ["---"] * len(header), *rows)
    ]


def _answer_lines(question: str, answer: Answer) -> list[str]:
    where = f" on {answer.where}" if answer.where else ""
    lines = [f"  {question}{where}: {answer.answer}{_figures(answer)}"]
    lines += [f"    {reason}" for reason in answer.reasons]
    return lines + [f"    needs {need}" for need in answer.needs]


def _figures(answer: Answer) -> str:
    """What was found with its interval, and what would confirm, in one unit."""
    if answer.found is None or answer.unit == "count":
        return ""
    found = [answer.found, *(answer.interval or ())]
    ends = [end for end in answer.claimed or () if end not in (0.0, float("inf"))]
    if answer.unit == "ns":
        shown, name = duration(*found, *ends)
        unit = f" {name}"
    else:
        shown, unit = tuple(f"{value:.3g}" for value in (*found, *ends)), ""
    told = f": {answer.unit} " if answer.unit not in ("ns", None) else ": "
    told += f"{shown[0]}{unit}"
    if answer.interval is not None and answer.interval[0] != answer.interval[1]:
        told += f" ({shown[1]} to {shown[2]})"
    wanted = shown[len(found) :]
    if not wanted or answer.claimed is None:
        return told
    least, most = answer.claimed
    edge = "at most " if least == 0.0 else "at least " if most == float("inf") else ""
    return f"{told}, claimed {edge}{' to '.join(wanted)}{unit}"
