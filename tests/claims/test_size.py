"""Answers that take no record: bounds of counts, orderings, and what nothing here can measure."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from latbench.claims.judge import verdict
from latbench.claims.model import Claim, ClaimedModel
from latbench.claims.quantities import PrintedValue
from latbench.claims.verdict import Answer, CheckContext, CountedModel


def exact(count: int) -> PrintedValue:
    return PrintedValue(value=count, low=count, high=count)


BENCH = CheckContext(
    models={
        "one": ClaimedModel(id="one", name="One", build="one"),
        "two": ClaimedModel(id="two", name="Two", build="two"),
        "lost": ClaimedModel(id="lost", name="Lost", absent="no code", unreleased=True),
    },
    counts={
        "one": CountedModel(parameters=exact(5_271_074), macs=exact(662_142_336)),
        "two": CountedModel(parameters=exact(21_198_568), macs=exact(4_038_000_000)),
    },
)


def claim(says: dict[str, Any], **changes: Any) -> Claim:
    tree = {"id": "c", "model": "one", "says": says, "by": "authors"}
    source = {"id": "paper", "where": "Table 1"}
    return msgspec.convert({**tree, "source": source, **changes}, Claim)


def static(says: dict[str, Any]) -> Answer:
    found = verdict(claim(says), (), BENCH).static
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("sense", "figure", "unit", "answer"),
    [
        ("below", "5", "M", "refuted"),
        ("below", "5.2", "M", "refuted"),
        ("below", "5.3", "M", "confirmed"),
        ("below", "6", "M", "confirmed"),
        ("above", "5.3", "M", "refuted"),
        ("above", "5.2", "M", "confirmed"),
        ("above", "5271074", "", "confirmed"),
        ("above", "5271075", "", "refuted"),
    ],
)
def test_a_bound_is_a_threshold(sense: str, figure: str, unit: str, answer: str) -> None:
    said = {"kind": "bound", "metric": "parameters", "figure": figure, "unit": unit}
    assert static({**said, "sense": sense}).answer == answer


@pytest.mark.parametrize(("sense", "answer"), [("less", "confirmed"), ("more", "refuted")])
def test_an_ordering_of_counts_is_of_their_ratio(sense: str, answer: str) -> None:
    found = static({"kind": "ordering", "metric": "macs", "sense": sense, "against": "two"})
    assert (found.answer, found.unit) == (answer, "ratio")
    assert found.found == pytest.approx(662_142_336 / 4_038_000_000)


UNMEASURED = [
    {"kind": "ordering", "metric": "memory", "sense": "less", "against": "two"},
    {"kind": "ordering", "metric": "time-steps", "sense": "less", "against": "two"},
    {"kind": "parity", "metric": "accuracy", "against": "two", "tolerance_percent": 1.0}
    | {"tolerance_from": "source"},
    {"kind": "scaling", "metric": "memory", "over": "tokens", "exponent": 1.0},
    {"kind": "value", "metric": "accuracy", "figure": "75.7", "unit": "%"},
    {"kind": "size", "metric": "memory", "figure": "320", "unit": "KB"},
    {"kind": "ratio", "metric": "memory", "figure": "2", "unit": "x"}
    | {"sense": "less", "against": "two"},
]


@pytest.mark.parametrize("says", UNMEASURED)
def test_what_cannot_be_measured_is_told(says: dict[str, Any]) -> None:
    (found,) = verdict(claim(says), (), BENCH).answers()
    assert found.answer == "not testable here"
    assert found.reasons == (f"latbench does not measure {says['metric']}",)


@pytest.mark.parametrize("says", UNMEASURED)
def test_what_nobody_can_check_is_told_first(says: dict[str, Any]) -> None:
    (found,) = verdict(claim(says, model="lost"), (), BENCH).answers()
    assert found.answer == "unverifiable"
    (found,) = verdict(claim(says, out_of_scope="video"), (), BENCH).answers()
    assert found.reasons == ("video",)
