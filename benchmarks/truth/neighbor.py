"""A noisy neighbor: two programs that are busy in seeded random bursts.

python benchmarks/truth/neighbor.py SEED | --smoke
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

BUSY_S, IDLE_S = (0.02, 0.6), (0.05, 1.2)


def burst(seed: str) -> None:
    """Busy and idle for times drawn evenly, until killed. Touches memory as well as the CPU."""
    draw = random.Random(seed)
    block = bytearray(4_000_000)
    while True:
        until = time.perf_counter() + draw.uniform(*BUSY_S)
        while time.perf_counter() < until:
            block = bytearray(block)
            sum(range(2000))
        time.sleep(draw.uniform(*IDLE_S))


@contextmanager
def neighbors(noisy: bool, seed: int) -> Iterator[None]:
    """Two of them while the block runs, or none."""
    programs = [
        subprocess.Popen([sys.executable, __file__, f"{seed}/{i}"])
        for i in range(2 if noisy else 0)
    ]
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


if __name__ == "__main__":
    if sys.argv[1:] == ["--smoke"]:
        with neighbors(True, seed=0):
            time.sleep(0.2)
    else:
        burst(sys.argv[1])
