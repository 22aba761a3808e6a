"""Estimators against simulated truth. Bounds are wide enough for the seeds to be of no matter."""

from __future__ import annotations

from itertools import pairwise
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.analysis.stats import (
    interpolated,
    kendall_p,
    middle,
    order_interval,
    quantile,
    serial_interval,
    student_interval,
    student_quantile,
    supported,
)
from support.noise import autocorrelated

LEVELS = st.lists(st.floats(1, 1e9), min_size=6, max_size=40)


@given(LEVELS)
def test_the_interval_is_of_order_statistics_and_holds_the_median(values: list[float]) -> None:
    interval = order_interval(values, 0.95)
    assert interval is not None
    slack = 1e-9 * max(values)
    assert min(values) - slack <= interval[0] <= np.median(values) + slack
    assert np.median(values) - slack <= interval[1] <= max(values) + slack


@given(LEVELS)
def test_more_confidence_is_never_narrower(values: list[float]) -> None:
    intervals = [order_interval(values, confidence) for confidence in (0.5, 0.8, 0.9, 0.95, 0.99)]
    for inner, outer in pairwise(intervals):
        assert inner is not None
        assert outer is not None
        slack = 1e-9 * max(values)
        assert outer[0] <= inner[0] + slack
        assert inner[1] <= outer[1] + slack


@given(st.lists(st.floats(1, 1e9), max_size=5))
def test_fewer_than_six_values_have_none(values: list[float]) -> None:
    assert order_interval(values, 0.95) is None


def test_at_an_attained_coverage_it_is_the_order_statistic() -> None:
    values = [float(i) for i in range(10)]
    covered = 1 - 2 * (1 + 10) / 2**10
    assert order_interval(values, covered) == pytest.approx((1.0, 8.0))
    assert covered == pytest.approx(1 - 2 * sum(comb(10, k) for k in (0, 1)) / 2**10)


@pytest.mark.parametrize("n", [6, 7, 9, 12, 20])
@pytest.mark.parametrize("shape", ["normal", "exponential", "lognormal", "two modes"])
def test_it_covers_as_often_as_it_says(n: int, shape: str) -> None:
    draw = np.random.default_rng(n)
    z = draw.standard_normal((3000, n))
    values, truth = {
        "normal": (z, 0.0),
        "exponential": (draw.exponential(1, (3000, n)), float(np.log(2))),
        "lognormal": (np.exp(z), 1.0),
        # Eight of ten processes are in the fast mode, so the median is within it.
        "two modes": (
            np.where(draw.random((3000, n)) < 0.8, z, 50 + z),
            float(np.quantile(np.random.default_rng(0).standard_normal(10**6), 0.625)),
        ),
    }[shape]
    hits = sum(
        low <= truth <= high
        for low, high in (order_interval(row, 0.95) or (0, 0) for row in values.tolist())
    )
    assert 0.93 <= hits / 3000 <= 0.985


def test_student_quantiles() -> None:
    for dof, expected in ((2, 4.3027), (5, 2.5706), (10, 2.2281), (30, 2.0423), (1000, 1.9623)):
        assert student_quantile(0.975, dof) == pytest.approx(expected, rel=0.015)


def test_student_interval_covers_normal_values() -> None:
    draw = np.random.default_rng(5)
    rows = 1000 * np.exp(0.02 * draw.standard_normal((2000, 4)))
    hits = sum(
        low <= 1000 <= high for low, high in (student_interval(r, 0.95) or (0, 0) for r in rows)
    )
    assert 0.93 <= hits / 2000 <= 0.97
    assert student_interval([1, 2], 0.95) is None
    assert student_interval([1, 2, 0], 0.95) is None


@pytest.mark.parametrize(("rho", "least"), [(0.0, 0.92), (0.6, 0.9), (0.9, 0.86)])
def test_autocorrelated_samples_are_worth_less_than_they_count(rho: float, least: float) -> None:
    hits, worths = 0, []
    for seed in range(200):
        interval, worth = serial_interval([autocorrelated(1000, rho, seed)], 0.5, 0.95)
        hits += interval is None or interval[0] <= 1e6 <= interval[1]
        worths.append(worth)
    assert hits / 200 >= least
    # For AR(1) the mean's variance is (1 + rho) / (1 - rho) times that of independent samples.
    assert np.median(worths) == pytest.approx(1000 * (1 - rho) / (1 + rho), rel=0.8)


def test_processes_that_differ_widen_the_interval_of_a_percentile() -> None:
    draw = np.random.default_rng(8)
    simulated = np.concatenate(
        [
            np.exp(0.02 * draw.standard_normal()) + 0.01 * draw.standard_normal(50)
            for _ in range(20000)
        ]
    )
    truth, hits = float(np.quantile(simulated, 0.9)), 0
    for _ in range(300):
        parts = [
            np.exp(0.02 * draw.standard_normal()) + 0.01 * draw.standard_normal(300)
            for _ in range(6)
        ]
        interval, worth = serial_interval(parts, 0.9, 0.95)
        assert worth > 400  # which is not what makes it uncertain
        hits += interval is None or interval[0] <= truth <= interval[1]
    assert hits / 300 >= 0.9


def test_samples_that_hang_together_to_the_end_have_no_interval() -> None:
    found = [serial_interval([autocorrelated(50, 0.95, seed)], 0.5, 0.95)[0] for seed in range(50)]
    assert sum(interval is None for interval in found) >= 25


def test_a_few_samples_have_no_interval() -> None:
    assert serial_interval([np.arange(5.0)], 0.5, 0.95)[0] is None


def test_support_is_as_published() -> None:
    assert not supported(0.9, 43)
    assert supported(0.9, 44)
    assert not supported(0.99, 458)
    assert supported(0.99, 459)


def test_kendall_is_exact() -> None:
    assert kendall_p([1, 2, 3, 4, 5, 6]) == pytest.approx(2 / 720)
    assert kendall_p([6, 5, 4, 3, 2, 1]) == pytest.approx(2 / 720)
    assert kendall_p([1, 2, 3, 4, 6, 5]) == pytest.approx(2 * 6 / 720)
    assert kendall_p([5, 5, 5, 5, 5, 5]) == 1
    assert kendall_p([1, 2, 3]) == 1


@given(st.lists(st.integers(1, 100), min_size=1), st.sampled_from([0.1, 0.5, 0.9]))
def test_quantile_has_that_share_at_or_below(values: list[int], q: float) -> None:
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    found = quantile(ordered, q)
    assert sum(v <= found for v in values) >= q * len(values)
    assert sum(v < found for v in values) < q * len(values) or found == ordered[0]


@given(
    st.lists(st.integers(0, 2**40), min_size=1, max_size=60),
    st.sampled_from((0.0, 0.1, 0.25, 0.5, 0.9, 1.0)),
)
def test_quantiles_are_numpys(values: list[int], q: float) -> None:
    array = np.asarray(values, dtype=np.float64)
    assert interpolated(array, q) == pytest.approx(float(np.quantile(array, q)), rel=1e-12)
    assert middle(array) == float(np.median(array))
    assert quantile(np.sort(array), q) == float(np.quantile(array, q, method="inverted_cdf"))


def test_ties_are_no_trend() -> None:
    # Of the orders of six values, five of them equal, one in three has the sixth at an end.
    assert kendall_p([1, 1, 1, 1, 1, 1.2]) > 0.1
    assert kendall_p([1, 1, 2, 2, 3, 3]) < kendall_p([1, 1, 1, 1, 1, 1.2])


@pytest.mark.filterwarnings("error")
def test_many_parts_of_few_samples_give_no_interval() -> None:
    parts = [np.asarray([1.0, 2.0, 3.0])] * 16
    assert serial_interval(parts, 0.5, 0.95) == (None, 0.0)
