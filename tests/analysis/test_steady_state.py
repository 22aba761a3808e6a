"""Warm-up, levels and trends in samples whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latbench.analysis.steady_state import (
    burst_end,
    has_steady_state,
    levels,
    trend,
    warmup_end,
)
from support.noise import autocorrelated

SHAPES = {
    "step": lambda k, w: np.where(k < w, 0.3, 0.0),
    "line": lambda k, w: np.clip(1 - k / w, 0, 1),
}


@pytest.mark.parametrize("length", [5, 30, 100])
@pytest.mark.parametrize("shape", list(SHAPES))
@pytest.mark.parametrize("rho", [0.0, 0.6])
def test_the_end_of_warm_up_is_found(length: int, shape: str, rho: float) -> None:
    errors = []
    for seed in range(60):
        slow = 1 + SHAPES[shape](np.arange(400), length)
        end = warmup_end(autocorrelated(400, rho, seed) * slow)
        assert end is not None
        errors.append(end - length)
    assert abs(np.median(errors)) <= 2
    assert np.quantile(np.abs(errors), 0.9) <= 15


@pytest.mark.parametrize("rho", [0.0, 0.6, 0.9])
def test_where_there_is_none_little_is_taken_off(rho: float) -> None:
    ends = [warmup_end(autocorrelated(400, rho, seed)) for seed in range(200)]
    assert sum(end is None for end in ends) <= 4
    assert np.mean([end or 0 for end in ends]) < (2 if rho < 0.9 else 20)


def test_warm_up_that_does_not_end_has_no_end() -> None:
    assert warmup_end(np.linspace(2e6, 1e6, 300)) is None


@pytest.mark.parametrize("rho", [0.0, 0.6, 0.9])
@pytest.mark.parametrize("noise", [0.005, 0.02, 0.1])
def test_a_steady_process_has_one_level_and_no_trend(rho: float, noise: float) -> None:
    found = [autocorrelated(600, rho, seed, noise) for seed in range(100)]
    assert sum(levels(samples) != (0,) for samples in found) <= 8
    assert sum(trend(samples) != 0 for samples in found) <= 8


@pytest.mark.parametrize("change", [0.05, -0.05, 0.5])
def test_a_change_of_level_is_found_where_it_is(change: float) -> None:
    for seed in range(30):
        samples = autocorrelated(600, 0.3, seed, 0.01)
        samples[250:] *= 1 + change
        starts = levels(samples)
        assert len(starts) == 2
        assert abs(starts[1] - 250) <= 30
        assert has_steady_state(600, starts)


def test_levels_that_come_and_go_are_no_steady_state() -> None:
    samples = autocorrelated(800, 0.0, 1, 0.01) * np.repeat([1, 1.3, 1, 1.4, 1, 1.2, 1, 1.3], 100)
    assert not has_steady_state(800, levels(samples))


@pytest.mark.parametrize("change", [0.05, -0.05])
def test_a_slow_drift_is_found(change: float) -> None:
    for seed in range(30):
        samples = autocorrelated(600, 0.3, seed, 0.01) * np.linspace(1, 1 + change, 600)
        if levels(samples) == (0,):
            assert trend(samples) == pytest.approx(change, abs=0.015)


@settings(deadline=None)
@given(st.lists(st.floats(-1e18, 1e18), max_size=300))
def test_any_samples_have_an_answer(values: list[float]) -> None:
    samples = np.asarray(values)
    end = warmup_end(samples)
    assert end is None or 0 <= end <= len(values) // 2
    starts = levels(samples)
    assert starts[0] == 0
    assert list(starts) == sorted(set(starts))
    assert np.isfinite(trend(samples))


@pytest.mark.parametrize("share", [0.3, 0.4, 0.5, 0.6])
@pytest.mark.parametrize("count", [300, 1000])
def test_two_modes_side_by_side_are_one_level(share: float, count: int) -> None:
    found = 0
    for seed in range(100):
        draw = np.random.default_rng(seed)
        found += levels(np.where(draw.random(count) < share, 1.05e6, 1e6)) != (0,)
    assert found <= 8


@pytest.mark.parametrize("length", [20, 60, 100])
def test_a_burst_at_the_start_is_found(length: int) -> None:
    for seed in range(30):
        samples = autocorrelated(600, 0.3, seed, 0.01)
        samples[:length] *= 0.5
        assert abs(burst_end(samples) - length) <= 15
        assert (warmup_end(samples) or 0) <= length + 15


@pytest.mark.parametrize("rho", [0.0, 0.6, 0.9])
def test_a_steady_process_has_no_burst(rho: float) -> None:
    assert sum(burst_end(autocorrelated(400, rho, seed)) > 0 for seed in range(200)) <= 8


def test_a_level_that_lasts_is_no_burst() -> None:
    samples = autocorrelated(600, 0.3, 1, 0.01)
    samples[:250] *= 0.9
    assert burst_end(samples) == 0
    assert len(levels(samples)) == 2
