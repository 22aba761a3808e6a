"""Planted causes of noise are named, and no others."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from latbench.analysis.noise import judge_noise, smallest_difference
from latbench.schema.noise import NoiseSettings, NoiseSlice
from latbench.schema.trace import Readings

WALL = 100_000_000
QUIET = Readings(
    wall_ns=WALL,
    cpu_ns=WALL,
    wait_ns=0,
    involuntary_switches=0,
    others_ns=0,
    steal_ns=0,
    throttled_ns=0,
    frequency_khz=None,
    temperature_mc=None,
)


def slices(
    count: int = 40, *, spread: float = 0.0, seed: int = 1, **changes: Any
) -> list[NoiseSlice]:
    """Slices on two CPUs in turn. ``spread`` is the deviation of the speed of a slice."""
    rng = random.Random(seed)
    own = {key: changes.pop(key) for key in list(changes) if key in NoiseSlice.__struct_fields__}
    return [
        NoiseSlice(
            cpu=i % 2,
            probe_ns=(round(2e6 * (1 + rng.gauss(0, spread))),) * 20,
            readings=msgspec.structs.replace(QUIET, **changes),
            sleep_late_ns=own.get("sleep_late_ns", 60_000),
            clock_step_ns=own.get("clock_step_ns", 1000),
        )
        for i in range(count)
    ]


def causes(found: list[NoiseSlice], settings: NoiseSettings | None = None) -> list[str]:
    report = judge_noise(found, settings or NoiseSettings(), seconds=4.0, cpus=2)
    return [each.cause for each in report.causes]


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({}, []),
        ({"others_ns": WALL // 2}, ["neighbors"]),
        ({"wait_ns": WALL // 20}, ["neighbors"]),
        ({"steal_ns": WALL // 20}, ["steal"]),
        ({"throttled_ns": WALL // 100}, ["CPU quota"]),
        ({"throttle_flags": 4}, ["throttling"]),
        ({"cooling_state": 1}, ["throttling"]),
        ({"clock_step_ns": -3_600_000_000_000}, ["clock steps"]),
        ({"sleep_late_ns": 2_000_000}, ["late timers"]),
        # What cannot be read is not a cause.
        ({"others_ns": None, "wait_ns": None, "steal_ns": None, "throttled_ns": None}, []),
    ],
)
def test_what_was_measured_is_named(changes: dict[str, Any], cause: list[str]) -> None:
    assert causes(slices(**changes)) == cause


def test_speeds_of_cpus_and_of_moments_are_told_apart() -> None:
    steady = slices()
    one = [
        msgspec.structs.replace(each, probe_ns=(2_500_000,) * 20) if each.cpu else each
        for each in steady
    ]
    assert causes(one) == ["CPUs of different speed"]
    half = [
        msgspec.structs.replace(each, probe_ns=(2_500_000,) * 20) if i % 8 < 4 else each
        for i, each in enumerate(steady)
    ]
    assert causes(half) == ["changing speed"]
    # A slice that waited for its CPU says nothing about the speed.
    waiting = msgspec.structs.replace(QUIET, wait_ns=WALL // 2)
    busy = [
        msgspec.structs.replace(each, readings=waiting) if i % 8 < 4 else each
        for i, each in enumerate(half)
    ]
    assert causes(busy) == ["neighbors"]


def test_the_worst_cause_is_first_and_settings_are_last() -> None:
    found = slices(wait_ns=WALL // 50 + 1_000_000, steal_ns=WALL)
    settings = NoiseSettings(
        governors=("powersave", "performance"), huge_pages="always", clock_source="hpet", turbo=True
    )
    assert causes(found, settings) == [
        *("steal", "neighbors", "governor", "turbo", "huge pages", "clock source")
    ]
    calm = NoiseSettings(
        governors=("performance",), huge_pages="madvise", clock_source="tsc", turbo=False
    )
    assert causes(slices(), calm) == []


def test_the_smallest_difference_grows_with_the_noise() -> None:
    found = [smallest_difference(slices(400, spread=spread)) for spread in (0.001, 0.01, 0.05)]
    assert None not in found
    one, two, three = (value or 0.0 for value in found)
    assert 8 < two / one < 12
    assert 4 < three / two < 6
    assert smallest_difference(slices(10)) is None
