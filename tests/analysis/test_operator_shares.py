from __future__ import annotations

import pytest

from latbench.analysis.operator_shares import profile_shares
from latbench.report.text.operator_times import operators
from latbench.schema.trace import OperatorTime, Profile


def profile_of(total_ns: int, *times: tuple[str, int]) -> Profile:
    return Profile(
        source="a profiler",
        calls=50,
        total_ns=total_ns,
        operators=tuple(
            OperatorTime(name=f"n{i}", kind=kind, time_ns=ns) for i, (kind, ns) in enumerate(times)
        ),
    )


def test_shares_are_of_the_inference_and_times_of_the_latency() -> None:
    found = profile_shares(
        profile_of(1000, ("Relu", 100), ("Conv", 400), ("Conv", 200)), latency_ns=500
    )
    conv, relu = found.kinds
    assert (conv.kind, conv.operators, conv.share, conv.latency_ns) == ("Conv", 2, 0.6, 300)
    assert (relu.kind, relu.operators, relu.share, relu.latency_ns) == ("Relu", 1, 0.1, 50)


def test_operators_that_overlap_share_their_sum() -> None:
    found = profile_shares(profile_of(1000, ("Conv", 1500), ("Relu", 500)), latency_ns=800).kinds
    assert [each.latency_ns for each in found] == [600, 200]
    assert sum(each.share for each in found) == pytest.approx(1)


def test_without_a_latency_times_are_those_of_the_profile() -> None:
    found = profile_shares(profile_of(1000, ("Conv", 900)), latency_ns=None)
    assert (found.kinds[0].share, found.kinds[0].latency_ns, found.ratio) == (0.9, 900, None)
    assert profile_shares(profile_of(0), latency_ns=5).kinds == ()


def test_the_text_says_how_much_the_profiler_slowed_it_down() -> None:
    text = operators(profile_of(4_000_000, ("Conv", 3_000_000)), latency_ns=1_000_000)
    assert text == (
        "1 Conv 75% (750 µs), between operators 25%; 4.00 ms with a profiler, 50 calls: 4x the latency"
    )
