"""Planted ratios, differences, orderings and parities against two made records."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from latbench.claims.judge import verdict, worst_answer
from latbench.schema.protocol_catalog import shipped
from latbench.schema.record import Outcome
from support.claims import (
    BENCH,
    HERE,
    ORDERING,
    PERCENT,
    RATIO,
    claim,
    less,
    of_ordering,
    of_value,
    pair,
    timed,
    with_settings,
)


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


def test_records_that_are_unreliable_decide_nothing_apart_and_are_named_interleaved() -> None:
    """A spread of 10 % over ten processes is an interval of more than 5 %."""
    apart = timed(3.0, "timm:two", id="r2", spread=0.1), timed(1.0, spread=0.1)
    (found,) = of_ordering(claim(ORDERING), *apart)
    assert found.answer == "inconclusive"
    assert "unreliable: processes disagree" in found.reasons[0]
    for ms, answer in ((1.0, "confirmed"), (9.0, "refuted")):
        (found,) = of_ordering(claim(ORDERING), *pair(3.0, ms, spread=0.1))
        assert found.answer == answer
        assert "the latencies alone are unreliable: processes disagree" in found.reasons[0]
    ratio = of_value(claim({**RATIO, "figure": "3"}, margin_percent=50.0), *pair(3, 1, spread=0.1))
    assert ratio.answer == "confirmed"
    assert any("the latencies alone are unreliable" in reason for reason in ratio.reasons)
    (found,) = of_ordering(claim(ORDERING), *pair(3.0, 2.0))
    assert not any("unreliable" in reason for reason in found.reasons)


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


def test_an_ordering_may_differ_from_device_to_device() -> None:
    here, there = pair(3.0, 2.8), pair(3.0, 3.2, id="d", device="other-cpu")
    found = {a.where: a.answer for a in of_ordering(claim(ORDERING), *here, *there)}
    assert found == {
        "bench-cpu, onnxruntime": "confirmed",
        "other-cpu, onnxruntime": "does not hold here",
    }


@pytest.mark.parametrize(
    ("conditions", "answer"),
    [
        (HERE, "confirmed"),
        ({**HERE, "device": "phone"}, "holds here"),
        ({**HERE, "backend": "tflite"}, "holds here"),
        ({**HERE, "precision": "int8"}, "holds here"),
        ({**HERE, "threads": 8}, "holds here"),
        ({"batch": 1, "resolution": 224}, "holds here"),
    ],
)
@pytest.mark.parametrize("planted", [0.9, 1.1])
def test_only_the_conditions_of_the_claim_confirm_or_refute_it(
    conditions: dict[str, Any], answer: str, planted: float
) -> None:
    (found,) = of_ordering(claim(ORDERING, conditions=conditions), *pair(3.0, 3.0 * planted))
    opposite = {"confirmed": "refuted", "holds here": "does not hold here"}
    assert found.answer == (answer if planted < 1 else opposite[answer])


def test_an_answer_about_another_device_decides_no_claim() -> None:
    elsewhere = claim(ORDERING, conditions={**HERE, "device": "phone"})
    for ms, answer in ((2.8, "holds here"), (3.2, "does not hold here")):
        given = verdict(elsewhere, pair(3.0, ms), BENCH)
        assert given.ordering[0].answer == answer
        assert worst_answer([given]) == "inconclusive"


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


@pytest.mark.parametrize(
    ("says", "two", "one", "answer"),
    [
        ({**PERCENT, "figure": "3", "reading": "time"}, 3.0, 3.03, "refuted"),
        ({**PERCENT, "figure": "3", "reading": "open"}, 3.0, 3.03, "refuted"),
        ({**PERCENT, "figure": "3", "reading": "time"}, 3.0, 2.91, "confirmed"),
        ({**PERCENT, "figure": "5.0", "reading": "time"}, 3.0, 2.985, "refuted"),
        ({**RATIO, "figure": "1.04"}, 3.0, 3.01, "refuted"),
        ({**RATIO, "figure": "1.04"}, 3.0, 2.885, "confirmed"),
        ({**RATIO, "figure": "1.5"}, 3.0, 1.92, "confirmed"),
        ({**RATIO, "figure": "1.5"}, 3.0, 1.8, "refuted"),
    ],
)
def test_a_margin_never_swallows_the_effect(
    says: dict[str, Any], two: float, one: float, answer: str
) -> None:
    assert of_value(claim(says), *pair(two, one)).answer == answer


@pytest.mark.parametrize(
    ("says", "two", "one", "answer"),
    [
        (less("1"), 50.0, 50.5, "refuted"),
        (less("1"), 50.0, 49.0, "confirmed"),
        (less("2.4"), 18.6, 16.2, "confirmed"),
        (less("2.4"), 18.6, 17.9, "refuted"),
        (less("100", "images/s", "more"), 3.0, 3.0, "refuted"),
        (less("100", "images/s", "more"), 3.0, 3.0 / 1.3, "confirmed"),
    ],
)
def test_a_difference_is_of_each_process(
    says: dict[str, Any], two: float, one: float, answer: str
) -> None:
    found = of_value(claim(says), *pair(two, one))
    assert found.answer == answer
    assert found.unit == ("ns" if says["unit"] == "ms" else "images/s")


def test_the_noise_of_both_models_is_in_a_difference() -> None:
    noisy = of_value(claim(less("0.30", sense="less")), *pair(30.0, 29.7, spread=0.02))
    assert noisy.answer == "inconclusive"


def test_two_records_of_a_comparison_are_of_the_same_conditions() -> None:
    faster, free = {**RATIO, "figure": "1.5"}, {**HERE, "batch": None, "resolution": None}
    two, one = pair(3.0, 2.0)
    assert of_value(claim(faster, conditions=free), two, one).answer == "confirmed"
    apart = [
        (pair(3.0, 2.0, batch=8)[0], one),
        (pair(3.0, 2.0, resolution=448)[0], one),
        (with_settings(two, threads="1"), with_settings(one, threads="4")),
    ]
    for other, mine in apart:
        if other is apart[1][0]:
            request = msgspec.structs.replace(other.request, resolution=(448, 448))
            other = msgspec.structs.replace(other, request=request)
        assert of_value(claim(faster, conditions=free), other, mine).records == ()
        assert of_ordering(claim(faster, conditions=free), other, mine)[0].records == ()
    # What the claim names holds for both.
    four = claim(faster, conditions={**HERE, "threads": 4})
    assert of_value(four, *(with_settings(each, threads="1") for each in (two, one))).records == ()


def test_comparisons_are_of_sound_records() -> None:
    two, one = (with_settings(each, threads="64") for each in pair(3.0, 2.0))
    faster = claim({**RATIO, "figure": "1.5"})
    assert of_value(faster, two, one).answer == "inconclusive"
    assert "threads on" in " ".join(of_value(faster, two, one).reasons)
    assert of_ordering(faster, two, one)[0].answer == "inconclusive"


@pytest.mark.parametrize("figure", ["1.0", "0.9-1.2"])
def test_a_ratio_that_may_be_either_way_claims_no_order(figure: str) -> None:
    says = claim({**RATIO, "figure": figure, "sense": "of"})
    assert of_ordering(says, *pair(3.0, 3.6)) == ()


def test_an_interrupted_pair_hides_nothing() -> None:
    order = claim({"kind": "ordering", "metric": "latency", "sense": "less", "against": "two"})
    old = pair(3.0, 2.0, id="a")
    cut = [
        msgspec.structs.replace(
            each, outcome=Outcome(status="interrupted"), created_unix_ns=each.created_unix_ns + 1
        )
        for each in pair(3.0, 2.0, id="b")
    ]
    (found,) = of_ordering(order, *cut, *old)
    assert found.answer == "confirmed"
    (contradicted,) = of_ordering(order, *old, *pair(3.0, 3.3, id="c"))
    assert contradicted.answer == "inconclusive"
    assert len(contradicted.records) == 4


def test_a_comparison_says_in_what_it_differs_from_the_source() -> None:
    order = {"kind": "ordering", "metric": "latency", "sense": "less", "against": "two"}
    named = claim(order, conditions={**HERE, "precision": "fp16", "threads": 8})
    (found,) = of_ordering(named, *pair(3.0, 2.0))
    assert found.answer == "holds here"
    assert "precision here: fp32, in the source: fp16" in found.reasons
    assert any(reason.startswith("threads here") for reason in found.reasons)


def test_why_records_make_no_comparison_is_told() -> None:
    order = claim({"kind": "ordering", "metric": "latency", "sense": "less", "against": "two"})
    two, one = timed(3.0, "timm:two", id="r2"), timed(2.0, id="r1")
    (alone,) = of_ordering(order, one)
    assert "there are records of one but none of two" in alone.reasons
    (apart,) = of_ordering(order, with_settings(two, threads="1"), with_settings(one, threads="2"))
    assert "records r2 and r1 are not compared: threads: 1 and 2" in apart.reasons
    assert apart.answer == "inconclusive"
    larger = claim(
        {"kind": "ordering", "metric": "latency", "sense": "less", "against": "two"},
        conditions={**HERE, "resolution": 256},
    )
    (other,) = of_ordering(larger, two, one)
    assert "record r2 and 1 other not used: resolution: 256 and 224" in other.reasons


def test_why_records_make_no_ratio_is_told() -> None:
    faster = claim({**RATIO, "figure": "1.5"}, conditions={**HERE, "precision": "fp16"})
    found = of_value(faster, *pair(3.0, 2.0))
    assert any("not used: precision: fp16 and fp32" in reason for reason in found.reasons)


@pytest.mark.parametrize(("named", "known"), [("timm@1", True), ("timm", False), (None, False)])
def test_a_protocol_is_known_by_its_version(named: str | None, known: bool) -> None:
    found = shipped(named)
    assert (found is not None) == known
    assert found is None or found.label == named


def test_records_of_open_identity_decide_nothing() -> None:
    """Outputs that were not checked, or only by a tolerance of the user's own."""
    faster = claim({"kind": "ordering", "metric": "latency", "sense": "less", "against": "two"})
    two, one = pair(3.0, 2.0)
    assert [a.answer for a in of_ordering(faster, two, one)] == ["confirmed"]
    assert one.artifact is not None
    details = {**one.artifact.details, "unchecked": "not deterministic: two runs differ"}
    artifact = msgspec.structs.replace(one.artifact, details=details)
    unchecked = msgspec.structs.replace(one, artifact=artifact)
    (found,) = of_ordering(faster, two, unchecked)
    assert found.answer == "inconclusive"
    assert "not checked: not deterministic" in found.reasons[0]
    request = msgspec.structs.replace(one.request, tolerance=0.5)
    (check, *others) = one.outcome.checks
    wrong = msgspec.structs.replace(check, max_rel_error=0.3)
    outcome = msgspec.structs.replace(one.outcome, checks=(wrong, *others))
    loose = msgspec.structs.replace(one, request=request, outcome=outcome)
    (found,) = of_ordering(faster, two, loose)
    assert found.answer == "inconclusive"
    assert "relative error of 0.3" in found.reasons[0]
    # A tolerance that nothing needed changes nothing.
    unused = msgspec.structs.replace(one, request=request)
    assert [a.answer for a in of_ordering(faster, two, unused)] == ["confirmed"]
