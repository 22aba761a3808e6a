"""Time of a run besides its inferences, and the memory of a worker.

    python benchmarks/overhead.py [--rounds N] [--smoke]

*Time*: the wall time of ``latbench run`` with a cached artifact less, for each process of the model
and of the sentinel, starting it, loading, first inference, warm-up and samples. Goal: 1.0 s.
*Memory*: resident memory of a worker with an open session compared with a bare Python script that
holds the same ``InferenceSession``. Goal: at most 60 MB more.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import msgspec

from latbench.schema.artifact import Artifact
from latbench.worker import messages
from latbench.worker.client import WorkerClient
from support import onnx_files

WORKER = "latbench.worker.inference"
HOLD = """
import sys
import numpy as np, onnxruntime as ort
session = ort.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
shape = session.get_inputs()[0].shape
session.run(None, {session.get_inputs()[0].name: np.zeros(shape, np.float32)})
print("ready", flush=True)
sys.stdin.read()
"""


def resident_mb(pid: int) -> float:
    """VmRSS of a process (Linux)."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024 / 1e6


def start_s(request: messages.Open, rounds: int) -> float:
    """Median time to start a worker, import its runtime and end it, without loading the model."""
    times = []
    for _ in range(rounds):
        begun = perf_counter()
        with WorkerClient.with_module(WORKER) as worker:
            opened = worker.ask(request, messages.SessionOpened, stage="open", timeout_s=60)
            worker.ask(messages.Close(), messages.Closed, stage="open", timeout_s=60)
        times.append(perf_counter() - begun - opened.load_ns / 1e9)
    return median(times)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--smoke", action="store_true", help="run every step once, with tiny sizes")
    args = parser.parse_args()
    rounds = 1 if args.smoke else args.rounds
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        os.environ |= {"LATBENCH_CACHE": f"{place}/cache", "LATBENCH_REGISTRY": f"{place}/r.db"}
        model = onnx_files.stack(folder / "model.onnx", side=96)
        command = [sys.executable, "-m", "latbench", "run", "--model", str(model), "--json"]
        command += ["--threads", "1", "--block-calls", "5"]
        if args.smoke:
            command += ["--protocol", "latbench-fixed@1", "--processes", "1"]
            command += ["--warmup", "1", "--calls", "5"]
        first = subprocess.run(command, check=True, capture_output=True)
        artifact = msgspec.convert(json.loads(first.stdout)["record"]["artifact"], Artifact)
        # The sentinel is a file in the same folder.
        path = folder / f"cache/artifacts/{artifact.sha256}.onnx"
        request = messages.Open(
            backend="onnxruntime",
            artifact=artifact,
            path=str(path),
            threads=1,
            seed=0,
            process=0,
            extra={},
        )
        process_s, overheads = start_s(request, 1 if args.smoke else 7), []
        for _ in range(rounds):
            begun = perf_counter()
            done = subprocess.run(command, check=True, capture_output=True)
            wall = perf_counter() - begun
            record = json.loads(done.stdout)["record"]
            inside = 0.0
            outcome = record["outcome"]
            for trace in (*outcome["traces"], *outcome["sentinel"]):
                timed = [ns for block in trace["blocks"] for ns in block["sample_ns"]]
                parts = [trace["load_ns"], trace["first_ns"], *trace["warmup_ns"], *timed]
                inside += process_s + sum(parts) / 1e9
            overheads.append(wall - inside)
        print(
            f"time of a run besides its inferences: median {median(overheads):.2f} s, "
            f"most {max(overheads):.2f} s ({len(outcome['traces'])} processes of the model and "
            f"{len(outcome['sentinel'])} of the sentinel, "
            f"each {process_s:.2f} s to start and end)"
        )
        with WorkerClient.with_module(WORKER) as worker:
            worker.ask(request, messages.SessionOpened, stage="open", timeout_s=60)
            worker.ask(messages.Time(calls=10), messages.BlockTimed, stage="time", timeout_s=60)
            ours = resident_mb(worker.hello.pid)
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert holder.stdout is not None
        holder.stdout.readline()
        theirs = resident_mb(holder.pid)
        holder.kill()
        print(
            f"memory: worker {ours:.0f} MB, bare script with the same session {theirs:.0f} MB, "
            f"{ours - theirs:.0f} MB more"
        )


if __name__ == "__main__":
    main()
