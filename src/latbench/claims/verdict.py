"""What a check of a claim answers, and what it may use."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

from latbench.claims.model import Claim, ClaimedModel
from latbench.claims.quantities import PrintedValue
from latbench.schema.graph import Growth, MergeCheck
from latbench.schema.value import Value

CLOSE = 1e-6
"""Relative difference of figures between versions of numpy that is no difference."""
AnswerName = Literal["confirmed", "refuted", "inconclusive", "not testable here", "unverifiable"]


Unit = Literal["ns", "images/s", "count", "ratio", "exponent"]


class Place(Value, frozen=True, kw_only=True):
    """Where a latency was measured."""

    device: str
    backend: str

    @property
    def text(self) -> str:
        """Device and backend, as they are printed."""
        return f"{self.device}, {self.backend}"


class Answer(Value, frozen=True, kw_only=True):
    """To one question, on one device where it is one of a device.

    ``inconclusive``: ``needs`` says what an answer would take. ``not testable here``: ``needs``
    says which hardware or fact is missing. ``unverifiable``: nobody could check it; the reasons
    say why.
    """

    answer: AnswerName
    reasons: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    where: str | None = None
    """Device and backend that the answer is of."""
    claimed: tuple[float, float] | None = None
    """Within which a figure would confirm, in the unit that ``found`` has."""
    found: float | None = None
    interval: tuple[float, float] | None = None
    unit: Unit | None = None
    records: tuple[str, ...] = ()
    place: Place | None = None
    """``where`` as a value, of an answer that rests on a latency."""


Question = Literal["value", "ordering", "static"]
QUESTIONS: tuple[Question, ...] = ("static", "value", "ordering")


class StoredAnswer(Value, frozen=True, kw_only=True):
    """An answer as it was given, to be stored: an open end of a range is ``None``."""

    question: Question
    answer: AnswerName
    where: str | None
    found: float | None
    interval: tuple[float | None, float | None] | None
    claimed: tuple[float | None, float | None] | None
    records: tuple[str, ...]
    reasons: tuple[str, ...]
    needs: tuple[str, ...]

    def says_the_same(self, other: StoredAnswer) -> bool:
        """Whether question, answer, where it is of, its records and figures are the same.

        Its words are not compared: a later version may say the same in other ones.
        """
        return (
            (self.question, self.answer, self.where, self.records)
            == (other.question, other.answer, other.where, other.records)
        ) and all(map(_close, self._figures(), other._figures()))

    def _figures(self) -> tuple[float | None, ...]:
        none = (None, None)
        return (self.found, *(self.interval or none), *(self.claimed or none))


def _close(a: float | None, b: float | None) -> bool:
    if a is None or b is None:
        return a is b
    return math.isclose(a, b, rel_tol=CLOSE)


class StoredVerdict(Value, frozen=True, kw_only=True):
    """What was said of a claim, as it was worded then, by which version and seen from where.

    It follows from the records that the answers name, and can be computed from them again.
    """

    claim: Claim
    created_unix_ns: int
    latbench: str
    device: str
    answers: tuple[StoredAnswer, ...]

    def says_the_same(self, other: StoredVerdict) -> bool:
        """Whether its answers do, whenever and by whichever version they were given."""
        return len(self.answers) == len(other.answers) and all(
            one.says_the_same(two) for one, two in zip(self.answers, other.answers, strict=True)
        )


class Verdict(Value, frozen=True, kw_only=True):
    """Three independent answers; ``None`` and empty where the claim does not ask the question."""

    claim: str
    value: Answer | None
    """Whether the figure holds on just the device, and so on, that it names."""
    ordering: tuple[Answer, ...]
    """Whether the comparison holds: one answer for each device, and they may differ."""
    static: Answer | None
    """Whether parameters and MACs are as it says."""

    def answers(self) -> tuple[Answer, ...]:
        """All that were given."""
        return tuple(answer for answers in self.by_question().values() for answer in answers)

    def by_question(self) -> dict[Question, tuple[Answer, ...]]:
        """All that were given to each of the three."""
        return {
            "static": (self.static,) if self.static is not None else (),
            "value": (self.value,) if self.value is not None else (),
            "ordering": self.ordering,
        }

    def given(self) -> tuple[StoredAnswer, ...]:
        """The answers as they are stored."""
        return tuple(
            StoredAnswer(
                question=question,
                answer=each.answer,
                where=each.where,
                found=each.found,
                interval=_ends(each.interval),
                claimed=_ends(each.claimed),
                records=each.records,
                reasons=each.reasons,
                needs=each.needs,
            )
            for question, answers in self.by_question().items()
            for each in answers
        )


def _ends(interval: tuple[float, float] | None) -> tuple[float | None, float | None] | None:
    """JSON has no infinity."""
    if interval is None:
        return None
    low, high = (end if math.isfinite(end) else None for end in interval)
    return low, high


class CountedModel(Value, frozen=True, kw_only=True):
    """Parameters and MACs of a model, each as an interval: exact where it was counted."""

    parameters: PrintedValue | None = None
    macs: PrintedValue | None = None
    more_macs: int = 0
    """That our counting leaves out; see :class:`~latbench.claims.model.Uncounted`."""
    source: str | None = None
    """Of published counts; ``None`` where they were counted here."""
    counted: bool = True
    missing: str | None = None
    """Why there are none."""
    growth: Growth | None = None
    """Of a claim how MACs grow."""
    shown: tuple[MergeCheck, ...] = ()
    """Of a claim that a method costs nothing: what it did to each network."""


class CheckContext(Value, frozen=True, kw_only=True):
    """What can be reached from here."""

    models: Mapping[str, ClaimedModel]
    counts: Mapping[str, CountedModel]
    """Of the models that were asked for."""
    devices: frozenset[str] = frozenset()
    backends: frozenset[str] = frozenset()


def untestable_reason(claim: Claim, bench: CheckContext) -> Answer | None:
    """The answer to every question about a claim that nothing here, or nobody, can check."""
    if claim.unverifiable is not None:
        return Answer(answer="unverifiable", reasons=(claim.unverifiable,))
    for id in (claim.model, claim.against):
        model = bench.models.get(id) if id is not None else None
        if model is not None and model.unreleased:
            return Answer(answer="unverifiable", reasons=(f"{model.name}: {model.absent}",))
    if claim.out_of_scope is not None:
        return Answer(
            answer="not testable here",
            reasons=(claim.out_of_scope,),
            needs=("a tool that measures this",),
        )
    return None


def combined(readings: Mapping[str, Answer]) -> Answer:
    """One answer from those under each reading of the claim: that on which all agree."""
    answers = list(readings.values())
    if len({answer.answer for answer in answers}) == 1:
        first = answers[0]
        if len(answers) == 1:
            return first
        told = tuple(f"{name}: {why}" for name, a in readings.items() for why in a.reasons)
        return Answer(
            answer=first.answer,
            reasons=told,
            needs=first.needs,
            where=first.where,
            place=first.place,
            claimed=first.claimed,
            found=first.found,
            interval=first.interval,
            unit=first.unit,
            records=first.records,
        )
    return Answer(
        answer="inconclusive",
        reasons=tuple(
            f"{answer.answer} if {name} is meant{': ' + '; '.join(answer.reasons)}"
            for name, answer in readings.items()
        ),
        needs=("a source that says which one is meant",),
        where=answers[0].where,
        place=answers[0].place,
        records=answers[0].records,
    )
