"""Probe this machine for what disturbs latencies: fixed work, timed on one CPU after the other."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from latbench.host import linux
from latbench.host.counters import between, snapshot
from latbench.schema.noise import NoiseSettings, NoiseSlice

SLICE_NS = 100_000_000
"""Time on one CPU before the next: as long as a block, so that both meet the same disturbances."""
WORK = bytes(256 * 1024)
"""Hashed repeatedly: fixed work that stays in the cache."""
PROBE_NS = 2_000_000
"""Duration of a probe: that of a call of a small network, which a neighbor meets as often."""
NAP_S = 0.001
HUGE_PAGES = "sys/kernel/mm/transparent_hugepage/enabled"
CLOCK_SOURCE = "sys/devices/system/clocksource/clocksource0/current_clocksource"


def probe_machine(
    seconds: float, progress: Callable[[float], None] = lambda _: None
) -> tuple[NoiseSlice, ...]:
    """Time the fixed work for ``seconds``, in slices, on one usable CPU after the other.

    ``progress`` is called with the seconds left before each slice. Where threads cannot be bound to
    a CPU (macOS), all slices have no CPU.
    """
    bind = getattr(os, "sched_setaffinity", None)
    own = sorted(os.sched_getaffinity(0)) if bind is not None else [None]
    repeats = max(1, PROBE_NS // min(_hash_ns(1) for _ in range(20)))
    end = time.monotonic() + seconds
    found: list[NoiseSlice] = []
    try:
        while (left := end - time.monotonic()) > 0 or len(found) < 2 * len(own):
            progress(max(left, 0.0))
            cpu = own[len(found) % len(own)]
            if bind is not None and cpu is not None:
                bind(0, {cpu})
            found.append(_slice(cpu, repeats))
    finally:
        if bind is not None:
            bind(0, own)
    return tuple(found)


def _slice(cpu: int | None, repeats: int) -> NoiseSlice:
    probes: list[int] = []
    offset = _clock_offset()
    time.sleep(0)  # The scheduler moves the thread to the CPU before the first probe.
    before = snapshot()
    end = time.perf_counter_ns() + SLICE_NS
    while time.perf_counter_ns() < end:
        probes.append(_hash_ns(repeats))
    readings = between(before, snapshot())
    asleep = time.perf_counter_ns()
    time.sleep(NAP_S)
    late = time.perf_counter_ns() - asleep - round(NAP_S * 1e9)
    return NoiseSlice(
        cpu=cpu,
        # The first probe fills the cache of the CPU.
        probe_ns=tuple(probes[1:]) or tuple(probes),
        readings=readings,
        sleep_late_ns=max(late, 0),
        clock_step_ns=_clock_offset() - offset,
    )


def _hash_ns(repeats: int) -> int:
    begun = time.perf_counter_ns()
    for _ in range(repeats):
        hashlib.sha256(WORK)
    return time.perf_counter_ns() - begun


def _clock_offset() -> int:
    """Calendar time minus monotonic time: constant unless the calendar clock is set."""
    return time.time_ns() - time.monotonic_ns()


def read_noise_settings(root: Path = Path("/")) -> NoiseSettings:
    """Read settings of the kernel that make latencies vary; what cannot be read is ``None``."""
    if sys.platform != "linux":
        return NoiseSettings()
    slack = None
    with suppress(OSError, ValueError):
        slack = int((root / "proc/self/timerslack_ns").read_text())
    chosen = re.search(r"\[(\w+)\]", linux.read(root / HUGE_PAGES) or "")
    return NoiseSettings(
        governors=linux.governors(root),
        turbo=linux.turbo(root),
        smt=linux.smt(root),
        hypervisor=linux.hypervisor(root),
        timer_slack_ns=slack,
        huge_pages=chosen[1] if chosen else None,
        clock_source=linux.read(root / CLOCK_SOURCE),
    )
