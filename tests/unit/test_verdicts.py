"""Verdicts on planted claims, true and false ones of each kind, against made records."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from builders import make_record, make_trace
from latbench.core.answers import Answer, Bench, CountedModel
from latbench.core.claims import Claim, ClaimedModel, StatedCounts
from latbench.core.figures import Figure, parse_count
from latbench.core.records import Device, Fallback, Interleaved, Placement, Record
from latbench.core.verdicts import overall, verdict

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


def exact(count: int) -> Figure:
    return Figure(value=count, low=count, high=count)


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
BENCH = Bench(
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


@pytest.mark.parametrize(
    ("figure", "ms", "answer"),
    [
        ("2.30", 2.30, "confirmed"),
        ("2.30", 2.36, "confirmed"),
        ("2.30", 2.60, "refuted"),
        ("2.30", 2.00, "refuted"),
        ("2", 2.4, "confirmed"),  # the printed digit is wider than the margin
        ("2-3", 2.5, "confirmed"),
        ("2-3", 3.5, "refuted"),
    ],
)
def test_a_value(figure: str, ms: float, answer: str) -> None:
    found = of_value(value(figure), timed(ms))
    assert found.answer == answer
    assert found.records == ("r1",)
    assert found.found == pytest.approx(ms * 1e6, rel=0.01)


def test_a_declared_margin_is_kept() -> None:
    assert of_value(value("2.30"), timed(2.36)).answer == "confirmed"
    assert of_value(value("2.30", margin_percent=1.0), timed(2.36)).answer == "refuted"


def test_noise_and_few_processes_tell_nothing() -> None:
    noisy = of_value(value("2.30", margin_percent=1.0), timed(2.30, spread=0.02))
    assert noisy.answer == "inconclusive"
    few = of_value(value("2.30"), timed(2.30, processes=3))
    assert few.answer == "inconclusive"
    assert few.needs


def test_records_that_contradict_each_other_tell_nothing() -> None:
    found = of_value(value("2.30"), timed(2.30), timed(3.0, id="r2"))
    assert found.answer == "inconclusive"
    assert set(found.records) == {"r1", "r2"}


def test_throughput_is_of_a_batch() -> None:
    many = value("1000", "images/s", conditions={**HERE, "batch": 8})
    assert of_value(many, timed(8.0, batch=8)).answer == "confirmed"
    assert of_value(many, timed(10.0, batch=8)).answer == "refuted"


def fallen_back(record: Record) -> Record:
    request = msgspec.structs.replace(record.request, backend="coreml")
    return msgspec.structs.replace(
        record, request=request, fallback=Fallback(reason="no Mac", hint=None)
    )


@pytest.mark.parametrize(
    ("conditions", "record"),
    [
        ({}, fallen_back(timed(2.3))),
        ({"backend": "coreml"}, fallen_back(timed(2.3))),
        ({}, timed(2.3, device="other-cpu")),
        ({}, timed(2.3, backend="torch")),
        ({"backend": "fake"}, timed(2.3, backend="fake")),
        ({}, timed(2.3, batch=2)),
        ({}, timed(2.3, resolution=192)),
        ({"precision": "fp16"}, timed(2.3)),
        ({"threads": 1}, timed(2.3)),
        ({"compute_unit": "gpu"}, timed(2.3)),
        ({"provider": "CUDAExecutionProvider"}, timed(2.3)),
        ({}, timed(2.3, model="timm:two")),
    ],
)
def test_a_record_of_other_conditions_is_not_used(
    conditions: dict[str, Any], record: Record
) -> None:
    found = of_value(value("2.30", conditions={**HERE, **conditions}), record)
    assert found.answer in ("inconclusive", "not testable here")
    assert found.records == ()


def test_the_same_conditions_are_used() -> None:
    named = {
        **HERE,
        "precision": "fp32",
        "threads": 2,
        "compute_unit": "cpu",
        "provider": "CPUExecutionProvider",
    }
    assert of_value(value("2.30", conditions=named), timed(2.3)).answer == "confirmed"


def test_a_unit_that_nobody_knows_counts_for_no_accelerator() -> None:
    record = timed(2.3)
    assert record.runtime is not None
    runtime = msgspec.structs.replace(
        record.runtime, placement=Placement(units={"Core ML": None}, known="unknown")
    )
    record = msgspec.structs.replace(record, runtime=runtime)
    named = value("2.30", conditions={**HERE, "compute_unit": "npu"})
    assert of_value(named, record).records == ()


def test_what_is_left_open_is_told() -> None:
    found = of_value(value("2.30", open=["precision"]), timed(2.3))
    assert "the source leaves precision open: this is fp32" in found.reasons


def test_a_model_of_other_classes_is_another_model() -> None:
    models = {**MODELS, "one": msgspec.structs.replace(MODELS["one"], classes=1000)}
    bench = msgspec.structs.replace(BENCH, models=models)
    found = verdict(value("2.30"), [timed(2.3)], bench).value
    assert found is not None
    assert found.records == ()


def test_a_claimed_failure() -> None:
    assert of_value(value("failed"), timed(2.3)).answer == "refuted"
    failed = make_record(model="one", device="bench-cpu", status="failed")
    assert of_value(value("failed", conditions={**HERE, "resolution": None}), failed).answer == (
        "confirmed"
    )


def test_a_bound() -> None:
    bound = claim(
        {"kind": "bound", "metric": "latency", "figure": "80", "unit": "ms", "sense": "below"}
    )
    assert of_value(bound, timed(60)).answer == "confirmed"
    assert of_value(bound, timed(90)).answer == "refuted"


RATIO = {"kind": "ratio", "metric": "latency", "unit": "x", "sense": "less", "against": "two"}


def test_a_ratio_of_models_timed_in_turn() -> None:
    faster = claim({**RATIO, "figure": "1.5"})
    assert of_value(faster, *pair(3.0, 2.0)).answer == "confirmed"
    assert of_value(faster, *pair(3.0, 2.8)).answer == "refuted"
    assert [a.answer for a in of_ordering(faster, *pair(3.0, 2.8))] == ["confirmed"]
    assert [a.answer for a in of_ordering(faster, *pair(3.0, 3.3))] == ["refuted"]


def test_a_ratio_of_records_apart_is_not_told() -> None:
    faster = claim({**RATIO, "figure": "1.5"})
    apart = timed(3.0, "timm:two", id="r2"), timed(2.0)
    assert of_value(faster, *apart).answer == "inconclusive"
    assert [a.answer for a in of_ordering(faster, *apart)] == ["confirmed"]
    near = timed(3.0, "timm:two", id="r2"), timed(2.9)
    assert [a.answer for a in of_ordering(faster, *near)] == ["inconclusive"]


@pytest.mark.parametrize(
    ("reading", "one", "answer"),
    [
        ("time", 3.0, "confirmed"),
        ("rate", 3.2, "confirmed"),
        ("time", 3.2, "refuted"),
        ("open", 3.0, "inconclusive"),
        ("open", 3.2, "inconclusive"),
        ("open", 3.7, "refuted"),
    ],
)
def test_a_percentage_is_confirmed_under_all_its_readings(
    reading: str, one: float, answer: str
) -> None:
    said = {**RATIO, "figure": "25", "unit": "%", "reading": reading}
    found = of_value(claim(said, margin_percent=2.0), *pair(4.0, one))
    assert found.answer == answer


def test_a_difference() -> None:
    less = {**RATIO, "kind": "difference", "figure": "2.4", "unit": "ms"}
    assert of_value(claim(less), *pair(18.6, 16.2)).answer == "confirmed"
    assert of_value(claim(less), *pair(18.6, 18.0)).answer == "refuted"


ORDERING = {"kind": "ordering", "metric": "latency", "sense": "less", "against": "two"}


def test_an_ordering_may_differ_from_device_to_device() -> None:
    here, there = pair(3.0, 2.8), pair(3.0, 3.2, id="d", device="other-cpu")
    found = {a.where: a.answer for a in of_ordering(claim(ORDERING), *here, *there)}
    assert found == {
        "bench-cpu, onnxruntime": "confirmed",
        "other-cpu, onnxruntime": "refuted",
    }


def test_the_pair_that_was_timed_in_turn_is_preferred() -> None:
    apart = timed(1.0, "timm:two", id="z2"), timed(2.0, id="z1")
    (found,) = of_ordering(claim(ORDERING), *apart, *pair(3.0, 2.8))
    assert found.records == ("c2", "c1")


def test_made_up_times_are_not_counted() -> None:
    assert of_ordering(claim(ORDERING), *pair(3.0, 3.5, backend="fake"))[0].records == ()


def test_an_ordering_needs_the_claims_inputs() -> None:
    wanted = claim(ORDERING, conditions={**HERE, "against_resolution": 256})
    assert of_ordering(wanted, *pair(3.0, 2.8))[0].records == ()
    other = timed(3.0, "timm:two", id="c2", comparison="c", resolution=256)
    mine = timed(2.8, id="c1", comparison="c", part=1)
    assert of_ordering(wanted, other, mine)[0].answer == "confirmed"


@pytest.mark.parametrize(
    ("one", "answer"), [(3.05, "confirmed"), (3.5, "refuted"), (2.5, "refuted")]
)
def test_a_parity(one: float, answer: str) -> None:
    said = {
        "kind": "parity",
        "metric": "latency",
        "against": "two",
        "tolerance_percent": 5,
        "tolerance_from": "registry",
    }
    (found,) = of_ordering(claim(said), *pair(3.0, one))
    assert found.answer == answer


def test_without_records() -> None:
    found = of_value(value("2.30"))
    assert found.answer == "inconclusive"
    assert found.needs == ("latbench run --model one",)
    far = of_value(value("2.30", conditions={**HERE, "device": "iphone-13-mini"}))
    assert far.answer == "not testable here"
    assert far.needs == ("the device iphone-13-mini",)
    (ordering,) = of_ordering(claim({**ORDERING, "against": "afar"}))
    assert ordering.answer == "not testable here"
    assert "Afar: no builder here" in ordering.needs


def test_what_nobody_can_check() -> None:
    lost = verdict(claim(ORDERING, model="lost"), [], BENCH)
    assert [answer.answer for answer in lost.answers()] == ["unverifiable"]
    unnamed = of_value(value("2.30", conditions={"batch": 1}))
    assert unnamed.answer == "unverifiable"
    assert "does not name the device and the backend" in unnamed.reasons[0]
    video = of_value(value("2.30", out_of_scope="it takes video"))
    assert video.answer == "not testable here"
    memory = claim(
        {"kind": "size", "metric": "memory", "figure": "320", "unit": "KB"}, model="lost"
    )
    assert of_value(memory).answer == "unverifiable"


def static(says: Mapping[str, Any], **changes: Any) -> Answer:
    found = verdict(claim(says, conditions={}, **changes), [], BENCH)
    assert found.value is None
    assert found.ordering == ()
    assert found.static is not None
    return found.static


def size(figure: str, metric: str = "parameters") -> dict[str, str]:
    return {"kind": "size", "metric": metric, "figure": figure, "unit": "M"}


def test_sizes_are_held_to_their_printed_digits() -> None:
    assert static(size("21")).answer == "confirmed"
    assert static(size("21.2")).answer == "confirmed"
    assert static(size("21.3")).answer == "refuted"
    assert static(size("22")).answer == "refuted"
    assert static(size("4038", "macs")).answer == "confirmed"


def test_profilers_differ_by_a_little() -> None:
    near, far = size("4100", "macs"), size("4300", "macs")
    assert static(near).answer == "refuted"
    assert static(near, open=["counting"]).answer == "inconclusive"
    assert static(far, open=["counting"]).answer == "refuted"


def count_ratio(figure: str, metric: str, **changes: Any) -> dict[str, Any]:
    return {**RATIO, "metric": metric, "figure": figure, "sense": "more", **changes}


def test_ratios_of_counts() -> None:
    assert static(count_ratio("3.94", "parameters")).answer == "confirmed"
    assert static(count_ratio("2.4", "parameters")).answer == "refuted"
    fewer = {**RATIO, "metric": "parameters", "unit": "%", "figure": "74.6"}
    assert static({**fewer, "against": "one"}, model="two").answer == "confirmed"


def test_macs_with_and_without_products_of_activations() -> None:
    found = static(count_ratio("4.0", "macs"))
    assert found.answer == "inconclusive"
    assert any(reason.startswith("confirmed if") for reason in found.reasons)
    assert static(count_ratio("9.0", "macs")).answer == "refuted"


def test_a_size_that_may_be_either() -> None:
    """One that neither parameters nor MACs can be is refuted; one that fits one of them is not."""
    assert static({**count_ratio("7.0", "size")}).answer == "refuted"
    assert static({**count_ratio("3.94", "size")}).answer == "inconclusive"


def test_published_counts_refute_and_do_not_confirm() -> None:
    """As FBNet-B's: "2.4x smaller" than MobileNetV2 x1.3, by its authors' own table."""
    smaller = {**RATIO, "metric": "parameters", "figure": "2.4"}
    assert static(smaller, model="afar").answer == "refuted"
    right = static({**smaller, "figure": "1.1"}, model="afar")
    assert right.answer == "inconclusive"
    assert "agrees with published counts" in right.reasons


def test_a_model_that_nobody_counted() -> None:
    found = static({**RATIO, "metric": "parameters", "figure": "2.4", "against": "nowhere"})
    assert found.answer == "not testable here"


def test_the_worst_answer_counts() -> None:
    good, bad = (verdict(claim(size(f)), [], BENCH) for f in ("21", "30"))
    unknown = verdict(claim(size("21"), model="lost"), [], BENCH)
    assert overall([good]) == "confirmed"
    assert overall([good, unknown]) == "inconclusive"
    assert overall([good, unknown, bad]) == "refuted"


def test_devices_are_not_needed_to_be_known() -> None:
    """A record names its own device; only the reachable ones are listed."""
    bench = msgspec.structs.replace(BENCH, devices=frozenset[str]())
    record = timed(2.3)
    assert isinstance(record.device, Device)
    found = verdict(value("2.30"), [record], bench).value
    assert found is not None
    assert found.answer == "confirmed"
