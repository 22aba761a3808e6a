"""One model on two devices, timed block by block in random order: the ratio of what it takes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from time import perf_counter

import numpy as np

from latbench.api import ExportSpec
from latbench.devices.measured import MeasuredDevice
from latbench.worker import messages
from latbench.worker.client import WorkerClient
from latbench_exporters.onnx.exporter import exporter
from support.hosts import Host
from support.records import make_artifact

TIMEOUT_S = 120.0
Around = Callable[[], AbstractContextManager[object]]


class Timed:
    """One worker with an open model, and what its blocks took."""

    def __init__(self, worker: WorkerClient, request: messages.Open) -> None:
        self.worker = worker
        worker.ask(request, messages.SessionOpened, stage="open", timeout_s=TIMEOUT_S)
        worker.ask(messages.Time(calls=4), messages.BlockTimed, stage="time", timeout_s=TIMEOUT_S)
        self.blocks: list[Sequence[int]] = []
        self.besides_s: list[float] = []

    def block(self, calls: int) -> None:
        """Time one block; its first call, which finds the caches cold, does not count."""
        begun = perf_counter()
        asked = messages.Time(calls=calls + 1)
        timed = self.worker.ask(asked, messages.BlockTimed, stage="time", timeout_s=TIMEOUT_S)
        self.worker.pause()
        wall = perf_counter() - begun
        self.besides_s.append(wall - sum(timed.sample_ns) / 1e9)
        self.blocks.append(timed.sample_ns[1:])


def alternate(
    here: MeasuredDevice,
    there: MeasuredDevice,
    model: Path,
    rounds: int,
    calls: int,
    around: Around = nullcontext,
) -> tuple[Timed, Timed]:
    """Time a model on two devices block by block, those of the second one within ``around``."""
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
                with nullcontext() if timed is pair[0] else around():
                    timed.block(calls)
        return pair[0], pair[1]


def ratios(one: Timed, two: Timed, of: Callable[[Sequence[int]], float]) -> list[float]:
    """Ratio of the second to the first in each round."""
    return [of(b) / of(a) for a, b in zip(one.blocks, two.blocks, strict=True)]


def ratio(
    one: Timed, two: Timed, of: Callable[[Sequence[int]], float]
) -> tuple[float, float, float]:
    """Median of the ratios with its 95 % interval, by resampling rounds."""
    draw = np.random.default_rng(0)
    logs = np.log(ratios(one, two, of))
    resampled = np.median(draw.choice(logs, (2000, len(logs))), axis=1)
    low, high = np.percentile(resampled, [2.5, 97.5])
    return float(np.exp(np.median(logs))), float(np.exp(low)), float(np.exp(high))


@contextmanager
def competing(host: Host) -> Iterator[None]:
    """Half of its CPU is taken from ``host`` meanwhile."""
    host.compete(True)
    try:
        yield
    finally:
        host.compete(False)
