"""A registry of a million records: queries, durable inserts, size.

    python benchmarks/registry.py [--records N] [--registry URL] [--smoke]

Fills an empty registry (default: an SQLite file in a temporary folder) with rows of 72,000 groups
on 20 devices, one trace of 20 samples each (more would only add to the size of the file, which is
printed), then measures through the same ``Registry`` that the product uses. *In the database* is
the time of the query alone, over the driver. Goals: history <= 1 ms, latest of a device <= 10 ms,
at least 1,000 durable inserts a second with 1,000 samples each.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from sqlalchemy import text

from latbench.schema.blobs import pack_ns
from latbench.store import rows as stored
from latbench.store.listing import Row
from latbench.store.registry import Registry
from latbench.store.tables import latest, machines, records, traces
from support.records import make_record, make_trace

MODELS, DEVICES, BACKENDS = 900, 20, 4
CHUNK = 20_000


def group(i: int, draw: random.Random) -> tuple[str, str, str]:
    """Every group once, then groups at random."""
    k = i if i < MODELS * DEVICES * BACKENDS else draw.randrange(MODELS * DEVICES * BACKENDS)
    model, rest = divmod(k, DEVICES * BACKENDS)
    return f"model_{model}", f"device-{rest // BACKENDS}", f"backend_{rest % BACKENDS}"


def fill(registry: Registry, number: int) -> None:
    """Rows as ``Registry.add`` writes them, without making a million structs first."""
    draw = random.Random(0)
    template = make_record(traces=[make_trace(0, range(6_000_000, 6_000_020))])
    row = stored.record_row(template)
    (trace,) = stored.trace_rows(template)
    engine = registry._engine.execution_options(latbench_writes=True)
    newest: dict[tuple[str, str, str], dict[str, Any]] = {}

    def rows() -> Iterator[dict[str, Any]]:
        for i in range(number):
            model, device, backend = group(i, draw)
            id = f"{i:026d}"
            created = 10**18 + i
            made = {
                **row,
                "id": id,
                "body": row["body"].replace(template.id, id),
                "created_unix_ns": created,
                "model": model,
                "device": device,
                "backend": backend,
                "requested_backend": backend,
            }
            newest[device, model, backend] = {name: made[name] for name in Row.__struct_fields__}
            yield made

    with engine.begin() as connection:
        connection.execute(machines.insert(), [stored.machine_row(template)])
    source = rows()
    while chunk := list(islice(source, CHUNK)):
        with engine.begin() as connection:
            connection.execute(records.insert(), chunk)
            connection.execute(traces.insert(), [{**trace, "record_id": r["id"]} for r in chunk])
    with engine.begin() as connection:
        connection.execute(latest.insert(), list(newest.values()))
        connection.execute(text("analyze"))


def timed(call: Callable[[], object], rounds: int) -> float:
    """Median milliseconds of ``call``."""
    times = []
    for _ in range(rounds):
        start = perf_counter()
        call()
        times.append(perf_counter() - start)
    return median(times) * 1000


def in_database(registry: Registry, query: Any, rounds: int) -> float:
    """Median milliseconds of a query, compiled beforehand, over the driver."""
    engine = registry._engine
    compiled = query.compile(engine, compile_kwargs={"literal_binds": True})
    with engine.connect() as connection:
        cursor = connection.connection.cursor()
        return timed(lambda: cursor.execute(str(compiled)).fetchall(), rounds)


def inserts_per_second(registry: Registry, batch: int, seconds: float) -> float:
    """Durable inserts of records of 1,000 samples, ``batch`` in a transaction."""
    draw = random.Random(batch)
    samples = [round(draw.gauss(6e6, 1e5)) for _ in range(1000)]
    done, begun = 0, perf_counter()
    while perf_counter() - begun < seconds:
        registry.add_many(
            [
                make_record(
                    id=f"new-{batch}-{done + i}",
                    created_unix_ns=2 * 10**18 + done + i,
                    traces=[make_trace(0, samples)],
                )
                for i in range(batch)
            ]
        )
        done += batch
    return done / (perf_counter() - begun)


def report(url: str, number: int, rounds: int, seconds: float) -> None:
    with Registry.open(url) as registry:
        begun = perf_counter()
        fill(registry, number)
        print(f"filled with {number:,} records in {perf_counter() - begun:.0f} s\n")
        path = Path(registry.url)
        size = path.stat().st_size if path.exists() else None
        draw = random.Random(1)
        queries: list[Any] = []
        original = Registry._rows
        Registry._rows = lambda self, query: queries.append(query) or ()  # type: ignore[method-assign, func-returns-value, return-value]
        registry.history("model_7", "device-3", "backend_1")
        registry.latest("device-3")
        Registry._rows = original  # type: ignore[method-assign]
        history, newest = (in_database(registry, query, rounds) for query in queries)
        through = timed(
            lambda: registry.history(f"model_{draw.randrange(MODELS)}", "device-3", "backend_1"),
            rounds,
        )
        line("what", "measured", "goal")
        line("---", "---", "---")
        line("history of a group, in the database", f"{history:.3f} ms", "1 ms")
        line("the same through `Registry.history`", f"{through:.2f} ms")
        groups = f"latest of the {MODELS * BACKENDS:,} groups of a device"
        line(f"{groups}, in the database", f"{newest:.2f} ms", "10 ms")
        through = timed(lambda: registry.latest("device-3"), min(rounds, 20))
        line("the same through `Registry.latest`", f"{through:.1f} ms")
        through = timed(lambda: registry.get(f"{draw.randrange(number):026d}"), rounds)
        line("one record with its samples, `Registry.get`", f"{through:.2f} ms")
        for batch in (1, 10, 100):
            rate = inserts_per_second(registry, batch, seconds)
            what = f"durable inserts of 1,000 samples, {batch} a transaction"
            line(what, f"{rate:,.0f} /s", "1,000 /s")
        if size is not None:
            line(f"file, {number:,} records of 20 samples", f"{size / 1e9:.2f} GB")
        blob = len(pack_ns([round(draw.gauss(6e6, 1e5)) for _ in range(1000)]))
        line("1,000 samples in the file", f"{blob / 1000:.1f} kB")


def line(*cells: str) -> None:
    """One row of a Markdown table."""
    print("| " + " | ".join((*cells, "", "")[:3]) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--registry", help="URL of an empty registry")
    parser.add_argument("--smoke", action="store_true", help="run every step once, with tiny sizes")
    arguments = parser.parse_args()
    rounds, seconds = 200, 6.0
    if arguments.smoke:
        arguments.records, rounds, seconds = 100, 2, 0.1
    if arguments.registry:
        report(arguments.registry, arguments.records, rounds, seconds)
        return
    with tempfile.TemporaryDirectory() as folder:
        report(f"{folder}/registry.db", arguments.records, rounds, seconds)


if __name__ == "__main__":
    main()
