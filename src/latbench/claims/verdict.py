"""Define the result of checking a claim, and the context that a check can use."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

from msgspec import structs

from latbench.claims.model import Claim, ClaimedModel
from latbench.claims.quantities import PrintedValue
from latbench.schema.graph import Growth, MergeCheck
from latbench.schema.value import Value

CLOSE = 1e-6
"""Relative difference of values that is ignored; versions of numpy differ by less."""
AnswerName = Literal[
    "confirmed",
    "refuted",
    "holds here",
    "does not hold here",
    "inconclusive",
    "not testable here",
    "unverifiable",
]
"""``confirmed`` and ``refuted`` are about the claim itself. ``holds here`` and ``does not hold
here`` are about a comparison on another device, or under other conditions, than the claim's."""
ELSEWHERE: Mapping[AnswerName, AnswerName] = {
    "confirmed": "holds here",
    "refuted": "does not hold here",
}
"""What a conclusive answer is called where it was not found under the claim's own conditions."""
CONCLUSIVE: frozenset[AnswerName] = frozenset((*ELSEWHERE.keys(), *ELSEWHERE.values()))


Unit = Literal["ns", "images/s", "count", "ratio", "exponent"]


class Place(Value, frozen=True, kw_only=True):
    """Where a latency was measured."""

    device: str
    backend: str

    @property
    def text(self) -> str:
        """Device and backend as text."""
        return f"{self.device}, {self.backend}"


class Answer(Value, frozen=True, kw_only=True):
    """The answer to one question, for one device if the question depends on a device.

    ``inconclusive``: ``needs`` lists what a conclusive answer requires. ``not testable here``:
    ``needs`` lists the missing hardware or facts. ``unverifiable``: nobody could check it; the
    reasons state why.
    """

    answer: AnswerName
    reasons: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    where: str | None = None
    """Device and backend that the answer applies to."""
    claimed: tuple[float, float] | None = None
    """Range of values that confirms the claim, in the unit of ``found``."""
    found: float | None = None
    interval: tuple[float, float] | None = None
    unit: Unit | None = None
    records: tuple[str, ...] = ()
    place: Place | None = None
    """``where`` as a value, for an answer that is based on a latency."""


Question = Literal["value", "ordering", "static"]
QUESTIONS: tuple[Question, ...] = ("static", "value", "ordering")


class StoredAnswer(Value, frozen=True, kw_only=True):
    """An answer in its stored form: an open end of a range is ``None``."""

    question: Question
    answer: AnswerName
    where: str | None
    found: float | None
    interval: tuple[float | None, float | None] | None
    claimed: tuple[float | None, float | None] | None
    records: tuple[str, ...]
    reasons: tuple[str, ...]
    needs: tuple[str, ...]

    def migrated(self, claim: Claim) -> StoredAnswer:
        """Return the answer in today's words.

        Earlier versions called a comparison confirmed or refuted on whatever device it was tried.
        """
        own = claim.conditions
        here = self.where or ""
        if own.backend is None:
            on_own = here.startswith(f"{own.device}, ")
        else:
            on_own = here == f"{own.device}, {own.backend}"
        if self.question != "ordering" or on_own:
            return self
        return self.called(ELSEWHERE.get(self.answer, self.answer))

    def called(self, answer: AnswerName) -> StoredAnswer:
        """Return the same with another answer."""
        return structs.replace(self, answer=answer)

    def same_result(self, other: StoredAnswer) -> bool:
        """Whether the question, answer, place, records and values are the same.

        Texts are not compared, because a later version may word them differently.
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
    """A verdict as it was given: the claim's wording, the version and the device at that time.

    It can be computed again from the records that the answers name.
    """

    claim: Claim
    created_unix_ns: int
    latbench: str
    device: str
    answers: tuple[StoredAnswer, ...]

    def migrated(self) -> StoredVerdict:
        """Return the verdict with its answers in today's words."""
        return structs.replace(
            self, answers=tuple(each.migrated(self.claim) for each in self.answers)
        )

    def same_result(self, other: StoredVerdict) -> bool:
        """Whether all answers are the same; the time and version are ignored."""
        return len(self.answers) == len(other.answers) and all(
            one.same_result(two) for one, two in zip(self.answers, other.answers, strict=True)
        )


class Verdict(Value, frozen=True, kw_only=True):
    """Answers to three independent questions; ``None`` or empty if a question does not apply."""

    claim: str
    value: Answer | None
    """Whether the value holds under exactly the claim's conditions."""
    ordering: tuple[Answer, ...]
    """Whether the comparison holds: one answer for each device. They can differ."""
    static: Answer | None
    """Whether parameters and MACs match the claim."""

    def answers(self) -> tuple[Answer, ...]:
        """Return all answers."""
        return tuple(answer for answers in self.by_question().values() for answer in answers)

    def by_question(self) -> dict[Question, tuple[Answer, ...]]:
        """Return the answers to each of the three questions."""
        return {
            "static": (self.static,) if self.static is not None else (),
            "value": (self.value,) if self.value is not None else (),
            "ordering": self.ordering,
        }

    def given(self) -> tuple[StoredAnswer, ...]:
        """Return the answers in their stored form."""
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
    """Replace infinite ends by ``None``, because JSON cannot represent infinity."""
    if interval is None:
        return None
    low, high = (end if math.isfinite(end) else None for end in interval)
    return low, high


class CountedModel(Value, frozen=True, kw_only=True):
    """Parameters and MACs of a model, each as an interval, which is exact if it was counted."""

    parameters: PrintedValue | None = None
    macs: PrintedValue | None = None
    more_macs: int = 0
    """MACs that our counting omits; see :class:`~latbench.claims.model.Uncounted`."""
    source: str | None = None
    """Source of published counts; ``None`` if latbench counted them."""
    counted: bool = True
    missing: str | None = None
    """Why the counts are missing."""
    growth: Growth | None = None
    """For a claim about how MACs grow."""
    shown: tuple[MergeCheck, ...] = ()
    """For a claim that a method adds no cost: its effect on each network."""


class CheckContext(Value, frozen=True, kw_only=True):
    """Models, counts, devices and backends that are available here."""

    models: Mapping[str, ClaimedModel]
    counts: Mapping[str, CountedModel]
    """Counts of the requested models."""
    devices: frozenset[str] = frozenset()
    backends: frozenset[str] = frozenset()


def untestable_reason(claim: Claim, bench: CheckContext) -> Answer | None:
    """Return the answer to every question of a claim that cannot be checked here, or at all."""
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
    """Combine the answers under each reading of the claim; they must agree."""
    answers = list(readings.values())
    if len({answer.answer for answer in answers}) == 1:
        first = answers[0]
        if len(answers) == 1:
            return first
        reasons = tuple(f"{name}: {why}" for name, a in readings.items() for why in a.reasons)
        return Answer(
            answer=first.answer,
            reasons=reasons,
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
            f"{answer.answer} if it means {name}{': ' + '; '.join(answer.reasons)}"
            for name, answer in readings.items()
        ),
        needs=("a source that specifies which one it means",),
        where=answers[0].where,
        place=answers[0].place,
        records=answers[0].records,
    )
