"""Combine the answers of several records to one claim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from latbench.claims.conditions import left_open, undeclared_options
from latbench.claims.model import Claim
from latbench.claims.verdict import CONCLUSIVE, Answer
from latbench.schema.protocol_catalog import shipped
from latbench.schema.record import Record


@dataclass(frozen=True)
class Found:
    """An answer and the record that it is based on."""

    answer: Answer
    record: Record


def pool_answers(claim: Claim, found: Sequence[Found]) -> Answer | None:
    """Combine the answers, and prefer records under the authors' own protocol.

    If that protocol is known and its records are conclusive, they decide; the answer of the other
    records is added as a reason.

    Without such records another protocol can confirm but not refute, because the protocol may be
    the reason for the difference.
    """
    plain = [each for each in found if not undeclared_options(each.record, claim)]
    if not plain and found:
        return _with_options(claim, found)
    found, own = plain, claim.conditions.protocol
    known = shipped(own) is not None
    theirs = _under_open_conditions(claim, [f for f in found if f.record.protocol.label == own])
    ours = _under_open_conditions(claim, [f for f in found if f.record.protocol.label != own])
    if ours is None or not known:
        return theirs or ours
    others = dict.fromkeys(f.record.protocol.label for f in found if f.record.protocol.label != own)
    other_answer = f"under {', '.join(others)}: {ours.answer}"
    if theirs is not None and theirs.answer in CONCLUSIVE:
        return msgspec.structs.replace(
            theirs,
            reasons=(*theirs.reasons, f"under {own}, the source's protocol; {other_answer}"),
            records=tuple(dict.fromkeys((*theirs.records, *ours.records))),
        )
    if ours.answer != "refuted":
        return ours
    short = (
        theirs.reasons
        if theirs is not None
        else (f"no records under {own}, the source's protocol",)
    )
    return msgspec.structs.replace(
        ours,
        answer="inconclusive",
        reasons=(*ours.reasons, other_answer, *short),
        needs=(f"a run with --protocol {own} --processes 6",),
    )


def _with_options(claim: Claim, found: Sequence[Found]) -> Answer | None:
    """Combine records with options that the claim does not mention.

    They can confirm but not refute, because the options may be the reason for a difference.
    """
    answer = _under_open_conditions(claim, found)
    if answer is None or answer.answer != "refuted":
        return answer
    options = undeclared_options(found[0].record, claim)
    named = ", ".join(f"{key}={value}" for key, value in options.items())
    return msgspec.structs.replace(
        answer,
        answer="inconclusive",
        reasons=(*answer.reasons, f"refuted with {named}, which the source does not mention"),
        needs=("a run without these options",),
    )


def agreed(found: Sequence[Answer]) -> Answer | None:
    """Combine the answers of records under the same conditions.

    The most precise answer decides, unless a disjoint interval gives another answer.

    The width of an interval does not depend on its position, so repeated measurements do not make a
    false answer more likely. All records are listed, because all were considered.
    """
    if not found:
        return None
    records = tuple(dict.fromkeys(id for answer in found for id in answer.records))
    measured = [answer for answer in found if answer.interval is not None]
    conclusive = {answer.answer for answer in found if answer.answer in CONCLUSIVE}
    if measured:
        best = min(measured, key=_width)
        elsewhere = [other for other in measured if _disjoint(best, other)]
        apart = any(other.answer != best.answer for other in elsewhere)
    else:
        best = next((answer for answer in found if answer.answer in CONCLUSIVE), found[0])
        apart = len(conclusive) > 1
    if not apart:
        return msgspec.structs.replace(best, records=records)
    return Answer(
        answer="inconclusive",
        reasons=tuple(
            f"{', '.join(answer.records)}: {answer.answer}"
            for answer in found
            if answer.interval is not None or answer.answer in CONCLUSIVE
        ),
        needs=("a reason why records under the same conditions differ",),
        where=best.where,
        place=best.place,
        records=records,
    )


def _under_open_conditions(claim: Claim, found: Sequence[Found]) -> Answer | None:
    """Combine records over the values of conditions that the source leaves open.

    The source may mean any value: one that confirms is enough, and one alone cannot refute.
    """
    groups: dict[tuple[tuple[str, str], ...], list[Answer]] = {}
    for each in found:
        key = tuple(sorted(left_open(claim, each.record).items()))
        groups.setdefault(key, []).append(each.answer)
    answers = {key: answer for key, of in groups.items() if (answer := agreed(of)) is not None}
    if not answers:
        return None
    key, first = next(
        ((key, a) for key, a in answers.items() if a.answer == "confirmed"),
        next(iter(answers.items())),
    )
    notes = tuple(f"the source leaves {name} open; measured with {value}" for name, value in key)
    if first.answer == "confirmed" or not key:
        return msgspec.structs.replace(first, reasons=(*first.reasons, *notes))
    open_ = sorted({name for each in answers for name, _ in each})
    tried = "; ".join(
        f"with {', '.join(f'{name} {value}' for name, value in each)}: {answer.answer}"
        for each, answer in answers.items()
    )
    alone = [name for name in open_ if len({dict(each).get(name) for each in answers}) < 2]
    refuted = all(answer.answer == "refuted" for answer in answers.values()) and not alone
    records = tuple(dict.fromkeys(id for answer in answers.values() for id in answer.records))
    needs = (*first.needs, f"records with another {' and '.join(alone or open_)}")
    return msgspec.structs.replace(
        first,
        answer="refuted" if refuted else "inconclusive",
        reasons=(*first.reasons, f"the source leaves {' and '.join(open_)} open; {tried}"),
        needs=() if refuted else needs,
        records=records,
    )


def _width(answer: Answer) -> float:
    assert answer.interval is not None
    low, high = answer.interval
    return (high - low) / max(abs(answer.found or 0.0), 1e-300)


def _disjoint(one: Answer, other: Answer) -> bool:
    assert one.interval is not None
    assert other.interval is not None
    return one.interval[1] < other.interval[0] or other.interval[1] < one.interval[0]
