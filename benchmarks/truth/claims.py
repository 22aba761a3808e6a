"""Claims whose truth is known, true and false ones of each timed kind, on the fake backend.

    python benchmarks/truth/claims.py [--pairs N] [--smoke]

Two models are timed interleaved by ``latbench-compare@1``, N times at each of three true ratios,
with 1 % between processes. Each pair of records is then compared with claims that are *exact*, that
lie just *at the edge* of what would be confirmed, and that are *off* by twice the margin (of an
ordering: the other way round). At the edge at most 5 % may be confirmed, of exact ones at most 5 %
refuted, of those that are off at most 5 % confirmed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

import latbench
from latbench.bench.compare import compare
from latbench.claims.judge import verdict
from latbench.claims.model import Claim, ClaimedModel
from latbench.claims.verdict import CheckContext
from latbench.schema.protocol_catalog import COMPARE
from latbench.schema.record import Record

OTHER, MINE = "mobilevig_m", "mobilevig_ti"
MARGIN = 0.05
"""Declared by every planted claim, and the tolerance of parities."""
RATIOS = {"equal": 1.0, "edge": 1 + MARGIN, "far": 1.3}
BETWEEN = 0.01


def truth(model: str) -> float:
    """Milliseconds that the fake device takes."""
    path = latbench.export(model, format="fake").path
    return float(json.loads(path.read_text())["latency_ns"]) / 1e6


def planted(family: str, one: float, two: float) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(kind, truth, statement) of a model of ``one`` ms against another of ``two`` ms."""
    ms = {"metric": "latency", "unit": "ms"}
    than = {"metric": "latency", "against": OTHER}
    for name, factor in (("exact", 1.0), ("edge", 1 + MARGIN), ("off", (1 + MARGIN) ** 2)):
        yield "value", name, {"kind": "value", "figure": f"{one * factor:.5f}", **ms}
        bound = one * {"exact": 1 + MARGIN, "edge": 1.0, "off": 1 - MARGIN}[name]
        yield "bound", name, {"kind": "bound", "figure": f"{bound:.5f}", "sense": "below", **ms}
        if family == "far":
            # Only where the effect is larger than twice the margin is the margin whole.
            ratio = f"{one / two * factor:.5f}"
            says = {"kind": "ratio", "figure": ratio, "unit": "x", "sense": "of", **than}
            yield "ratio", name, says
            margin = {"exact": 0.0, "edge": 1.0, "off": 2.0}[name] * MARGIN * two
            less = f"{two - one - margin:.5f}"
            says = {"kind": "difference", "figure": less, "sense": "less", **ms, "against": OTHER}
            yield "difference", name, says
    parity = {"equal": "exact", "edge": "edge", "far": "off"}[family]
    tolerance = {"tolerance_percent": 100 * MARGIN, "tolerance_from": "registry"}
    yield "parity", parity, {"kind": "parity", **tolerance, **than}
    if family == "equal":
        yield "ordering", "edge", {"kind": "ordering", "sense": "less", **than}
    else:
        yield "ordering", "exact", {"kind": "ordering", "sense": "less", **than}
        yield "ordering", "off", {"kind": "ordering", "sense": "more", **than}


def plain(record: Record) -> Record:
    """The record without the options of its request."""
    request = msgspec.structs.replace(record.request, options={})
    return msgspec.structs.replace(record, request=request)


def answer(kind: str, says: dict[str, Any], records: tuple[Record, Record]) -> str:
    """To the question that this kind of claim is there for."""
    tree = {
        "id": "planted",
        "model": MINE,
        "says": says,
        "source": {"id": "s", "where": "here"},
        "conditions": {
            "device": records[0].device.id,
            "backend": "fake",
            "batch": 1,
            "resolution": 224,
        },
        "by": "authors",
        "margin_percent": 100 * MARGIN,
    }
    claim = msgspec.convert(tree, Claim)
    bench = CheckContext(
        models={name: ClaimedModel(id=name, name=name, build=name) for name in (OTHER, MINE)},
        counts={},
        devices=frozenset({records[0].device.id}),
        backends=frozenset({"fake"}),
    )
    found = verdict(claim, records, bench)
    if kind in ("ordering", "parity"):
        return found.ordering[0].answer
    assert found.value is not None
    return found.value.answer


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--smoke", action="store_true", help="run every step once, with tiny sizes")
    args = parser.parse_args()
    protocol = COMPARE
    if args.smoke:
        args.pairs = 1
        protocol = msgspec.structs.replace(
            COMPARE, target_ppm=None, processes=2, max_processes=2, min_ns=10_000_000
        )
    one, two = truth(MINE), truth(OTHER)
    tally: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    with tempfile.TemporaryDirectory() as folder:
        for family, ratio in RATIOS.items():
            # The other one is slower by the ratio.
            scale = one * ratio / two
            for draw in range(args.pairs):
                common = f"backend=fake,between={BETWEEN}"
                done = compare(
                    f"{OTHER},{common},scale={scale:.9f},draw={family}-other-{draw}",
                    f"{MINE},{common},draw={family}-mine-{draw}",
                    protocol=protocol,
                    order_seed=draw,
                    registry=f"{folder}/registry.db",
                )
                # The fake's options make it another network; they are not settings of a runtime.
                pair = plain(done.a), plain(done.b)
                for kind, name, says in planted(family, one, one * ratio):
                    tally[kind, name][answer(kind, says, pair)] += 1
    print("| kind | truth | claims | confirmed | refuted | inconclusive |")
    print("|---|---|---|---|---|---|")
    for (kind, name), found in sorted(tally.items()):
        total = found.total()
        shares = (f"{found[each] / total:.1%}" for each in ("confirmed", "refuted", "inconclusive"))
        print(f"| {kind} | {name} | {total} | {' | '.join(shares)} |")
    if args.out is not None:
        args.out.write_text(json.dumps({f"{k}, {n}": dict(c) for (k, n), c in tally.items()}))


if __name__ == "__main__":
    main()
