"""Claims that are planted, and records that are made for them."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import msgspec

from latbench.claims.judge import verdict
from latbench.claims.model import Claim, ClaimedModel, StatedCounts
from latbench.claims.quantities import PrintedValue, parse_count
from latbench.claims.verdict import Answer, CheckContext, CountedModel
from latbench.errors import Failure, FailureKind, Stage
from latbench.schema.protocol import TimingProtocol
from latbench.schema.record import (
    Fallback,
    Interleaved,
    Outcome,
    Record,
)
from support.records import make_record, make_trace

MODELS = {
    "one": ClaimedModel(id="one", name="One", build="one"),
    "two": ClaimedModel(id="two", name="Two", build="timm:two"),
    "lost": ClaimedModel(id="lost", name="Lost", absent="no code was released", unreleased=True),
    "afar": ClaimedModel(
        id="afar",
        name="Afar",
        absent="no builder here",
        counts=StatedCounts(source="its README", parameters="4.8 M", macs="291 M"),
    ),
}


HERE = {"device": "bench-cpu", "backend": "onnxruntime", "batch": 1, "resolution": 224}


def exact(count: int) -> PrintedValue:
    return PrintedValue(value=count, low=count, high=count)


COUNTS = {
    "one": CountedModel(parameters=exact(21_198_568), macs=exact(4_038_000_000)),
    "two": CountedModel(
        parameters=exact(5_386_792), macs=exact(1_000_000_000), more_macs=1_000_000_000
    ),
    "afar": CountedModel(
        parameters=parse_count("4.8 M"), macs=parse_count("291 M"), source="r", counted=False
    ),
    "lost": CountedModel(missing="no code was released"),
}


BENCH = CheckContext(
    models=MODELS,
    counts=COUNTS,
    devices=frozenset({"bench-cpu"}),
    backends=frozenset({"onnxruntime"}),
)


def claim(says: Mapping[str, Any], **changes: Any) -> Claim:
    tree = {
        "id": "planted",
        "model": "one",
        "says": dict(says),
        "source": {"id": "s", "where": "Table 1"},
        "conditions": HERE,
        "by": "authors",
    }
    return msgspec.convert(tree | changes, Claim)


def value(figure: str, unit: str = "ms", **changes: Any) -> Claim:
    metric = "latency" if unit == "ms" else "throughput"
    return claim({"kind": "value", "metric": metric, "figure": figure, "unit": unit}, **changes)


def timed(
    ms: float,
    model: str = "one",
    *,
    processes: int = 10,
    spread: float = 0.002,
    id: str = "r1",
    device: str = "bench-cpu",
    backend: str = "onnxruntime",
    comparison: str | None = None,
    part: int = 0,
    batch: int = 1,
    resolution: int = 224,
) -> Record:
    """A record whose processes have medians of about ``ms``."""
    draw = random.Random(f"{id}{model}{part}")
    traces = []
    for process in range(processes):
        level = ms * 1e6 * draw.gauss(1, spread)
        values = [round(level * draw.gauss(1, 0.001)) for _ in range(200)]
        traces.append(make_trace(process, values))
    record = make_record(id=id, model=model, device=device, backend=backend, traces=traces)
    assert record.artifact is not None
    image = msgspec.structs.replace(
        record.artifact.inputs[0], shape=(batch, 3, resolution, resolution)
    )
    return msgspec.structs.replace(
        record,
        artifact=msgspec.structs.replace(record.artifact, inputs=(image,)),
        interleaved=None
        if comparison is None
        else Interleaved(comparison=comparison, part=part, parts=2, order_seed=0),
    )


def of_value(claim: Claim, *records: Record) -> Answer:
    answer = verdict(claim, records, BENCH).value
    assert answer is not None
    return answer


def pair(two: float, one: float, id: str = "c", **changes: Any) -> tuple[Record, Record]:
    """Two parts of one comparison: the other model, then the claim's."""
    return (
        timed(two, "timm:two", id=f"{id}2", comparison=id, part=0, **changes),
        timed(one, id=f"{id}1", comparison=id, part=1, **changes),
    )


def of_ordering(claim: Claim, *records: Record) -> tuple[Answer, ...]:
    return verdict(claim, records, BENCH).ordering


def fallen_back(record: Record) -> Record:
    request = msgspec.structs.replace(record.request, backend="coreml")
    return msgspec.structs.replace(
        record, request=request, fallback=Fallback(reason="no Mac", hint=None)
    )


def under(record: Record, protocol: TimingProtocol) -> Record:
    return msgspec.structs.replace(record, protocol=protocol)


def of_parameters(record: Record, trained: int | None, deployed: int | None) -> Record:
    """The record of a network of so many."""
    assert record.artifact is not None
    counts = record.artifact.model_counts
    assert counts is not None
    made = msgspec.structs.replace(
        record.artifact,
        trained_parameters=trained,
        model_counts=None
        if deployed is None
        else msgspec.structs.replace(counts, parameters=deployed),
    )
    return msgspec.structs.replace(record, artifact=made)


def failed_at(stage: Stage, kind: FailureKind = "error", **changes: Any) -> Record:
    record = timed(2.3, **changes)
    failure = Failure(stage=stage, kind=kind, message="it did not work")
    outcome = Outcome(status="failed", failure=failure)
    return msgspec.structs.replace(record, outcome=outcome)


RATIO = {"kind": "ratio", "metric": "latency", "unit": "x", "sense": "less", "against": "two"}


ORDERING = {"kind": "ordering", "metric": "latency", "sense": "less", "against": "two"}


PERCENT = {"kind": "ratio", "metric": "latency", "unit": "%", "sense": "less", "against": "two"}


def less(figure: str, unit: str = "ms", sense: str = "less") -> dict[str, Any]:
    metric = "latency" if unit == "ms" else "throughput"
    return {
        **{"kind": "difference", "metric": metric, "figure": figure, "unit": unit},
        **{"sense": sense, "against": "two"},
    }


def with_settings(record: Record, **settings: str) -> Record:
    assert record.runtime is not None
    runtime = msgspec.structs.replace(
        record.runtime, settings={**record.runtime.settings, **settings}
    )
    return msgspec.structs.replace(record, runtime=runtime)
