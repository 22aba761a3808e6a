"""The effect of the opset on speed in ONNX Runtime.

    python benchmarks/opset.py [--model mobilevig_ti] [--rounds N] [--smoke]

The same model exported at several opsets by both of PyTorch's exporters, one session each with one
thread (nothing spins), blocks in random order; ratio of medians to what latbench exports.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import warnings
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import onnx
import onnxruntime as ort
import torch

from latbench.clock import time_calls
from latbench.zoo.builder import build
from latbench.zoo.resolver import resolve
from support.environment import TINY

OURS = ("torch.export", 20)
CASES = (
    *(("torch.export", opset) for opset in (17, 18, 20, 22, 23)),
    *(("torchscript", opset) for opset in (17, 18, 20)),
)


def session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="mobilevig_ti")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--smoke", action="store_true", help="run every step once, with tiny sizes")
    arguments = parser.parse_args()
    cases = CASES
    if arguments.smoke:
        arguments.model, arguments.rounds, cases = TINY, 1, (OURS, ("torchscript", 17))
    model = build(resolve(arguments.model, weights=None, batch=None, resolution=None, seed=0))
    image = model.inputs.arrays(0)
    runs, nodes = {}, {}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for case in cases:
            route, opset = case
            path = Path(folder) / f"{route}-{opset}.onnx"
            torch.onnx.export(
                model.module,
                tuple(torch.from_numpy(array) for array in image),
                path,
                dynamo=route == "torch.export",
                opset_version=opset,
                input_names=["image"],
                external_data=False,
                verbose=False,
            )
            graph = onnx.load(path)
            opened = session(path)
            feed = {"image": image[0]}
            runs[case] = lambda opened=opened, feed=feed: opened.run(None, feed)
            nodes[case] = (graph.opset_import[0].version, len(graph.graph.node))
    blocks: dict[tuple[str, int], list[float]] = {case: [] for case in cases}
    draw = random.Random(0)
    for turn in range(arguments.rounds + 3):
        for case in draw.sample(cases, len(cases)):
            taken = median(time_calls(runs[case], 5))
            if turn >= 3:
                blocks[case].append(taken)
    print("| exporter | asked for | in the file | nodes | time relative to ours |")
    print("|---|---|---|---|---|")
    for case in cases:
        ratio = median(a / b for a, b in zip(blocks[case], blocks[OURS], strict=True))
        print(f"| {case[0]} | {case[1]} | {nodes[case][0]} | {nodes[case][1]} | {ratio:.3f} |")


if __name__ == "__main__":
    main()
