"""Comparisons whose truth is known, on this machine: the same twice, and planted slowdowns.

    python benchmarks/truth/same.py [--comparisons N] [--planted N] [--noise quiet noisy]
                                     [--smoke]

*Same*: a model against itself in short comparisons of six processes; "different" must come out in
at most 5 %. *Planted*: a chain of 100 equal convolutions against one of 102, 103, 105 and 110, by
``latbench-compare@1`` as it is shipped: how often "slower" comes out, and after how long.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import mean, median

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

import msgspec
import numpy as np
import onnx
from neighbor import neighbors
from onnx import TensorProto, helper, numpy_helper

import latbench
from latbench.schema.protocol_catalog import COMPARE
from support.environment import TINY

SHORT = msgspec.structs.replace(
    COMPARE, target_ppm=None, max_processes=COMPARE.processes, min_ns=150_000_000
)


def chain(path: Path, layers: int) -> Path:
    """``layers`` equal convolutions: 1x32x28x28, 3x3, each 7.2 million MACs."""
    draw = np.random.default_rng(0)
    # One weight for all: as much work for each layer, and nothing else to load.
    weight = draw.standard_normal((32, 32, 3, 3), dtype=np.float32) / 17
    nodes = [
        helper.make_node("Conv", [f"x{i}", "w"], [f"x{i + 1}"], pads=[1, 1, 1, 1])
        for i in range(layers)
    ]
    shape = [1, 32, 28, 28]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x0", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(f"x{layers}", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 10
    onnx.save(model, path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="timm:mobilenetv2_100")
    parser.add_argument("--comparisons", type=int, default=200)
    parser.add_argument("--planted", type=int, default=10)
    parser.add_argument(
        "--noise", nargs="+", default=["quiet", "noisy"], choices=["quiet", "noisy"]
    )
    parser.add_argument("--out", type=Path, help="Where to write every verdict as JSON.")
    parser.add_argument("--smoke", action="store_true", help="run every step once, with tiny sizes")
    args = parser.parse_args()
    short, planted, slowdowns = SHORT, COMPARE, (102, 103, 105, 110)
    if args.smoke:
        args.model, args.comparisons, args.planted, args.noise = TINY, 1, 1, ["quiet"]
        short = planted = msgspec.structs.replace(
            SHORT, min_ns=10_000_000, processes=2, max_processes=2
        )
        slowdowns = (102,)
    everything = []
    with tempfile.TemporaryDirectory() as folder:
        registry = f"{folder}/r.db"
        paths = {n: chain(Path(folder) / f"chain{n}.onnx", n) for n in (100, *slowdowns)}
        for noise in args.noise:
            with neighbors(noise == "noisy", seed=2):
                verdicts: Counter[str] = Counter()
                ratios, walls = [], []
                for i in range(args.comparisons):
                    begun = time.perf_counter()
                    done = latbench.compare(
                        f"{args.model},threads=1",
                        f"{args.model},threads=1",
                        protocol=short,
                        order_seed=i,
                        registry=registry,
                    ).comparison
                    walls.append(time.perf_counter() - begun)
                    verdicts[done.verdict] += 1
                    ratios.append(done.ratio or 0.0)
                    everything.append((noise, "same", i, done.verdict, done.ratio, done.interval))
                if ratios:
                    wrong = verdicts["faster"] + verdicts["slower"]
                    print(
                        f"\n{noise}, the same against itself: {dict(verdicts)}; different in "
                        f"{wrong} of {len(ratios)} ({wrong / len(ratios):.1%}); ratio "
                        f"{mean(ratios):.4f} ± {np.std(ratios):.4f}, {median(walls):.1f} s each\n",
                        flush=True,
                    )
                if not args.planted:
                    continue
                print(
                    "| planted | noise | slower | inconclusive | same | faster | ratio, median "
                    "| seconds, median |"
                )
                print("|---|---|---|---|---|---|---|---|")
                for layers in slowdowns:
                    found: Counter[str] = Counter()
                    ratios, walls = [], []
                    for i in range(args.planted):
                        begun = time.perf_counter()
                        done = latbench.compare(
                            f"{paths[100]},threads=1",
                            f"{paths[layers]},threads=1",
                            protocol=planted,
                            order_seed=i,
                            registry=registry,
                        ).comparison
                        walls.append(time.perf_counter() - begun)
                        found[done.verdict] += 1
                        ratios.append(done.ratio or 0.0)
                        everything.append(
                            (noise, layers, i, done.verdict, done.ratio, done.interval)
                        )
                    print(
                        f"| +{layers - 100} % | {noise} | {found['slower']} of {args.planted} "
                        f"| {found['inconclusive']} | {found['same']} | {found['faster']} "
                        f"| {median(ratios):.4f} | {median(walls):.0f} |",
                        flush=True,
                    )
    if args.out:
        args.out.write_text(json.dumps(everything))


if __name__ == "__main__":
    main()
