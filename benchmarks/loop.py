"""The timing loop compared with a bare loop over the same InferenceSession, in one process.

    python benchmarks/loop.py [--rounds N] [--smoke]

For a model of a millisecond and more: the ratio of the medians, blocks of both interleaved. For
an empty model (one Identity on four numbers): what the loop adds to a call, in nanoseconds.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter_ns

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import onnxruntime as ort

from latbench.api import ExportSpec, RunOptions, make_inputs
from latbench.clock import time_calls
from latbench_exporters.onnx.exporter import exporter
from latbench_runners.onnxruntime.runner import runner
from support import onnx_files
from support.records import make_artifact


def bare(session: ort.InferenceSession, binding: ort.IOBinding, calls: int) -> list[int]:
    """As few Python instructions around the call as there can be."""
    elapsed = []
    for _ in range(calls):
        start = perf_counter_ns()
        session.run_with_iobinding(binding)
        elapsed.append(perf_counter_ns() - start)
    return elapsed


def measure(path: Path, rounds: int, calls: int) -> tuple[list[float], list[float]]:
    """Medians of latbench's blocks and of bare blocks, in random order."""
    exported = exporter().adopt(path, ExportSpec(), path.with_suffix(".fixed.onnx"))
    artifact = make_artifact(path, exported, "onnx")
    ours: list[float] = []
    theirs: list[float] = []
    draw = random.Random(0)
    fixed, inputs = path.with_suffix(".fixed.onnx"), make_inputs(exported.inputs, 0)
    with runner().open(artifact, fixed, inputs, RunOptions(threads=1)) as session:
        plain, binding = session._session, session._binding  # type: ignore[attr-defined]
        time_calls(session.run, calls)
        bare(plain, binding, calls)
        for _ in range(rounds):
            for which in draw.sample((0, 1), 2):
                if which:
                    ours.append(median(time_calls(session.run, calls)))
                else:
                    theirs.append(median(bare(plain, binding, calls)))
    return ours, theirs


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--smoke", action="store_true", help="run every step once, with tiny sizes")
    args = parser.parse_args()
    rounds = 2 if args.smoke else args.rounds
    print("| model | latbench, median | bare, median | ratio of medians | added to a call |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        cases = (
            ("empty (Identity)", onnx_files.identity(Path(folder) / "empty.onnx"), 2000),
            ("convolutions, 36 x 36", onnx_files.stack(Path(folder) / "s.onnx", side=36), 50),
            ("convolutions, 96 x 96", onnx_files.stack(Path(folder) / "m.onnx", side=96), 10),
        )
        for name, path, calls in cases:
            ours, theirs = measure(path, rounds, 2 if args.smoke else calls)
            ratio = median(a / b for a, b in zip(ours, theirs, strict=True))
            added = median(a - b for a, b in zip(ours, theirs, strict=True))
            print(
                f"| {name} | {median(ours) / 1e6:.4f} ms | {median(theirs) / 1e6:.4f} ms "
                f"| {ratio:.4f} | {added:.0f} ns |"
            )


if __name__ == "__main__":
    main()
