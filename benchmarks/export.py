"""Time of an export, cold and from the cache, and the memory it needs.

    python benchmarks/export.py [--model MODEL] [--formats onnx coreml tflite] [--smoke]

Each export is the command line with a cache of its own, so everything is in it: starting Python,
building the model, converting, and checking the file against PyTorch. Ratios are to the first
format of the same run.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support.environment import TINY


def timed(command: list[str], environment: dict[str, str]) -> tuple[float, int]:
    """Seconds, and the peak memory in bytes of the largest program that it started."""
    before = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - before
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    # Kilobytes, except on macOS.
    return seconds, peak if sys.platform == "darwin" else peak * 1024


def one(model: str, format: str, hits: int) -> tuple[float, int, float]:
    """Cold seconds, peak bytes, and the median of several cache hits in seconds."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "LATBENCH_CACHE": cache}
        command = [sys.executable, "-m", "latbench", "export", "--model", model, "--format", format]
        seconds, peak_bytes = timed(command, environment)
        again = sorted(timed(command, environment)[0] for _ in range(hits))
        return seconds, peak_bytes, again[len(again) // 2]


def main() -> None:
    """Each format in a process of its own, for its own peak of memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="mobilevig_ti")
    parser.add_argument("--formats", nargs="+", default=["onnx", "coreml", "tflite"])
    parser.add_argument("--hits", type=int, default=9)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--smoke", action="store_true", help="run every step once, with tiny sizes")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.model, arguments.formats, arguments.hits = TINY, ["onnx"], 1
    if arguments.one:
        print(*one(arguments.model, arguments.formats[0], arguments.hits))
        return
    print("| format | cold | peak memory | from the cache | cold, ratio to the first |")
    print("|---|---|---|---|---|")
    first = 0.0
    for format in arguments.formats:
        command = [sys.executable, __file__, "--one", "--model", arguments.model]
        command += ["--formats", format, "--hits", str(arguments.hits)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds, peak_bytes, again = (float(value) for value in done.stdout.split())
        first = first or seconds
        print(
            f"| {format} | {seconds:.1f} s | {peak_bytes / 1e9:.2f} GB | {again:.2f} s "
            f"| {seconds / first:.2f} |"
        )


if __name__ == "__main__":
    main()
