"""Time to summarize, show and compare records of 100,000 samples.

    python benchmarks/analysis.py [--samples N] [--rounds N] [--smoke]

Goal: each within 0.5 s. The commands are whole programs, their start included.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import msgspec

from latbench.analysis.comparison import compare
from latbench.analysis.summary import summarize
from latbench.schema.protocol import protocol_sha256
from latbench.schema.protocol_catalog import WARM
from latbench.schema.record import Interleaved, Record
from latbench.schema.trace import Block, Readings, Trace
from latbench.store.registry import Registry
from support.noise import autocorrelated
from support.records import make_record

QUIET = Readings(
    wall_ns=10**8,
    cpu_ns=10**8,
    wait_ns=10_000,
    involuntary_switches=0,
    others_ns=0,
    steal_ns=0,
    throttled_ns=0,
    frequency_khz=None,
    temperature_mc=None,
)


def big(part: int, samples: int) -> Record:
    """Ten processes, blocks of 100."""
    traces = []
    for process in range(10):
        values = [int(ns) for ns in autocorrelated(samples // 10, 0.5, 10 * part + process)]
        blocks = tuple(
            Block(start_ns=i * 10**6, sample_ns=tuple(values[i : i + 100]), readings=QUIET)
            for i in range(0, len(values), 100)
        )
        traces.append(
            Trace(
                process=process,
                load_ns=1,
                first_ns=1,
                warmup_ns=(),
                blocks=blocks,
                peak_rss_bytes=None,
            )
        )
    base = make_record(id=f"{part:026d}", traces=traces)
    outcome = msgspec.structs.replace(base.outcome, sentinel=tuple(traces), checks=())
    together = Interleaved(comparison="c", part=part, parts=2, order_seed=0)
    return msgspec.structs.replace(
        base,
        outcome=outcome,
        protocol=WARM,
        protocol_sha256=protocol_sha256(WARM),
        interleaved=together,
    )


def timed(what: str, action: Callable[[], object], rounds: int) -> None:
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        action()
        times.append(time.perf_counter() - begun)
    print(f"| {what} | {median(times):.3f} s | {max(times):.3f} s |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--smoke", action="store_true", help="run every step once, with tiny sizes")
    args = parser.parse_args()
    if args.smoke:
        args.samples, args.rounds = 2_000, 1
    print(f"| {args.samples:,} samples | median | most |")
    print("|---|---|---|")
    a, b = big(0, args.samples), big(1, args.samples)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/r.db"
        os.environ["LATBENCH_REGISTRY"] = path
        # An installed package's bytecode is cached, whatever this shell says of a checkout's.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        with Registry.open(path) as registry:
            registry.add_many((a, b))

        def command(*arguments: str) -> None:
            subprocess.run(
                [sys.executable, "-m", "latbench", *arguments], capture_output=True, check=False
            )

        timed("`summarize`", lambda: summarize(a), args.rounds)
        timed("`compare` of two", lambda: compare(a, b), args.rounds)
        timed("`latbench show ID`", lambda: command("show", a.id), args.rounds)
        timed("`latbench show ID --json`", lambda: command("show", a.id, "--json"), args.rounds)
        timed(
            "`latbench compare --records ID ID`",
            lambda: command("compare", "--records", a.id, b.id),
            args.rounds,
        )


if __name__ == "__main__":
    main()
