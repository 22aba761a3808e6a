"""What would be measured for claims on this machine: what is lacking, once, and nothing else."""

from __future__ import annotations

from typing import Any

import msgspec

from latbench.audit.library import ClaimLibrary
from latbench.audit.measure import THREADS, Trial, trials
from latbench.claims.model import Claim, ClaimedModel
from latbench.claims.verdict import Answer, Place, Verdict
from latbench.devices.local import LocalDevice
from latbench.schema.environment import Device

HERE = "bench-cpu"
FAKE = Place(device=HERE, backend="fake")
MODELS = {
    "one": ClaimedModel(id="one", name="One", build="mobilevig_ti"),
    "two": ClaimedModel(id="two", name="Two", build="mobilevig_s"),
    "lost": ClaimedModel(id="lost", name="Lost", absent="no code"),
}
VALUE = {"kind": "value", "metric": "latency", "figure": "2.30", "unit": "ms"}
LESS = {"kind": "ordering", "metric": "latency", "sense": "less", "against": "two"}


class Bench(LocalDevice):
    """A machine with a name of its own and two CPUs."""

    row = Device(id=HERE, name=HERE, kind="unknown")

    def usable_cpus(self) -> int:
        return 2


def claim(says: dict[str, Any], id: str = "planted", **changes: Any) -> Claim:
    conditions = {"device": HERE, "backend": "fake", "batch": 1, "resolution": 224}
    tree = {
        "id": id,
        "model": changes.pop("model", "one"),
        "says": says,
        "source": {"id": "s", "where": "Table 1"},
        "conditions": conditions | changes.pop("conditions", {}),
        "by": "authors",
    }
    return msgspec.convert(tree | changes, Claim)


def found(
    *claims: Claim, backends: tuple[str, ...] = ("fake",), **verdicts: Verdict
) -> tuple[Trial, ...]:
    registered = ClaimLibrary(claims=claims, models=MODELS, sources={}, devices={}, errors=())
    none = {
        c.id: Verdict(claim=c.id, value=Answer(answer="inconclusive"), ordering=(), static=None)
        for c in claims
    }
    return trials(claims, registered, none | verdicts, device=Bench(), backends=backends)


def test_a_value_is_measured_only_where_it_is_of_this_device() -> None:
    (trial,) = found(claim(VALUE))
    (request,) = trial.requests
    assert (request.model, request.backend, request.threads) == ("mobilevig_ti", "fake", THREADS)
    assert (request.batch, request.resolution) == (1, (224, 224))
    assert found(claim(VALUE, conditions={"device": "iphone-12"})) == ()
    assert found(claim(VALUE, conditions={"backend": "coreml"})) == ()
    assert found(claim(VALUE, model="lost")) == ()
    assert found(claim(VALUE, unverifiable="nobody knows")) == ()


def test_under_the_authors_protocol_and_ours() -> None:
    both = found(claim(VALUE, conditions={"protocol": "timm@1", "threads": 4}))
    assert [trial.protocol.label for trial in both] == ["timm@1", "latbench-warm@1"]
    # From one process there is no interval.
    assert [trial.protocol.processes for trial in both] == [6, 6]
    assert {trial.requests[0].threads for trial in both} == {4}
    (ours,) = found(claim(VALUE, conditions={"protocol": "Xcode"}))
    assert ours.protocol.label == "latbench-warm@1"


def test_a_comparison_is_measured_anywhere_and_once_for_all_its_claims() -> None:
    away = {"device": "iphone-12", "backend": "coreml"}
    ratio = {**LESS, "kind": "ratio", "figure": "1.5", "unit": "x"}
    (trial,) = found(claim(LESS, "a", conditions=away), claim(ratio, "b", conditions=away))
    assert trial.claims == ("a", "b")
    assert [request.model for request in trial.requests] == ["mobilevig_s", "mobilevig_ti"]
    assert {request.precision for request in trial.requests} == {"fp32"}
    # Of another device's runtime; here there may be no such thing.
    cuda = {"backend": "onnxruntime", "provider": "CUDAExecutionProvider", "precision": "fp16"}
    (trial,) = found(claim(LESS, conditions={**away, **cuda}), backends=("onnxruntime",))
    assert all(request.options == {} for request in trial.requests)
    assert {request.precision for request in trial.requests} == {"fp32"}
    (own,) = found(claim(LESS, conditions=cuda), backends=())
    assert own.requests[0].options == {"provider": "CUDAExecutionProvider"}
    assert own.requests[0].precision == "fp16"
    other = claim(LESS, conditions={**away, "resolution": 224, "against_resolution": 256})
    assert [request.resolution for request in found(other)[0].requests] == [(256, 256), (224, 224)]
    assert found(claim({**LESS, "against": "lost"})) == ()


def test_what_is_decided_here_is_not_measured_again() -> None:
    def ordering(answer: Any, place: Place) -> Verdict:
        given = Answer(answer=answer, place=place)
        return Verdict(claim="planted", value=None, ordering=(given,), static=None)

    less = claim(LESS)
    assert found(less, planted=ordering("refuted", FAKE)) == ()
    assert (
        len(found(less, planted=ordering("refuted", Place(device="elsewhere", backend="fake"))))
        == 1
    )
    assert len(found(less, planted=ordering("inconclusive", FAKE))) == 1


def test_a_size_that_is_not_told_is_measured_though_its_direction_is() -> None:
    ratio = {**LESS, "kind": "ratio", "figure": "1.5", "unit": "x"}
    told = Answer(answer="confirmed", place=FAKE)
    vague = Answer(answer="inconclusive", place=FAKE)
    verdict = Verdict(claim="planted", value=vague, ordering=(told,), static=None)
    assert len(found(claim(ratio), planted=verdict)) == 1
    # On another device's claim the direction is all that can be told here.
    away = claim(ratio, conditions={"device": "iphone-12", "backend": "coreml"})
    assert found(away, planted=verdict) == ()


def test_what_is_open_is_tried() -> None:
    both = found(claim(VALUE, open=["threads"]))
    assert [trial.requests[0].threads for trial in both] == [1, 2]


def test_what_told_nothing_comes_last() -> None:
    tried = Verdict(
        claim="a",
        value=None,
        ordering=(Answer(answer="inconclusive", place=FAKE, records=("r",)),),
        static=None,
    )
    two = found(claim(LESS, "a"), claim(VALUE, "b"), a=tried)
    assert [trial.claims for trial in two] == [("b",), ("a",)]
