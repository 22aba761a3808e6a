"""Coverage of intervals and correctness of verdicts, on traces whose truth is known.

    python benchmarks/truth/synthetic.py [--repeats N] [--processes 6 12] [--samples N]
                                          [--smoke]

The truth of a family is the median over processes of each process's steady median, from 4,000
simulated processes: the quantity called ``typical``. A process has a level of its own (1 %
between processes) and noise around it (2 %), unless its family says otherwise.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "tests"))

import msgspec
import numpy as np

from latbench.analysis.estimators import SEQUENTIAL_CONFIDENCE
from latbench.analysis.stats import order_interval
from latbench.analysis.summary import Summary, summarize
from latbench.schema.protocol_catalog import WARM
from latbench.schema.record import Record
from latbench.schema.trace import Block, Readings, Trace
from support.records import make_record

LEVEL, NOISE, BETWEEN, BLOCK = 1e6, 0.02, 0.01, 20
Samples = np.ndarray
Make = Callable[[np.random.Generator, int], Samples]


@dataclass(frozen=True, kw_only=True)
class Family:
    """How the samples of one process are drawn, and what a summary should say about them."""

    make: Make
    warmup: int = 0
    steady: bool = True
    """Whether one number describes the latency."""
    marked: bool = False
    """Whether readings mark the slow blocks."""


def ar1(rho: float) -> Make:
    def make(draw: np.random.Generator, n: int) -> Samples:
        steps = draw.standard_normal(n) * (1 - rho**2) ** 0.5
        values = np.empty(n)
        last = draw.standard_normal()
        for i, step in enumerate(steps):
            last = rho * last + step
            values[i] = last
        return own_level(draw) * (1 + NOISE * values)

    return make


def own_level(draw: np.random.Generator) -> float:
    return LEVEL * float(np.exp(BETWEEN * draw.standard_normal()))


def independent(draw: np.random.Generator, n: int) -> Samples:
    return own_level(draw) * (1 + NOISE * draw.standard_normal(n))


def two_modes(share: float, factor: float) -> Make:
    """A process is in the slow mode for good with probability ``share``."""

    def make(draw: np.random.Generator, n: int) -> Samples:
        return independent(draw, n) * (factor if draw.random() < share else 1.0)

    return make


def drift(change: float) -> Make:
    return lambda draw, n: independent(draw, n) * np.linspace(1, 1 + change, n)


def warming(length: int) -> Make:
    """Half as slow again at first, falling in a straight line."""

    def make(draw: np.random.Generator, n: int) -> Samples:
        slow = np.clip(1 - np.arange(n) / max(length, 1), 0, 1) * 0.5 if length else 0
        return ar1(0.3)(draw, n) * (1 + slow)

    return make


def bursts(share: float) -> Make:
    """A share of the blocks is slower by half."""

    def make(draw: np.random.Generator, n: int) -> Samples:
        slow = np.repeat(draw.random(-(-n // BLOCK)) < share, BLOCK)[:n]
        return ar1(0.3)(draw, n) * np.where(slow, 1.5, 1.0)

    return make


def heavy(draw: np.random.Generator, n: int) -> Samples:
    """Two degrees of freedom on the slow side: no variance."""
    return own_level(draw) * (1 + NOISE * np.abs(draw.standard_t(2, n)))


def step(factor: float) -> Make:
    return lambda draw, n: independent(draw, n) * np.where(np.arange(n) < n // 2, 1.0, factor)


FAMILIES: Mapping[str, Family] = {
    "independent": Family(make=independent),
    "AR(1) 0.3": Family(make=ar1(0.3)),
    "AR(1) 0.6": Family(make=ar1(0.6)),
    "AR(1) 0.9": Family(make=ar1(0.9)),
    "two modes, 20 % of processes +15 %": Family(make=two_modes(0.2, 1.15), steady=False),
    "two modes, 45 % of processes +5 %": Family(make=two_modes(0.45, 1.05), steady=False),
    "drift of 1 % in a process": Family(make=drift(0.01)),
    "drift of 8 % in a process": Family(make=drift(0.08), steady=False),
    **{f"warm-up of {w}": Family(make=warming(w), warmup=w) for w in (0, 5, 30, 100)},
    "bursts on 5 % of blocks": Family(make=bursts(0.05), marked=True),
    "bursts on 20 % of blocks": Family(make=bursts(0.20), marked=True),
    "heavy tails": Family(make=heavy),
    "level change of +10 % in mid-run": Family(make=step(1.1), steady=False),
}


def as_record(processes: list[Samples], family: Family, sequential: bool) -> Record:
    """Traces without warm-up calls set apart: what is warm-up has to be found."""

    def block(start: int, samples: Samples) -> Block:
        slow = family.marked and float(np.median(samples)) > 1.25 * LEVEL
        names = dict.fromkeys(Readings.__struct_fields__)
        readings = {**names, "wall_ns": 20_000_000, "wait_ns": 2_000_000 if slow else 0}
        return Block(
            start_ns=start * 10**6,
            sample_ns=tuple(int(ns) for ns in np.rint(samples)),
            readings=Readings(**readings) if family.marked else None,  # type: ignore[arg-type]
        )

    traces = tuple(
        Trace(
            process=i,
            load_ns=10**6,
            first_ns=10**7,
            warmup_ns=(),
            blocks=tuple(block(k, samples[k : k + BLOCK]) for k in range(0, len(samples), BLOCK)),
            peak_rss_bytes=None,
        )
        for i, samples in enumerate(processes)
    )
    base = make_record(traces=traces)
    outcome = msgspec.structs.replace(base.outcome, checks=())
    protocol = WARM if sequential else base.protocol
    return msgspec.structs.replace(base, outcome=outcome, protocol=protocol)


def row(
    name: str, family: Family, processes: int, samples: int, repeats: int, seed: int, many: int
) -> str:
    draw = np.random.default_rng([seed, sum(map(ord, name)), processes])
    simulated = [float(np.median(family.make(draw, samples)[family.warmup :])) for _ in range(many)]
    truth = float(np.median(simulated))
    found: list[Summary] = []
    for _ in range(repeats):
        made = [family.make(draw, samples + family.warmup) for _ in range(processes)]
        summary = summarize(as_record(made, family, sequential=False))
        assert summary is not None
        assert summary.interval_ns is not None
        found.append(summary)
    intervals = [s.interval_ns or (0, 0) for s in found]
    covered = np.mean([low <= truth <= high for low, high in intervals])
    width = np.median(
        [(high - low) / 2 / s.median_ns for s, (low, high) in zip(found, intervals, strict=True)]
    )
    ends = [
        999 if calls is None else calls - family.warmup for s in found for calls in s.warmup_calls
    ]
    trusted = np.mean([s.reliability == "reliable" for s in found])
    wrong = (
        trusted if not family.steady else np.mean([s.reliability == "unreliable" for s in found])
    )
    what = "called unreliable" if family.steady else "called reliable"
    quiet = ""
    if family.marked:
        hits = [(s.quiet_interval_ns or (0, 0)) for s in found]
        quiet = f"{np.mean([low <= LEVEL <= high for low, high in hits]):.1%}"
    return (
        f"| {name} | {processes} | {covered:.1%} | ±{width:.2%} | "
        f"{np.median(ends):+.0f} ({np.quantile(ends, 0.05):+.0f} to "
        f"{np.quantile(ends, 0.95):+.0f}) | {what} {wrong:.1%} | {quiet} |"
    )


def stopping(repeats: int) -> None:
    """Print the coverage of the interval of latbench-warm@1, which stops once it is precise."""
    draw = np.random.default_rng(11)
    print("\n| spread between processes | shape | stated 95 % covered | processes, mean |")
    print("|---|---|---|---|")
    for deviation in (0.3, 0.6, 1.0, 1.5, 2.5):
        for shape in ("normal", "lognormal"):
            hits, used = 0, 0
            for _ in range(repeats * 4):
                z = draw.standard_normal(61)
                values = 100 + deviation * (z if shape == "normal" else np.exp(0.8 * z) - 1)
                for n in range(6, 61):
                    low, high = order_interval(values[:n].tolist(), SEQUENTIAL_CONFIDENCE) or (0, 0)
                    if (high - low) / 2 <= 1.0:
                        break
                hits += low <= 100 <= high
                used += n
            total = repeats * 4
            print(f"| {deviation} % | {shape} | {hits / total:.1%} | {used / total:.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--processes", type=int, nargs="+", default=[6, 12])
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--smoke", action="store_true", help="run every step once, with tiny sizes")
    args = parser.parse_args()
    many = 4000
    if args.smoke:
        args.repeats, args.processes, args.samples, many = 1, [6], 100, 20
    print(
        "| family | processes | 95 % interval covered | half-width, median | "
        "warm-up's end, error (5th to 95th percentile) | wrong reliability | "
        "quiet blocks' interval covered the true level |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, family in FAMILIES.items():
        for processes in args.processes:
            print(
                row(name, family, processes, args.samples, args.repeats, args.seed, many),
                flush=True,
            )
    stopping(args.repeats)


if __name__ == "__main__":
    main()
