"""The native worker compared with the Python worker on this machine.

    python benchmarks/native.py [--models FILE_OR_NAME ...] [--backend B] [--pairs N] [--rounds N]
                                [--calls N] [--threads N] [--smoke]

A pair is a new process of each worker with the same artifact. Rounds of blocks alternate between
the two, and the one that waits is stopped, as in a run. The ratio of a pair is the median of its
rounds' ratios of medians; the interval is over pairs. Goal: within 2 % for models of a millisecond
and more, and equal outputs. Without ``--models`` two stacks of convolutions are timed. The memory
is the peak of each process, and the load the median over pairs.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import msgspec

import latbench
from latbench.analysis.stats import order_interval
from latbench.plugins import exporter_for, load_runner
from latbench.worker.native import build_native, native_libraries
from latbench.worker.process import python_module
from support import onnx_files
from support.native_talk import Talk, open_fields, spec

PYTHON = "latbench.worker.inference"
SETTLE = 3


def requests(names: Sequence[str], backend: str, folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """The name and the fields of ``open`` of each model."""
    found = []
    for name in names:
        if name.startswith("stack:"):
            side = int(name.partition(":")[2])
            path = onnx_files.stack(folder / f"{side}.onnx", side=side)
            io = [spec("x0", 1, 3, side, side)], [spec("mean", 1, 32, 1, 1)]
            found.append((f"convolutions, {side} x {side}", open_fields(path, *io)))
            continue
        exported = latbench.export(name, format=exporter_for(load_runner(backend)).format)
        artifact = msgspec.to_builtins(exported.artifact)
        fields = {**open_fields(exported.path, [], []), "artifact": artifact, "backend": backend}
        found.append((Path(name).name, fields))
    return found


class Side:
    """One process of a pair."""

    def __init__(self, command: Sequence[str | Path], fields: dict[str, Any], warmup: int) -> None:
        self.talk = Talk(command)
        opened = self.ask("open", **fields)
        self.load_ns: int = opened["load_ns"]
        self.ask("time", calls=warmup)
        self.pause()

    def ask(self, type: str, **fields: Any) -> dict[str, Any]:
        answer = self.talk.ask(type, **fields)
        if answer["type"] in ("failed", "refused"):
            raise SystemExit(f"{answer['message']} ({answer['hint']})")
        return answer

    def pause(self) -> None:
        os.killpg(self.talk.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.killpg(self.talk.process.pid, signal.SIGCONT)

    def block(self, calls: int) -> float:
        """Median of a block, after its first calls."""
        self.resume()
        timed = self.ask("time", calls=calls + SETTLE, settle=SETTLE)
        self.pause()
        return median(timed["sample_ns"][SETTLE:])


def pair(
    native: Path, fields: dict[str, Any], rounds: int, calls: int, draw: random.Random
) -> dict[str, Any]:
    """Times of one pair in ns, and what else differs."""
    commands: dict[str, list[str | Path]] = {
        "native": [native],
        "python": list(python_module(PYTHON).command),
    }
    order = draw.sample(sorted(commands), 2)
    sides = {name: Side(commands[name], fields, calls) for name in order}
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name in draw.sample(order, 2):
            times[name].append(sides[name].block(calls))
    given = {}
    for name, side in sides.items():
        side.resume()
        given[name] = side.ask("outputs")
        side.ask("close")
        side.talk.__exit__(None, None, None)
    ratios = [a / b for a, b in zip(times["native"], times["python"], strict=True)]
    return {
        "ratio": median(ratios),
        "equal": given["native"]["tensors"] == given["python"]["tensors"],
        **{f"{name} ns": median(values) for name, values in times.items()},
        **{f"{name} load": side.load_ns for name, side in sides.items()},
        **{f"{name} rss": answer["peak_rss_bytes"] for name, answer in given.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", nargs="+", default=["stack:36", "stack:96"])
    parser.add_argument("--backend", default="onnxruntime")
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--calls", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--smoke", action="store_true", help="run every step once, with tiny sizes")
    args = parser.parse_args()
    if args.smoke:
        args.models, args.pairs, args.rounds, args.calls = ["stack:8"], 2, 2, 3
    os.environ |= native_libraries()
    native, draw = build_native(), random.Random(5)
    print("| model | native | Python | ratio, median of pairs | 95% CI | load | peak memory |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as place:
        for name, fields in requests(args.models, args.backend, Path(place)):
            fields["threads"] = args.threads
            found = [pair(native, fields, args.rounds, args.calls, draw) for _ in range(args.pairs)]
            ratios = sorted(each["ratio"] for each in found)
            low, high = order_interval(ratios, 0.95) or (ratios[0], ratios[-1])

            def middle(key: str, found: list[dict[str, Any]] = found) -> float:
                return median(each[key] for each in found) / 1e6

            print(
                f"| {name} | {middle('native ns'):.3f} ms | {middle('python ns'):.3f} ms | "
                f"{median(ratios):.4f} | {low:.4f} to {high:.4f} | "
                f"{middle('native load'):.1f} / {middle('python load'):.1f} ms | "
                f"{middle('native rss'):.0f} / {middle('python rss'):.0f} MB |",
                flush=True,
            )
            if not all(each["equal"] for each in found):
                raise SystemExit(f"{name}: the outputs differ")


if __name__ == "__main__":
    main()
