"""latbench-warm@1 against latbench-warm@2 on this machine, in turns.

    python benchmarks/truth/loads.py [--model M] [--repeats N] [--noise quiet noisy] [--seconds S]
                                     [--smoke]

Each repetition runs both protocols in shuffled order: as shipped, until ±1 % or the budget, and
with a budget of S seconds that both spend whole. Needs an idle machine, and torch for models of the
zoo. A standard deviation has a 95 % interval from chi-square; twenty repetitions know it to about
a third.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path
from statistics import NormalDist, mean, median, stdev

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

import msgspec
from neighbor import neighbors
from nested import timed_ns

import latbench
from latbench.schema.protocol import TimingProtocol
from latbench.schema.protocol_catalog import WARM, WARM_2
from support.environment import TINY

LEAST_TARGET_PPM = 1
"""A precision that no run reaches, so that the whole budget is spent."""


def spending(protocol: TimingProtocol, seconds: float) -> TimingProtocol:
    """``protocol`` with a budget that it spends whole."""
    changes: dict[str, object] = {"budget_ns": round(seconds * 1e9)}
    if protocol.version == 1:
        # Its sizes are stated: six processes share the time, as in peers.py.
        least_ns = round(max(0.75 * (seconds / protocol.processes - 0.45), 0.1) * 1e9)
        changes |= {"min_ns": least_ns, "max_processes": protocol.processes, "target_ppm": None}
    else:
        changes |= {"target_ppm": LEAST_TARGET_PPM}
    return msgspec.structs.replace(protocol, **changes)


def variation(values: list[float]) -> str:
    """The coefficient of variation, with its interval (chi-square by Wilson & Hilferty 1931)."""
    if len(values) < 2:
        return "unknown"
    found, freedom = stdev(values) / mean(values), len(values) - 1
    z = NormalDist().inv_cdf(0.975)
    part = 2 / (9 * freedom)
    low, high = (max((1 - part + sign * z * part**0.5), 0.05) ** 1.5 for sign in (1, -1))
    return f"{found:.2%} ({found / low:.2%} to {found / high:.2%})"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="mobilevig_ti")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument(
        "--noise", nargs="+", default=["quiet", "noisy"], choices=["quiet", "noisy"]
    )
    parser.add_argument("--smoke", action="store_true", help="run every step once, with tiny sizes")
    args = parser.parse_args()
    shipped, backend = (WARM, WARM_2), None
    if args.smoke:
        # The fake backend takes no time.
        args.model, args.repeats, args.seconds, args.noise = TINY, 1, 3.0, ["quiet"]
        shipped = tuple(msgspec.structs.replace(p, budget_ns=10**9) for p in shipped)  # type: ignore[assignment]
        backend = "fake"
    draw = random.Random(5)
    print(
        "| noise | protocol | seconds to ±1 %, median (19 of 20) | reached | wall / the model's "
        f"timed inferences | latency in {args.seconds:g} s, variation | normalized, variation |"
    )
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for noise in args.noise:
            walls: dict[str, list[float]] = {p.label: [] for p in shipped}
            ratios: dict[str, list[float]] = {p.label: [] for p in shipped}
            reached = dict.fromkeys(walls, 0)
            typical: dict[str, list[float]] = {p.label: [] for p in shipped}
            normalized: dict[str, list[float]] = {p.label: [] for p in shipped}

            def run(protocol: TimingProtocol) -> tuple[latbench.RunResult, float]:
                begun = time.perf_counter()
                result = latbench.run(
                    args.model,
                    backend=backend,
                    threads=args.threads,
                    protocol=protocol,
                    registry=f"{folder}/r.db",
                )
                assert result.summary is not None, result.record.outcome.failure
                return result, time.perf_counter() - begun

            with neighbors(noise == "noisy", seed=1):
                for _ in range(args.repeats):
                    for protocol in draw.sample(shipped, 2):
                        name = protocol.label
                        result, wall_s = run(protocol)
                        walls[name].append(wall_s)
                        ratios[name].append(wall_s * 1e9 / timed_ns(result.record))
                        reached[name] += result.record.outcome.stopped == "precise"
                        result, _ = run(spending(protocol, args.seconds))
                        assert result.summary is not None
                        typical[name].append(result.summary.median_ns)
                        if result.summary.normalized is not None:
                            normalized[name].append(result.summary.normalized.ratio)
            for name in walls:
                late = sorted(walls[name])[round(0.95 * (args.repeats - 1))]
                print(
                    f"| {noise} | {name} | {median(walls[name]):.1f} ({late:.1f}) "
                    f"| {reached[name]} of {args.repeats} | {median(ratios[name]):.2f} "
                    f"| {variation(typical[name])} | {variation(normalized[name])} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
