"""Time to count all sizes, to judge all claims from many records, and to build each model.

    python benchmarks/claims.py [--records N] [--parts static verdicts builds] [--smoke]

Goals: all static checks within 60 s with artifacts in the cache and 10 min without, all verdicts
from 10,000 stored records within 5 s, each network of the zoo built within 1 s. The records are of
the claimed models on the claimed devices and backends, and of this machine; ten processes of 200
samples.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import msgspec

from latbench.audit.check import check
from latbench.audit.library import ClaimLibrary, load_claims
from latbench.claims.statements import TIMED
from latbench.devices.catalog import load_devices
from latbench.schema.record import Record
from latbench.store.registry import Registry
from latbench.zoo.catalog import ZOO
from support.records import make_record, make_trace

HERE = "bench-cpu"


def records(registered: ClaimLibrary, number: int) -> list[Record]:
    """Of the models that claims are about, in turn: on the device and backend of one of their
    claims, or on this machine."""
    groups = sorted(
        {
            (model.build, device, backend)
            for claim in registered.claims
            if claim.says.metric in TIMED
            for id in (claim.model, claim.against)
            if id is not None and (model := registered.models[id]).build is not None
            for device, backend in (
                (claim.conditions.device or HERE, claim.conditions.backend or "onnxruntime"),
                (HERE, "onnxruntime"),
                (HERE, "tflite"),
            )
        }
    )
    draw = random.Random(0)
    found = []
    for i in range(number):
        model, device, backend = groups[i % len(groups)]
        level = draw.uniform(1e6, 9e6)
        traces = [
            make_trace(p, [round(level * draw.gauss(1, 0.004)) for _ in range(200)])
            for p in range(10)
        ]
        made = make_record(
            id=f"{i:026d}", model=str(model), device=device, backend=backend, traces=traces
        )
        assert made.artifact is not None
        image = msgspec.structs.replace(made.artifact.inputs[0], shape=(1, 3, 224, 224))
        artifact = msgspec.structs.replace(made.artifact, inputs=(image,), trained_parameters=None)
        found.append(msgspec.structs.replace(made, artifact=artifact, created_unix_ns=10**18 + i))
    return found


def verdicts(number: int) -> None:
    """The seconds that all verdicts take, from records alone."""
    registered = load_claims(load_devices())
    with (
        tempfile.TemporaryDirectory() as folder,
        Registry.open(f"{folder}/registry.db") as store,
    ):
        made = records(registered, number)
        for i in range(0, number, 500):
            store.add_many(made[i : i + 500])
        del made
        seconds = []
        for _ in range(3):
            start = time.perf_counter()
            checked = check(registered.claims, registered, store, device=HERE, static=False)
            seconds.append(time.perf_counter() - start)
        cited = {id for v in checked.verdicts for a in v.answers() for id in a.records}
        print(
            f"| {len(registered.claims)} verdicts from {number} records ({len(cited)} cited) "
            f"| {median(seconds):.1f} s | 5 s |",
            flush=True,
        )


def static(selection: list[str]) -> None:
    """Print the seconds that ``latbench claims check --question static`` takes as a program."""
    with tempfile.TemporaryDirectory() as folder:
        for name, environment in (
            ("first (empty cache)", {**os.environ, "LATBENCH_CACHE": folder}),
            ("again", {**os.environ, "LATBENCH_CACHE": folder}),
        ):
            start = time.perf_counter()
            command = [sys.executable, "-m", "latbench", "claims", "check", *selection]
            subprocess.run(
                [*command, "--question", "static"],
                env=environment,
                stdout=subprocess.DEVNULL,
                check=False,
            )
            goal = "600 s" if "first" in name else "60 s"
            print(f"| all static checks, {name} | {time.perf_counter() - start:.1f} s | {goal} |")


def builds(names: list[str]) -> None:
    """The zoo's networks with their own initialisation; then a few as they are exported: weights
    seeded, branches fused, BatchNorm folded, counted and checked."""
    from latbench.zoo.builder import build, construct
    from latbench.zoo.resolver import resolve

    seconds = {}
    for name in names:
        start = time.perf_counter()
        construct(resolve(name, weights=None, batch=None, resolution=None, seed=0))
        seconds[name] = time.perf_counter() - start
    slow = max(seconds, key=seconds.__getitem__)
    print(f"| {len(seconds)} zoo models built, median | {median(seconds.values()):.2f} s | 1 s |")
    print(f"| the slowest of them, {slow} | {seconds[slow]:.2f} s | 1 s |", flush=True)
    for name in {"mobilevig_ti", "mobilevig_b"} & set(names):
        start = time.perf_counter()
        build(resolve(name, weights=None, batch=None, resolution=None, seed=0))
        print(f"| {name} ready to be exported | {time.perf_counter() - start:.2f} s | |")
    late = sorted(name for name, each in seconds.items() if each > 1)
    print(f"above the goal: {', '.join(late) or 'none'}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--parts", nargs="+", default=["verdicts", "builds", "static"])
    parser.add_argument("--smoke", action="store_true", help="run every step once, with tiny sizes")
    args = parser.parse_args()
    names, selection = [entry.name for entry in ZOO], ["--all"]
    if args.smoke:
        args.records, names, selection = 20, ["mobilevig_ti"], ["tinyvit-21m-params"]
    print("| what | took | goal |\n|---|---|---|")
    for part in args.parts:
        {
            "verdicts": lambda: verdicts(args.records),
            "builds": lambda: builds(names),
            "static": lambda: static(selection),
        }[part]()


if __name__ == "__main__":
    main()
