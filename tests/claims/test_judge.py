"""Verdicts that need no record: sizes, and what cannot be checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from latbench.claims.judge import verdict, worst_answer
from latbench.claims.verdict import Answer
from latbench.schema.environment import Device
from support.claims import (
    BENCH,
    HERE,
    ORDERING,
    RATIO,
    claim,
    of_ordering,
    of_value,
    timed,
    value,
)


def test_without_records() -> None:
    found = of_value(value("2.30"))
    assert found.answer == "inconclusive"
    assert found.needs == ("latbench claims check planted --measure",)
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
    found = verdict(claim(says, **{"conditions": {}, **changes}), [], BENCH)
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
    # A profiler that is known to count them leaves one reading.
    fvcore = {"counting": "fvcore"}
    assert static(count_ratio("4.0", "macs"), conditions=fvcore).answer == "refuted"
    assert static(count_ratio("2.0", "macs"), conditions=fvcore).answer == "confirmed"


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
    assert worst_answer([good]) == "confirmed"
    assert worst_answer([good, unknown]) == "inconclusive"
    assert worst_answer([good, unknown, bad]) == "refuted"


def test_devices_are_not_needed_to_be_known() -> None:
    """A record names its own device; only the reachable ones are listed."""
    bench = msgspec.structs.replace(BENCH, devices=frozenset[str]())
    record = timed(2.3)
    assert isinstance(record.device, Device)
    found = verdict(value("2.30"), [record], bench).value
    assert found is not None
    assert found.answer == "confirmed"
