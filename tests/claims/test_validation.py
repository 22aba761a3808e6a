"""Figures of claims that have no problems can be compared with what is found."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.claims.model import Claim, ClaimedModel
from latbench.claims.quantities import quotients, stated_figure
from latbench.claims.statements import StatedRatio
from latbench.claims.validation import Known, claim_problems

KNOWN = Known(
    models={id: ClaimedModel(id=id, name=id, build=id) for id in ("one", "two")},
    devices={},
    sources=frozenset({"paper"}),
)
NUMBERS = st.from_regex(r"[0-9]{1,4}(\.[0-9]{1,3})?", fullmatch=True)
FIGURES = st.one_of(
    NUMBERS,
    st.integers(2, 99).map("1/{}".format),
    st.tuples(NUMBERS, NUMBERS).map("-".join),
    st.sampled_from(("0", "0.0", "0-2", "0-100", "50-100", "99.9", "100", "200")),
)
AROUND = st.one_of(
    st.none(), st.sampled_from((-100.0, -1.0, 0.0, math.nan, math.inf)), st.floats(0, 150)
)


def claim(says: dict[str, Any]) -> Claim:
    tree = {"id": "c", "model": "one", "says": says, "by": "authors"}
    return msgspec.convert({**tree, "source": {"id": "paper", "where": "Table 1"}}, Claim)


def problems(says: dict[str, Any]) -> list[str]:
    """Of the figure alone."""
    found = claim_problems(claim(says), KNOWN)
    return [each.message for each in found if each.path[0] == "says"]


def ratio(figure: str, unit: str, sense: str, **more: Any) -> dict[str, Any]:
    said = {"kind": "ratio", "metric": "latency", "figure": figure, "unit": unit, "sense": sense}
    return {**said, "against": "two", **more}


@given(
    FIGURES,
    st.sampled_from(("x", "%")),
    st.sampled_from(("less", "more", "of")),
    st.sampled_from(("latency", "throughput", "parameters")),
    st.sampled_from((None, "time", "rate", "open")),
    AROUND,
)
def test_a_ratio_without_problems_can_be_held_against_a_measured_one(
    figure: str, unit: str, sense: str, metric: str, reading: str | None, around: float | None
) -> None:
    said = ratio(figure, unit, sense, metric=metric, reading=reading, around_percent=around)
    if problems(said):
        return
    says = claim(said).says
    assert isinstance(says, StatedRatio)
    found = quotients(says)
    assert found
    for low, high in found.values():
        assert 0 <= low < high < math.inf
        if metric == "throughput":
            assert 1 / low < math.inf


@given(FIGURES, st.sampled_from(("latency", "throughput")), st.sampled_from(("value", "bound")))
def test_a_timed_figure_without_problems_has_a_rate(figure: str, metric: str, kind: str) -> None:
    unit = "ms" if metric == "latency" else "images/s"
    said = {"kind": kind, "metric": metric, "figure": figure, "unit": unit}
    said |= {"sense": "below"} if kind == "bound" else {}
    if problems(said):
        return
    found = stated_figure(claim(said))
    assert found is not None
    assert found.low > 0 or (metric == "latency" and found.range)
    assert (found.value is None) == found.range
    assert not (kind == "bound" and found.range)


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        (ratio("200", "%", "more", reading="open"), {"time": (2.995, 3.005)}),
        (ratio("200", "%", "less", reading="open"), {"rate": (1 / 3.005, 1 / 2.995)}),
        (ratio("90", "%", "less", reading="time", around_percent=20.0), {"time": (0, 0.2541667)}),
        (ratio("50", "%", "more", reading="rate"), {"rate": (1 / 0.505, 1 / 0.495)}),
        (ratio("20", "%", "less", metric="throughput"), {"": (0.795, 0.805)}),
    ],
)
def test_a_reading_that_is_impossible_is_left_out(
    said: dict[str, Any], wanted: dict[str, tuple[float, float]]
) -> None:
    assert problems(said) == []
    says = claim(said).says
    assert isinstance(says, StatedRatio)
    found = quotients(says)
    assert set(found) == set(wanted)
    for name, ends in wanted.items():
        assert found[name] == pytest.approx(ends)
