"""Planted values, bounds and failures, true and false, against made records."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from latbench.claims.judge import verdict
from latbench.schema.protocol_catalog import SHIPPED, WARM
from latbench.schema.record import Outcome, Record
from latbench.schema.trace import Placement
from support.claims import (
    BENCH,
    HERE,
    MODELS,
    ORDERING,
    claim,
    failed_at,
    fallen_back,
    of_ordering,
    of_parameters,
    of_value,
    pair,
    timed,
    under,
    value,
    with_settings,
)
from support.records import make_trace


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


@pytest.mark.parametrize(
    ("conditions", "record"),
    [
        ({}, fallen_back(timed(2.3))),
        ({"backend": "coreml"}, fallen_back(timed(2.3))),
        ({}, timed(2.3, device="other-cpu")),
        ({}, timed(2.3, backend="torch")),
        ({}, timed(2.3, backend="fake")),
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


def test_records_of_what_executes_nothing_count_for_claims_that_name_it() -> None:
    named = {**HERE, "backend": "fake"}
    less = {"kind": "ordering", "metric": "latency", "sense": "less", "against": "two"}
    two = pair(3.0, 2.0, backend="fake")
    assert of_value(value("2.30", conditions=named), timed(2.3, backend="fake")).records == ("r1",)
    assert [a.answer for a in of_ordering(claim(less, conditions=named), *two)] == ["confirmed"]
    assert [a.answer for a in of_ordering(claim(less), *two)] == ["inconclusive"]


def test_the_authors_own_protocol_decides() -> None:
    timm = next(protocol for protocol in SHIPPED if protocol.name == "timm")
    theirs = under(timed(2.3, id="r1"), timm)
    ours = timed(2.8, id="r2")
    named = value("2.30", conditions={**HERE, "protocol": "timm@1"})
    both = of_value(named, ours, theirs)
    assert both.answer == "confirmed"
    assert both.records == ("r1", "r2")
    assert f"under {ours.protocol.label}: refuted" in " ".join(both.reasons)
    # Another protocol may be why they differ: alone it confirms, and does not refute.
    alone = of_value(named, ours)
    assert alone.answer == "inconclusive"
    assert alone.needs == ("a run with --protocol timm@1 --processes 6",)
    assert of_value(named, under(timed(2.3, id="r3"), WARM)).answer == "confirmed"
    short = under(timed(2.3, id="r1", processes=1), timm)
    assert of_value(named, ours, short).answer == "inconclusive"
    # Without a protocol of the authors', records that contradict each other tell nothing.
    assert of_value(value("2.30"), ours, theirs).answer == "inconclusive"


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
    assert "the source leaves precision open; measured with fp32" in found.reasons


TRAINED, DEPLOYED = 5_271_074, 4_724_012


@pytest.mark.parametrize(
    ("pins", "used"),
    [
        ({"parameters": TRAINED}, True),
        ({"parameters": TRAINED, "deployed_parameters": DEPLOYED}, True),
        ({"parameters": TRAINED + 20_841 * 577}, False),  # a head of other classes
        ({"parameters": TRAINED, "deployed_parameters": DEPLOYED - 72}, False),  # not fused
    ],
)
def test_a_network_of_other_parameters_is_another_one(pins: dict[str, int], used: bool) -> None:
    models = {**MODELS, "one": msgspec.structs.replace(MODELS["one"], **pins)}
    bench = msgspec.structs.replace(BENCH, models=models)
    found = verdict(value("2.30"), [of_parameters(timed(2.3), TRAINED, DEPLOYED)], bench)
    assert found.value is not None
    assert found.value.answer == ("confirmed" if used else "inconclusive")
    assert found.value.records == (("r1",) if used else ())
    other, mine = pair(3.0, 2.8)
    both = other, of_parameters(mine, TRAINED, DEPLOYED)
    (ordered,) = verdict(claim(ORDERING), both, bench).ordering
    assert bool(ordered.records) == used


def test_unknown_parameters_tell_of_no_other_network() -> None:
    models = {**MODELS, "one": msgspec.structs.replace(MODELS["one"], parameters=7)}
    bench = msgspec.structs.replace(BENCH, models=models)
    found = verdict(value("2.30"), [of_parameters(timed(2.3), None, None)], bench).value
    assert found is not None
    assert found.answer == "confirmed"
    told = verdict(value("failed"), [failed_at("open")], bench).value
    assert told is not None
    assert told.answer == "confirmed"


def test_a_claimed_failure() -> None:
    assert of_value(value("failed"), timed(2.3)).answer == "refuted"
    for stage in ("open", "warmup", "time"):
        assert of_value(value("failed"), failed_at(stage)).answer == "confirmed"
    # Failures of ours, or of the machine, say nothing of the network on the device.
    for stage, kind in (("export", "error"), ("verify", "mismatch"), ("open", "unavailable")):
        assert of_value(value("failed"), failed_at(stage, kind)).answer == "inconclusive"
    interrupted = msgspec.structs.replace(timed(2.3), outcome=Outcome(status="interrupted"))
    assert of_value(value("failed"), interrupted).answer == "inconclusive"
    # Of another size it says nothing either, nor where the size is not known.
    assert of_value(value("failed"), failed_at("open", resolution=320)).records == ()
    lost = msgspec.structs.replace(failed_at("open"), artifact=None)
    assert of_value(value("failed"), lost).records == ()
    asked = msgspec.structs.replace(
        lost, request=msgspec.structs.replace(lost.request, resolution=(224, 224))
    )
    assert of_value(value("failed"), asked).answer == "confirmed"


def test_a_bound_is_a_threshold() -> None:
    under = {"kind": "bound", "metric": "latency", "figure": "1", "unit": "ms", "sense": "below"}
    assert of_value(claim(under), timed(1.3)).answer == "refuted"
    assert of_value(claim(under), timed(0.9)).answer == "confirmed"
    over = {**under, "metric": "throughput", "figure": "1000", "unit": "images/s", "sense": "above"}
    assert of_value(claim(over), timed(0.9)).answer == "confirmed"
    assert of_value(claim(over), timed(1.1)).answer == "refuted"


def test_a_bound() -> None:
    bound = claim(
        {"kind": "bound", "metric": "latency", "figure": "80", "unit": "ms", "sense": "below"}
    )
    assert of_value(bound, timed(60)).answer == "confirmed"
    assert of_value(bound, timed(90)).answer == "refuted"


def test_why_records_were_not_used_is_told() -> None:
    found = of_value(value("2.30", conditions={**HERE, "precision": "fp16"}), timed(2.3))
    assert found.answer == "inconclusive"
    assert "record r1 not used: precision: fp16 and fp32" in found.reasons
    # Records of other devices are no news: most are.
    assert len(of_value(value("2.30"), timed(2.3, device="elsewhere")).reasons) == 1
    fallen = of_value(value("2.30"), fallen_back(timed(2.3)))
    assert len(fallen.reasons) == 1


def test_records_of_the_trained_form_never_count() -> None:
    record = timed(2.3)
    options = {**record.request.options, "form": "trained"}
    request = msgspec.structs.replace(record.request, options=options)
    found = of_value(value("2.30"), msgspec.structs.replace(record, request=request))
    assert found.records == ()
    assert "the trained form" in " ".join(found.reasons)


def test_the_most_precise_record_decides_unless_another_contradicts_it() -> None:
    good, vague = timed(2.3, id="r1"), timed(2.32, id="r2", spread=0.03)
    both = of_value(value("2.30"), vague, good)
    assert both.answer == "confirmed"
    assert both.records == ("r2", "r1")
    # One that lies elsewhere is not overlooked because it alone tells nothing.
    edge = timed(2.414, id="r3", spread=0.002)
    assert of_value(value("2.30"), edge).answer == "inconclusive"
    assert of_value(value("2.30"), good, edge).answer == "inconclusive"


@pytest.mark.slow
def test_measuring_until_it_fits_does_not_confirm_more_often() -> None:
    """Truth at the edge, levels that differ between days: three records are no better than one."""
    draw, confirmed = random.Random(7), [0, 0]
    for trial in range(120):
        records = [
            timed(2.3 * 1.05 * draw.gauss(1, 0.004), id=f"r{trial}-{i}", spread=0.004)
            for i in range(3)
        ]
        confirmed[0] += of_value(value("2.300"), records[0]).answer == "confirmed"
        confirmed[1] += of_value(value("2.300"), *records).answer == "confirmed"
    assert confirmed[1] <= confirmed[0] + 4


def test_what_the_source_leaves_open_may_be_why() -> None:
    slow, fast = (
        with_settings(timed(ms, id=f"r{threads}"), threads=str(threads))
        for ms, threads in ((4.0, 1), (2.3, 2))
    )
    free = value("2.30", open=["threads"])
    one = of_value(free, slow)
    assert one.answer == "inconclusive"
    assert "records with another threads" in one.needs
    assert of_value(free, slow, fast).answer == "confirmed"
    other = with_settings(timed(5.0, id="r4"), threads="2")
    assert of_value(free, slow, other).answer == "refuted"


@pytest.mark.parametrize(
    ("units", "unit", "used"),
    [
        ({"CPUExecutionProvider": 100}, "cpu", True),
        ({"XNNPACK": 90, "TFLite kernels": 10}, "cpu", True),
        ({"CPUExecutionProvider": 99, "CUDAExecutionProvider": 1}, "gpu", False),
        ({"CPUExecutionProvider": 1, "CUDAExecutionProvider": 99}, "gpu", True),
        ({"CPUExecutionProvider": 100, "CUDAExecutionProvider": 0}, "gpu", False),
        ({"NVIDIA A100": 40}, "gpu", True),
        ({"Neural Engine": 40}, "gpu", False),
        ({"GPU": 40}, "npu", False),
        ({"cpu": 2, "neural engine": 80}, "npu", True),
        ({"cpu": 2, "neural engine": 80}, "cpu", False),
        ({"something": 80}, "npu", False),
    ],
)
def test_what_ran_where(units: dict[str, int | None], unit: str, used: bool) -> None:
    record = timed(2.3)
    assert record.runtime is not None
    placement = Placement(units=units, known="proven")
    runtime = msgspec.structs.replace(record.runtime, placement=placement)
    found = of_value(
        value("2.30", conditions={**HERE, "compute_unit": unit}),
        msgspec.structs.replace(record, runtime=runtime),
    )
    assert found.records == (("r1",) if used else ())


def test_all_units_is_what_the_runtime_was_free_to_use() -> None:
    named = value("2.30", conditions={**HERE, "compute_unit": "all"})
    assert of_value(named, timed(2.3)).records == ()
    assert of_value(named, with_settings(timed(2.3), compute_units="all")).records == ("r1",)
    assert of_value(named, with_settings(timed(2.3), compute_units="cpu_only")).records == ()


def test_statistics_are_the_sources() -> None:
    def skewed(id: str) -> Record:
        record = timed(2.3, id=id)
        traces = [
            make_trace(p, [4_600_000 if i % 7 == 3 else 2_300_000 + i % 5 for i in range(210)])
            for p in range(8)
        ]
        return msgspec.structs.replace(
            record, outcome=msgspec.structs.replace(record.outcome, traces=tuple(traces))
        )

    def under_statistic(name: str, figure: str) -> str:
        named = value(figure, conditions={**HERE, "statistic": name})
        return of_value(named, skewed("r1")).answer

    assert under_statistic("median", "2.30") == "confirmed"
    assert under_statistic("trimmed mean", "2.30") == "confirmed"
    assert under_statistic("mean", "2.30") == "refuted"
    assert under_statistic("mean", "2.63") == "confirmed"
    assert under_statistic("p99", "2.30") == "inconclusive"


def test_a_protocol_of_cold_starts_says_nothing_and_breaks_nothing() -> None:
    cold = next(protocol for protocol in SHIPPED if protocol.statistic.kind == "cold")
    record = timed(2.3)
    traces = tuple(msgspec.structs.replace(trace, blocks=()) for trace in record.outcome.traces)
    outcome = msgspec.structs.replace(record.outcome, traces=traces)
    first = msgspec.structs.replace(under(record, cold), outcome=outcome)
    found = of_value(value("2.30"), first)
    assert found.answer == "inconclusive"
    order = claim({"kind": "ordering", "metric": "latency", "sense": "less", "against": "two"})
    assert of_ordering(order, first)[0].answer == "inconclusive"


def test_both_sides_of_an_image_count() -> None:
    tall = timed(2.3)
    assert tall.artifact is not None
    for shape, used in (
        ((1, 3, 128, 224), False),
        ((1, 224, 224, 3), True),
        ((1, 3, 224, 224), True),
    ):
        image = msgspec.structs.replace(tall.artifact.inputs[0], shape=shape)
        record = msgspec.structs.replace(
            tall, artifact=msgspec.structs.replace(tall.artifact, inputs=(image,))
        )
        assert bool(of_value(value("2.30"), record).records) == used
