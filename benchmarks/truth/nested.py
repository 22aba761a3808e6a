"""Coverage of latbench-warm@2 and @1 on simulated machines whose truth is known.

    python benchmarks/truth/nested.py [--repeats N] [--kept-back] [--protocols NAME ...] [--smoke]

The executor runs the whole protocol on a machine that is simulated call by call: starts, loads,
warm-ups, the sentinel, and variation between processes, loads and calls. Its clock moves by what it
simulates, so that the numbers do not depend on this machine and are the same each time. The truth
is the median over 400 processes of four loads of a second each.

``--kept-back`` runs the families that were not looked at while the protocol was built.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import NormalDist, mean, median

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

import msgspec

from latbench.analysis.summary import summarize
from latbench.schema.protocol import S, TimingProtocol
from latbench.schema.protocol_catalog import WARM_2
from latbench.schema.protocol_options import named_protocol
from latbench.schema.record import Record
from support.simulated import Bench, Machine

FAMILIES: Mapping[str, Machine] = {
    "loads 0.8 %, processes 0.4 %": Machine(),
    "nothing varies but calls": Machine(load=0, process=0),
    "loads 2 %, processes 0.2 %": Machine(load=0.02, process=0.002),
    "loads 0.2 %, processes 1.5 %": Machine(load=0.002, process=0.015),
    "both skewed": Machine(load=0.012, process=0.006, skew=0.8),
    "calls correlated, 0.9": Machine(rho=0.9),
    "calls vary by 8 %": Machine(noise=0.08),
    "a start of 2 s": Machine(start_ms=1000, awake_ms=1000),
    "a model of 0.4 ms": Machine(typical_ms=0.4, warmup=60),
    "a model of 150 ms": Machine(typical_ms=150),
    "a neighbor, +10 %": Machine(common=0.10),
    "a warm-up of 60 calls": Machine(warmup=60),
}
KEPT_BACK: Mapping[str, Machine] = {
    "loads 1.2 %, processes 0.9 %": Machine(load=0.012, process=0.009),
    "loads 3 %": Machine(load=0.03, process=0.003),
    "processes 3 %": Machine(load=0.004, process=0.03),
    "loads skewed, processes not": Machine(load=0.02, process=0.004, skew=1.2),
    "calls correlated, 0.97, 4 %": Machine(rho=0.97, noise=0.04),
    "long loads of 0.8 s": Machine(load_ms=800),
    "a start of 0.02 s": Machine(start_ms=10, awake_ms=5, load_ms=4),
    "a model of 1.5 ms, skewed": Machine(typical_ms=1.5, skew=0.5, load=0.01),
    "a model of 45 ms": Machine(typical_ms=45, load=0.012),
    "a rare neighbor, +40 %": Machine(common=0.4, busy_ms=(20, 200), idle_ms=(400, 3000)),
    "a slow neighbor, +5 %": Machine(common=0.05, busy_ms=(2000, 6000), idle_ms=(2000, 8000)),
    "a warm-up of 200 calls": Machine(warmup=200, typical_ms=3),
}


def truth_ns(bench: Bench, machine: Machine, processes: int) -> float:
    """The median over many processes, with the machine's own start-up."""
    long = msgspec.structs.replace(
        WARM_2,
        max_sessions=msgspec.UNSET,
        processes=processes,
        max_processes=processes,
        min_ns=S,
        target_ppm=None,
        budget_ns=None,
        sentinel_ns=None,
    )
    summary = summarize(bench.run(machine, long, seed=10**6).records[0])
    assert summary is not None
    return summary.median_ns


def timed_ns(record: Record) -> int:
    """All inferences of the model that were timed, warm-up included."""
    return sum(
        (trace.first_ns or 0) + sum(trace.warmup_ns) + sum(sum(b.sample_ns) for b in trace.blocks)
        for trace in record.outcome.traces
    )


def proportion(hits: int, of: int) -> str:
    """A proportion with its 95 % interval (Wilson 1927)."""
    z = NormalDist().inv_cdf(0.975)
    p = hits / of
    center = (p + z * z / (2 * of)) / (1 + z * z / of)
    half = z / (1 + z * z / of) * (p * (1 - p) / of + z * z / (4 * of * of)) ** 0.5
    return f"{p:.1%} ({center - half:.0%} to {center + half:.0%})"


def row(
    bench: Bench, machine: Machine, protocol: TimingProtocol, truth: float, repeats: int
) -> tuple[int, str]:
    """The times that the interval covers the truth, and the rest of the row."""
    covered = precise = called = 0
    walls, ratios, widths, processes, loads = [], [], [], [], []
    for seed in range(repeats):
        run = bench.run(machine, protocol, seed)
        record = run.records[0]
        summary = summarize(record)
        assert summary is not None
        low, high = summary.interval_ns or (0, 10**18)
        covered += low <= truth <= high
        precise += record.outcome.stopped == "precise"
        called += summary.reliability == "unreliable"
        walls.append(run.wall_ms / 1000)
        ratios.append(run.wall_ms * 1e6 / timed_ns(record))
        widths.append(summary.half_width or 1.0)
        processes.append(summary.processes)
        loads.append(len(record.outcome.traces) / summary.processes)
    late = sorted(walls)[round(0.95 * (len(walls) - 1))]
    return covered, (
        f"{proportion(covered, repeats)} | ±{median(widths):.2%} | {precise / repeats:.0%} "
        f"| {median(walls):.0f} ({late:.0f}) | {median(ratios):.2f} | {mean(processes):.1f} "
        f"| {mean(loads):.1f} | {called / repeats:.0%} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--kept-back", action="store_true")
    parser.add_argument("--families", nargs="*")
    parser.add_argument(
        "--protocols", nargs="+", default=["latbench-warm@1", "latbench-warm@2"], metavar="NAME"
    )
    parser.add_argument("--smoke", action="store_true", help="run every step once, with tiny sizes")
    args = parser.parse_args()
    families, many = KEPT_BACK if args.kept_back else FAMILIES, 400
    if args.families:
        families = {name: families[name] for name in args.families}
    if args.smoke:
        args.repeats, many, families = 1, 6, dict(list(families.items())[:2])
    print(
        "| family | protocol | 95 % interval covered | half-width, median | target reached "
        "| seconds, median (19 of 20) | wall / the model's timed inferences | processes "
        "| loads in each | called unreliable |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    hits = dict.fromkeys(args.protocols, 0)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        for name, machine in families.items():
            truth = truth_ns(bench, machine, many)
            for label in args.protocols:
                covered, text = row(bench, machine, named_protocol(label), truth, args.repeats)
                hits[label] += covered
                print(f"| {name} | {label} | {text}", flush=True)
    for label, count in hits.items():
        print(f"\nall families, {label}: {proportion(count, args.repeats * len(families))}")


if __name__ == "__main__":
    main()
