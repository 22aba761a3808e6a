"""latbench compared with other ways of measuring the same latency, at equal wall time.

    python benchmarks/truth/peers.py [--model M] [--repeats N] [--seconds S] [--noise quiet noisy]
                                      [--smoke]

Needs mlcommons-loadgen and torch. Each repetition runs every way once, in shuffled order, on the
same ONNX file; then all of it again with a noisy neighbor. Printed for each way: the coefficient of
variation of the value it reports, and the distance of its mean from a long quiet reference.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean, median, stdev

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

import msgspec
from neighbor import neighbors

import latbench
from latbench.schema.protocol_catalog import WARM
from support.environment import TINY

WAYS = ("timm", "fixed-100", "loadgen", "pyperf", "torch")


def ask(way: str, path: Path, threads: int, seconds: float) -> list[float]:
    done = subprocess.run(
        [
            sys.executable,
            str(Path(__file__).parent / "ways.py"),
            way,
            str(path),
            str(threads),
            str(seconds),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    return [float(value) for value in done.stdout.split()[-2:]]


def ours(model: str, threads: int, seconds: float, registry: str) -> dict[str, float]:
    """All that fits into the wall time; six processes at least share it."""
    process_s = seconds / WARM.processes - 0.45
    protocol = msgspec.structs.replace(
        WARM,
        target_ppm=None,
        max_processes=WARM.processes,
        min_ns=round(max(process_s * 0.75, 0.1) * 1e9),
        budget_ns=round(seconds * 1e9),
    )
    result = latbench.run(model, threads=threads, protocol=protocol, registry=registry)
    summary = result.summary
    assert summary is not None, result.record.outcome.failure
    assert summary.normalized is not None
    return {
        "latbench median": summary.median_ns,
        "latbench median, quiet blocks": summary.quiet_median_ns or summary.median_ns,
        "latbench best case": summary.best_case_ns,
        "latbench normalized": summary.normalized.ratio,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="timm:mobilenetv2_100")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument(
        "--noise", nargs="+", default=["quiet", "noisy"], choices=["quiet", "noisy"]
    )
    parser.add_argument("--ways", nargs="*", default=WAYS)
    parser.add_argument("--out", type=Path, help="Where to write every number as JSON.")
    parser.add_argument("--smoke", action="store_true", help="run every step once, with tiny sizes")
    args = parser.parse_args()
    if args.smoke:
        # Without LoadGen, which the `dev` extra does not install.
        args.model, args.repeats, args.seconds = TINY, 2, 0.2
        args.ways, args.noise = ("timm", "fixed-100"), ["noisy"]
    draw = random.Random(3)
    path = latbench.export(args.model).path
    reference, low = ask("long", path, args.threads, 4 * args.seconds)
    everything: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for noise in args.noise:
            found: dict[str, list[float]] = {}
            walls: dict[str, list[float]] = {}
            with neighbors(noise == "noisy", seed=1):
                for _ in range(args.repeats):
                    for way in draw.sample([*args.ways, "latbench"], len(args.ways) + 1):
                        begun = time.perf_counter()
                        if way == "latbench":
                            for name, value in ours(
                                args.model, args.threads, args.seconds, f"{folder}/r.db"
                            ).items():
                                found.setdefault(name, []).append(value)
                        else:
                            values = ask(way, path, args.threads, args.seconds)
                            names = [way] if len(values) == 1 else [f"{way} p50", f"{way} p90"]
                            for name, value in zip(names, values, strict=True):
                                found.setdefault(name, []).append(value)
                        walls.setdefault(way, []).append(time.perf_counter() - begun)
            report(noise, found, walls, reference, low)
            everything[noise] = found
    if args.out:
        args.out.write_text(json.dumps(everything))


def report(
    noise: str,
    found: dict[str, list[float]],
    walls: dict[str, list[float]],
    reference: float,
    low: float,
) -> None:
    print(f"\n{noise}; reference: median {reference / 1e6:.3f} ms, p10 {low / 1e6:.3f} ms\n")
    print("| way | CV | spread p90 / p10 - 1 | mean compared with the reference | wall |")
    print("|---|---|---|---|---|")
    for name, values in found.items():
        ordered = sorted(values)
        tenth = len(ordered) // 10
        spread = ordered[-1 - tenth] / ordered[tenth] - 1
        against = ""
        if "normalized" not in name:
            against = f"{mean(values) / (low if 'best case' in name else reference) - 1:+.1%}"
        wall = median(walls[name.split()[0]])
        print(
            f"| {name} | {stdev(values) / mean(values):.2%} | {spread:.2%} | {against} "
            f"| {wall:.1f} s |"
        )
    sys.stdout.flush()


if __name__ == "__main__":
    main()
