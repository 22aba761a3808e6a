"""Shipped protocols compared with the tools they are named after, interleaved, on the same file.

    python benchmarks/truth/official.py [--model M] [--repeats N] [--seconds S] [--smoke]

LoadGen (``mlcommons-loadgen``) in SingleStream against ``loadgen-singlestream@1``, both for S
seconds; timm's loop (10 calls, then the mean of 40) against ``timm@1``; ``litert-benchmark``, which
comes with ``ai-edge-litert``, against ``tflite-benchmark@1`` on the same TFLite file. Each in a
new process. OpenVINO's ``benchmark_app`` is in ``benchmarks/runners.py``.
Goal: the ratio of the reported statistic within 2 %. Printed with its interval over pairs in random
order.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

import msgspec

import latbench
from latbench.analysis.stats import order_interval
from latbench.schema.protocol_options import named_protocol
from support.environment import TINY


def tool(way: str, path: Path, seconds: float) -> float:
    here = str(Path(__file__).parent / "ways.py")
    done = subprocess.run(
        [sys.executable, here, way, str(path), "1", str(seconds)],
        check=True,
        capture_output=True,
        text=True,
    )
    return float(done.stdout.split()[-1])


def litert(path: Path, seconds: float) -> float:
    """The mean of the tool that Google ships, over about ``seconds``, after half a second."""
    with tempfile.NamedTemporaryFile(suffix=".json") as result:
        command = [str(Path(sys.executable).parent / "litert-benchmark"), f"--model={path}"]
        common = ["--num_threads=1", f"--result_json={result.name}"]
        mean_ms = 10.0
        for wanted in (0.1, seconds):  # the first determines how many calls the second needs
            calls, warm = max(5, round(wanted * 1e3 / mean_ms)), max(1, round(500 / mean_ms))
            runs = [f"--num_runs={calls}", f"--warmup_runs={warm}"]
            subprocess.run([*command, *common, *runs], check=True, capture_output=True)
            mean_ms = json.loads(Path(result.name).read_text())["latency"]["avg_ms"]
        return mean_ms * 1e6


def ours(
    model: str, name: str, seconds: float | None, registry: str, backend: str = "onnxruntime"
) -> float:
    protocol = named_protocol(name)
    if seconds is not None:
        protocol = msgspec.structs.replace(protocol, min_ns=round(seconds * 1e9), min_calls=64)
    result = latbench.run(model, backend=backend, threads=1, protocol=protocol, registry=registry)
    assert result.summary is not None
    return result.summary.reported.value


def pairs(
    one: Callable[[], float], other: Callable[[], float], repeats: int
) -> tuple[list[float], list[float]]:
    draw = random.Random(4)
    ours_, theirs = [], []
    for _ in range(repeats):
        for which in draw.sample((0, 1), 2):
            if which:
                ours_.append(one())
            else:
                theirs.append(other())
    return ours_, theirs


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="timm:mobilenetv2_100")
    parser.add_argument("--repeats", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--smoke", action="store_true", help="run every step once, with tiny sizes")
    args = parser.parse_args()
    if args.smoke:
        # Without the tools that the `dev` extra does not install.
        args.model = TINY
    path = latbench.export(args.model).path
    tflite = path if args.smoke else latbench.export(args.model, format="tflite").path
    print("| protocol | tool | statistic | ratio, median of pairs | 95 % interval |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        registry = f"{folder}/r.db"
        cases = (
            ("loadgen-singlestream@1", "loadgen", "p90", args.seconds, args.repeats),
            # Its loop is over in 0.3 s, so that more pairs are needed for the same certainty.
            ("timm@1", "timm-once", "mean", None, 3 * args.repeats),
            ("tflite-benchmark@1", "litert-benchmark", "mean", 1.0, args.repeats),
        )
        for name, way, statistic, seconds, repeats in (
            [("timm@1", "timm-once", "mean", None, 1)] if args.smoke else cases
        ):
            on_litert = way == "litert-benchmark"
            mine, theirs = pairs(
                partial(
                    ours,
                    *(args.model, name, None if on_litert else seconds, registry),
                    *(("tflite",) if on_litert else ()),
                ),
                partial(litert, tflite, 1.0)
                if on_litert
                else partial(tool, way, path, seconds or 0),
                repeats,
            )
            ratios = sorted(a / b for a, b in zip(mine, theirs, strict=True))
            low, high = order_interval(ratios, 0.95) or (0, 0)
            middle = median(ratios)
            print(
                f"| {name} | {way} | {statistic} | {middle:.4f} | {low:.4f} to {high:.4f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
