"""What a check of a claim answers, and what it may use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from latbench.core.claims import Claim, ClaimedModel
from latbench.core.figures import Figure
from latbench.core.values import Value

AnswerName = Literal["confirmed", "refuted", "inconclusive", "not testable here", "unverifiable"]


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
    unit: Literal["ns", "count", "ratio"] | None = None
    records: tuple[str, ...] = ()


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
        alone = tuple(answer for answer in (self.value, self.static) if answer is not None)
        return (*alone, *self.ordering)


class CountedModel(Value, frozen=True, kw_only=True):
    """Parameters and MACs of a model, each as an interval: exact where it was counted."""

    parameters: Figure | None = None
    macs: Figure | None = None
    more_macs: int = 0
    """That our counting leaves out; see :class:`~latbench.core.claims.Uncounted`."""
    source: str | None = None
    """Of published counts; ``None`` where they were counted here."""
    counted: bool = True
    missing: str | None = None
    """Why there are none."""


class Bench(Value, frozen=True, kw_only=True):
    """What can be reached from here."""

    models: Mapping[str, ClaimedModel]
    counts: Mapping[str, CountedModel]
    """Of the models that were asked for."""
    devices: frozenset[str] = frozenset()
    backends: frozenset[str] = frozenset()


def beyond(claim: Claim, bench: Bench) -> Answer | None:
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
        records=answers[0].records,
    )
