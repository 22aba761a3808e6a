"""A device at the end of an ssh connection compared with this machine, on this machine.

    python benchmarks/ssh.py [--rounds N] [--calls N] [--smoke]

The device is an sshd in namespaces of this machine, so the processor is the same. Two workers hold
the same model and are timed block by block, in random order, the other one stopped meanwhile.
*Latency*: the ratio of the medians with its 95 % interval over rounds. Goal: 1.00 +- 0.01.
*Cost of a block*: the wall time of a block besides its calls, with stopping and continuing.
Goal: at most 10 ms. *Second start*: from asking for a worker to its greeting. Goal: at most 1 s.
*A device half as fast*: the same inferences, of 100 ms and more, on two devices that have the same
CPU alone. While the second one is timed, a program of the same weight competes for it, so it gets
half of the time (:mod:`support.hosts.control_group`); by mean. Known: 2.

Needs Linux, root and sshd; elsewhere it says so.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from statistics import mean, median
from time import perf_counter

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from latbench.devices.local import LocalDevice
from latbench.devices.measured import MeasuredDevice
from latbench.devices.opening import Devices
from support import onnx_files
from support.alternating import alternate, competing, ratio
from support.devices import add_with_checkout, use_home
from support.hosts import Bed, Host, why_unavailable
from support.hosts.spec import CHECKOUT


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
    alone = bed.started(name="alone", visible=CHECKOUT, cpu=0)
    half = bed.started(name="half", visible=CHECKOUT, cpu=0)
    with fast as board, alone as whole, half as shared, Devices() as devices:
        for host in (board, whole, shared):
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
        pair = devices.open("alone"), devices.open("half")
        one, two = alternate(*pair, large, max(2, rounds // 4), 4, lambda: competing(shared))
        found, low, high = ratio(one, two, mean)
        print(f"half of a CPU / all of it: {found:.3f} ({low:.3f} to {high:.3f}), known: 2")


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
