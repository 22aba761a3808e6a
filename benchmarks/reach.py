"""Time that a ±1 % interval takes in addition to its timed inferences.

    python benchmarks/reach.py [--model M] [--runs N] [--smoke]

For each process of a run by ``latbench-warm@1``, the time from all its sessions being open to the
end of the last block, over the time of its timed inferences: of all of them (the sentinel's,
discarded calls and warm-up are timed too), and of the model's blocks alone. Goal: at most 1.3.
Starting workers and loading models is reported separately.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence

import latbench
from latbench.schema.protocol_options import named_protocol
from latbench.schema.record import Record
from latbench.schema.trace import Trace


def inferences_ns(traces: Sequence[Trace], *, blocks_only: bool) -> int:
    total = 0
    for trace in traces:
        total += sum(sum(block.sample_ns) for block in trace.blocks)
        total += 0 if blocks_only else sum(trace.warmup_ns)
    return total


def row(record: Record) -> str:
    traces, beside = record.outcome.traces, record.outcome.sentinel
    summary = latbench.summarize(record)
    assert summary is not None
    assert summary.half_width is not None
    measuring = 0
    for trace, other in zip(traces, beside, strict=True):
        assert trace.opened_ns is not None
        assert other.opened_ns is not None
        ends = (
            (each.opened_ns or 0) + each.blocks[-1].start_ns + sum(each.blocks[-1].sample_ns)
            for each in (trace, other)
        )
        # The sentinel is opened last, and its first inference comes before any warm-up.
        measuring += max(ends) - other.opened_ns - (other.first_ns or 0)
    wall = (traces[-1].opened_ns or 0) + measuring // len(traces)
    everything = inferences_ns((*traces, *beside), blocks_only=False)
    alone = inferences_ns(traces, blocks_only=True)
    return (
        f"| {summary.processes} | ±{summary.half_width:.2%} | {record.outcome.stopped} "
        f"| {wall / 1e9:.0f} s | {(wall - measuring) / 1e9:.0f} s "
        f"| {measuring / everything:.2f} | {measuring / alone:.2f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="mobilevig_ti")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--smoke", action="store_true", help="run every step once, with tiny sizes")
    args = parser.parse_args()
    backend, protocol = "onnxruntime", named_protocol("latbench-warm")
    if args.smoke:
        # The fake backend takes no time, and its model needs no torch.
        args.runs, backend = 1, "fake"
    print(
        "| processes | reached | stopped | wall, about | of it starts and loads "
        "| rest / all timed inferences | rest / the model's blocks |"
    )
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(args.runs):
            result = latbench.run(
                args.model,
                backend=backend,
                threads=1,
                protocol=protocol,
                registry=f"{folder}/r.db",
            )
            print(row(result.record), flush=True)


if __name__ == "__main__":
    main()
