"""What several records say together of one claim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from latbench.claims.conditions import left_open, undeclared_options
from latbench.claims.model import Claim
from latbench.claims.verdict import Answer
from latbench.schema.protocol_catalog import shipped
from latbench.schema.record import Record

TOLD = ("confirmed", "refuted")


@dataclass(frozen=True)
class Found:
    """An answer, and the record that it is of."""

    answer: Answer
    record: Record


def pool_answers(claim: Claim, found: Sequence[Found]) -> Answer | None:
    """The answer of records under the authors' own protocol where it is one that is known here and
    they tell; what others say stands beside it.

    Without such records another protocol can confirm and not refute: it may be why they differ.
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
    beside = f"under {', '.join(others)}: {ours.answer}"
    if theirs is not None and theirs.answer in TOLD:
        return msgspec.structs.replace(
            theirs,
            reasons=(*theirs.reasons, f"under {own}, as the source; {beside}"),
            records=tuple(dict.fromkeys((*theirs.records, *ours.records))),
        )
    if ours.answer != "refuted":
        return ours
    short = theirs.reasons if theirs is not None else (f"no records under {own}, the source's",)
    return msgspec.structs.replace(
        ours,
        answer="inconclusive",
        reasons=(*ours.reasons, beside, *short),
        needs=(f"a run with --protocol {own} --processes 6",),
    )


def _with_options(claim: Claim, found: Sequence[Found]) -> Answer | None:
    """Options of which the claim says nothing may be why figures differ: such records can confirm
    and not refute."""
    told = _under_open_conditions(claim, found)
    if told is None or told.answer != "refuted":
        return told
    options = undeclared_options(found[0].record, claim)
    named = ", ".join(f"{key}={value}" for key, value in options.items())
    return msgspec.structs.replace(
        told,
        answer="inconclusive",
        reasons=(*told.reasons, f"with {named}, of which the source says nothing: refuted"),
        needs=("a run without these options",),
    )


def agreed(found: Sequence[Answer]) -> Answer | None:
    """What records of the same conditions say: the most precise of them decides, for as long as no
    other one lies elsewhere and says something else.

    Its width says nothing of where it lies, so that measuring again and again makes no false
    answer likelier; all are named, because all were looked at.
    """
    if not found:
        return None
    records = tuple(dict.fromkeys(id for answer in found for id in answer.records))
    measured = [answer for answer in found if answer.interval is not None]
    told = {answer.answer for answer in found if answer.answer in TOLD}
    if measured:
        best = min(measured, key=_width)
        elsewhere = [other for other in measured if _disjoint(best, other)]
        apart = any(other.answer != best.answer for other in elsewhere)
    else:
        best = next((answer for answer in found if answer.answer in TOLD), found[0])
        apart = len(told) > 1
    if not apart:
        return msgspec.structs.replace(best, records=records)
    return Answer(
        answer="inconclusive",
        reasons=tuple(
            f"{', '.join(answer.records)}: {answer.answer}"
            for answer in found
            if answer.interval is not None or answer.answer in TOLD
        ),
        needs=("a reason why records of the same conditions differ",),
        where=best.where,
        place=best.place,
        records=records,
    )


def _under_open_conditions(claim: Claim, found: Sequence[Found]) -> Answer | None:
    """Of what the source leaves open any value may be meant: one that confirms is enough, and one
    alone that refutes is not."""
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
    told = tuple(f"the source leaves {name} open: this is {value}" for name, value in key)
    if first.answer == "confirmed" or not key:
        return msgspec.structs.replace(first, reasons=(*first.reasons, *told))
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
