"""A device at the end of an ssh connection compared with this machine, on this machine.

    python benchmarks/ssh.py [--rounds N] [--calls N] [--smoke]

The device is an sshd in namespaces of this machine, so the processor is the same. Two workers hold
the same model and are timed block by block, in random order, the other one stopped meanwhile.
*Latency*: the ratio of the medians with its 95 % interval over rounds. Goal: 1.00 +- 0.01.
*Cost of a block*: the wall time of a block besides its calls, with stopping and continuing.
Goal: at most 10 ms. *Second start*: from asking for a worker to its greeting. Goal: at most 1 s.
*A device half as fast*: the same inferences, of 100 ms and more, on a device that has half of a
CPU by quota; by mean, because each inference waits for whole periods. Known: 2.

Needs Linux, root and sshd; elsewhere it says so.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import mean, median
from time import perf_counter

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import numpy as np

from latbench.api import ExportSpec
from latbench.devices.local import LocalDevice
from latbench.devices.measured import MeasuredDevice
from latbench.devices.opening import Devices
from latbench.worker import messages
from latbench.worker.client import WorkerClient
from latbench_exporters.onnx.exporter import exporter
from support import onnx_files
from support.devices import add_with_checkout, use_home
from support.hosts import Bed, Host, why_unavailable
from support.hosts.spec import CHECKOUT
from support.records import make_artifact

TIMEOUT_S = 120.0


class Timed:
    """One worker with an open model, and what its blocks took."""

    def __init__(self, worker: WorkerClient, request: messages.Open) -> None:
        self.worker = worker
        worker.ask(request, messages.SessionOpened, stage="open", timeout_s=TIMEOUT_S)
        worker.ask(messages.Time(calls=10), messages.BlockTimed, stage="time", timeout_s=TIMEOUT_S)
        self.blocks: list[Sequence[int]] = []
        self.besides_s: list[float] = []

    def block(self, calls: int) -> None:
        """Time one block."""
        begun = perf_counter()
        asked = messages.Time(calls=calls)
        timed = self.worker.ask(asked, messages.BlockTimed, stage="time", timeout_s=TIMEOUT_S)
        self.worker.pause()
        wall = perf_counter() - begun
        self.besides_s.append(wall - sum(timed.sample_ns) / 1e9)
        self.blocks.append(timed.sample_ns)


def alternate(
    here: MeasuredDevice, there: MeasuredDevice, model: Path, rounds: int, calls: int
) -> tuple[Timed, Timed]:
    """Time a model on two devices block by block."""
    fixed = model.with_suffix(".fixed.onnx")
    exported = exporter().adopt(model, ExportSpec(), fixed)
    artifact = make_artifact(fixed, exported, "onnx")
    draw = random.Random(0)
    with ExitStack() as exits:
        pair = []
        for device in (here, there):
            worker = exits.enter_context(device.start_worker("a benchmark"))
            request = messages.Open(
                backend="onnxruntime",
                artifact=artifact,
                path=str(device.place(fixed)),
                threads=1,
                seed=0,
                process=0,
                extra={},
            )
            pair.append(Timed(worker, request))
            worker.pause()
        for _ in range(rounds):
            for timed in draw.sample(pair, 2):
                timed.block(calls)
        return pair[0], pair[1]


def ratio(
    one: Timed, two: Timed, of: Callable[[Sequence[int]], float]
) -> tuple[float, float, float]:
    """Ratio of the second to the first with its interval, by resampling rounds."""
    pairs = [(of(a), of(b)) for a, b in zip(one.blocks, two.blocks, strict=True)]
    draw = np.random.default_rng(0)
    logs = np.log([b / a for a, b in pairs])
    resampled = np.median(draw.choice(logs, (2000, len(logs))), axis=1)
    low, high = np.percentile(resampled, [2.5, 97.5])
    return float(np.exp(np.median(logs))), float(np.exp(low)), float(np.exp(high))


def started_s(device: MeasuredDevice, rounds: int) -> float:
    """Median time until a worker greets."""
    took = []
    for _ in range(rounds):
        begun = perf_counter()
        with device.start_worker("a benchmark"):
            took.append(perf_counter() - begun)
    return median(took)


def compare(bed: Bed, folder: Path, rounds: int, calls: int, side: int) -> None:
    """Print the four results."""
    fast = bed.started(name="board", visible=CHECKOUT)
    slow = bed.started(name="slow", visible=CHECKOUT, cpus=0.5)
    with fast as board, slow as half, Devices() as devices:
        for host in (board, half):
            known(host, folder)
        here, there = LocalDevice(), devices.open("board")
        model = onnx_files.stack(folder / "model.onnx", side=side)
        one, two = alternate(here, there, model, rounds, calls)
        found, low, high = ratio(one, two, median)
        print(f"latency over ssh / local: {found:.4f} ({low:.4f} to {high:.4f}), {rounds} rounds")
        for name, timed in (("local", one), ("ssh", two)):
            cost = sorted(timed.besides_s)
            print(
                f"cost of a block, {name}: median {1e3 * median(cost):.2f} ms, "
                f"most {1e3 * cost[-1]:.2f} ms"
            )
        times = max(1, rounds // 8)
        print(f"start of a worker: local {started_s(here, times):.2f} s, ", end="")
        print(f"ssh {started_s(there, times):.2f} s")
        large = onnx_files.stack(folder / "large.onnx", side=4 * side)
        one, two = alternate(here, devices.open("slow"), large, max(2, rounds // 4), 4)
        found, low, high = ratio(one, two, mean)
        print(f"half a CPU / local: {found:.2f} ({low:.2f} to {high:.2f}), known: 2")


def known(host: Host, folder: Path) -> None:
    """Make a host one of the user's devices."""
    use_home(folder / "home", host)
    add_with_checkout(host)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--smoke", action="store_true", help="run every step once, with tiny sizes")
    args = parser.parse_args()
    if (reason := why_unavailable()) is not None:
        print(reason)
        return
    bed = Bed()
    try:
        with tempfile.TemporaryDirectory() as place:
            os.environ["LATBENCH_REGISTRY"] = f"{place}/registry.db"
            if args.smoke:
                compare(bed, Path(place), 2, 2, 16)
            else:
                compare(bed, Path(place), args.rounds, args.calls, 160)
    finally:
        bed.close()


if __name__ == "__main__":
    main()
