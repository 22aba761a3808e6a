"""Operators' shares of the latency, and two profiles."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.analysis.operator_shares import pair_operators, profile_shares
from latbench.report.text.operator_times import operators
from latbench.schema.trace import OperatorTime, Profile


def profile(total_ns: int, **operators: int) -> Profile:
    return Profile(
        source="a profiler",
        calls=10,
        total_ns=total_ns,
        operators=tuple(
            OperatorTime(name=name, kind=name.partition("_")[0], time_ns=ns)
            for name, ns in operators.items()
        ),
    )


def test_times_are_shares_of_the_latency_without_the_profiler() -> None:
    found = profile_shares(profile(2000, conv_1=1000, conv_2=500, add=300), 1000)
    assert found.ratio == 2.0
    assert [each.latency_ns for each in found.operators] == [500, 250, 150]
    assert [each.share for each in found.operators] == [0.5, 0.25, 0.15]
    assert found.outside == pytest.approx(0.1)
    assert [(each.kind, each.operators) for each in found.kinds] == [("conv", 2), ("add", 1)]
    assert found.overlap is None


def test_operators_that_overlap_never_exceed_the_latency() -> None:
    found = profile_shares(profile(1000, outer=900, inner=900), 500)
    assert found.overlap == 1.8
    assert sum(each.latency_ns for each in found.operators) == pytest.approx(500)
    assert found.outside == 0


def test_without_a_latency_nothing_is_scaled() -> None:
    found = profile_shares(profile(1000, conv=700), None)
    assert (found.ratio, found.operators[0].latency_ns) == (None, 700)


@given(
    st.integers(0, 10**9),
    st.lists(st.integers(0, 10**8), max_size=20),
    st.none() | st.integers(1, 10**9),
)
def test_shares_add_up_to_the_whole(total: int, times: list[int], latency: int | None) -> None:
    found = profile_shares(profile(total, **{f"x_{i}": ns for i, ns in enumerate(times)}), latency)
    shares = sum(each.share for each in found.operators)
    if total or sum(times):
        assert shares + found.outside == pytest.approx(1)
    assert shares == pytest.approx(sum(each.share for each in found.kinds))


def test_operators_are_paired_by_name_and_the_largest_difference_is_first() -> None:
    a = profile_shares(profile(1000, conv_1=400, conv_2=300, old=100), 1000)
    b = profile_shares(profile(1000, conv_1=410, conv_2=500), 1000)
    pairs = pair_operators(a, b)
    assert [(pair.name, pair.difference_ns) for pair in pairs] == [
        ("conv_2", 200),
        ("old", -100),
        ("conv_1", 10),
    ]
    assert (pairs[1].a_ns, pairs[1].b_ns) == (100, None)


def test_numbers_in_place_of_names_are_paired_within_a_kind() -> None:
    def numbered(kind: str) -> Profile:
        operator = OperatorTime(name="0", kind=kind, time_ns=10)
        return Profile(source="", calls=1, total_ns=10, operators=(operator,))

    conv, add = (profile_shares(numbered(kind), 10) for kind in ("Conv", "Add"))
    assert len(pair_operators(conv, conv)) == 1
    assert len(pair_operators(conv, add)) == 2


def test_the_line_of_text_says_how_much_the_profiler_slowed_it_down() -> None:
    text = operators(profile(4_000_000, Conv_1=3_000_000), 1_000_000)
    assert text == (
        "1 Conv 75% (750 µs), between operators 25%; 4.00 ms with a profiler, 10 calls: 4x the latency"
    )
