"""The probe of this machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from latbench.host.noise import probe_machine, read_noise_settings


def test_each_usable_cpu_is_probed_and_the_affinity_restored() -> None:
    own = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else {None}
    left: list[float] = []
    found = probe_machine(0.05, left.append)
    assert {each.cpu for each in found} == own
    assert len(found) == len(left) == 2 * len(own)
    for each in found:
        assert each.probe_ns
        assert min(each.probe_ns) > 0
        assert each.readings.wall_ns > 0
    assert not hasattr(os, "sched_getaffinity") or os.sched_getaffinity(0) == own


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and /sys")
def test_settings_are_read_or_unknown(tmp_path: Path) -> None:
    nothing = read_noise_settings(tmp_path)
    assert (nothing.governors, nothing.huge_pages, nothing.timer_slack_ns) == (None, None, None)
    for path, text in (
        ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
        ("proc/self/timerslack_ns", "50000\n"),
        ("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n"),
        ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n"),
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    found = read_noise_settings(tmp_path)
    assert (found.huge_pages, found.timer_slack_ns, found.clock_source, found.governors) == (
        *("madvise", 50_000, "tsc"),
        ("powersave",),
    )
