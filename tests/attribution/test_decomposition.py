"""Shares of factors: they add up, swapping the sides inverts them, and order does not matter."""

from __future__ import annotations

from itertools import permutations
from math import exp, log

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latbench.analysis.estimators import regime_of, restated_ns, statistic_name
from latbench.analysis.summary import summarize
from latbench.attribution.decomposition import (
    PLAUSIBLE,
    Alternative,
    AttributionPlan,
    Key,
    account,
)
from latbench.attribution.factors import compare_factors, facts_of, protocol_name
from latbench.attribution.setup import configured, setup_of, switch
from latbench.attribution.shapley import (
    MOST,
    Configuration,
    Share,
    configurations,
    one_at_a_time,
    orders,
    over_rounds,
    shapley,
    subsets,
    unexplained,
)
from latbench.attribution.subject import check_same_model, side_of
from latbench.errors import UsageError
from latbench.report.text.attribution import account_lines, share_text
from latbench.schema.artifact import TensorSpec
from latbench.schema.protocol import Statistic
from latbench.schema.protocol_catalog import FIXED, SHIPPED, WARM
from latbench.schema.record import Record
from latbench.schema.trace import Placement
from support.records import make_record, make_trace

NAMES = ("backend", "precision", "protocol", "threads")
LOG = st.floats(-5, 5, allow_nan=False)


@st.composite
def cells(draw: st.DrawFn) -> tuple[tuple[str, ...], dict[Configuration, float]]:
    """Up to four factors, and a log-latency of each configuration."""
    names = NAMES[: draw(st.integers(0, 4))]
    return names, {each: draw(LOG) for each in subsets(names)}


@given(cells())
def test_shares_add_up_to_the_whole(
    drawn: tuple[tuple[str, ...], dict[Configuration, float]],
) -> None:
    names, logs = drawn
    shares = shapley(names, logs)
    assert shares is not None
    assert shares.keys() == set(names)
    whole = logs[frozenset(names)] - logs[frozenset()]
    assert sum(shares.values()) == pytest.approx(whole, abs=1e-9)


@given(cells())
def test_swapping_the_sides_inverts_every_ratio(
    drawn: tuple[tuple[str, ...], dict[Configuration, float]],
) -> None:
    names, logs = drawn
    swapped = {frozenset(names) - key: value for key, value in logs.items()}
    for method in (shapley, one_at_a_time):
        there, back = method(names, logs), method(names, swapped)
        assert there is not None
        assert back is not None
        for name in names:
            assert back[name] == pytest.approx(-there[name], abs=1e-9)


@given(cells())
def test_a_factor_without_effect_gets_nothing(
    drawn: tuple[tuple[str, ...], dict[Configuration, float]],
) -> None:
    names, logs = drawn
    wider = {key | extra: v for key, v in logs.items() for extra in subsets(("idle",))}
    shares = shapley((*names, "idle"), wider)
    assert shares is not None
    assert shares["idle"] == pytest.approx(0, abs=1e-9)
    plain = shapley(names, logs)
    assert plain is not None
    assert all(shares[name] == pytest.approx(plain[name], abs=1e-9) for name in names)


@given(cells())
@settings(max_examples=50)
def test_neither_the_order_of_names_nor_that_of_switching_matters(
    drawn: tuple[tuple[str, ...], dict[Configuration, float]],
) -> None:
    names, logs = drawn
    assert shapley(names[::-1], logs) == pytest.approx(shapley(names, logs), abs=1e-9)
    orders = list(permutations(names))
    for name in names:
        steps = []
        for order in orders:
            before = frozenset(order[: order.index(name)])
            steps.append(logs[before | {name}] - logs[before])
        shares = shapley(names, logs)
        assert shares is not None
        assert shares[name] == pytest.approx(sum(steps) / len(steps), abs=1e-9)


def test_factors_that_multiply_get_their_own_factor_each() -> None:
    logs = {each: log(2) * ("x" in each) + log(0.7) * ("y" in each) for each in subsets("xy")}
    shares = shapley("xy", logs)
    assert shares is not None
    assert exp(shares["x"]) == pytest.approx(2)
    assert exp(shares["y"]) == pytest.approx(0.7)
    assert one_at_a_time("xy", logs) == pytest.approx(shares)


def test_orders_through_a_configuration_that_could_not_be_had_are_left_out() -> None:
    logs = {frozenset[str](): 0.0, frozenset("x"): 1.0, frozenset("xy"): 1.5}
    assert shapley("xy", logs) == {"x": 1.0, "y": 0.5}
    assert orders("xy", logs) == 1
    del logs[frozenset("x")]
    assert shapley("xy", logs) is None
    assert one_at_a_time("xy", logs) == {}
    assert shapley("xy", {}) is None


def test_many_factors_are_switched_one_at_a_time() -> None:
    assert len(configurations(NAMES[:MOST])) == 2**MOST
    found = configurations((*NAMES, "batch"))
    assert len(found) == len(set(found)) == 2 + 2 * 5
    logs = dict.fromkeys(found, 0.0)
    assert shapley((*NAMES, "batch"), logs) is None
    assert set(one_at_a_time((*NAMES, "batch"), logs)) == {*NAMES, "batch"}


def test_intervals_over_rounds_and_of_what_is_left() -> None:
    assert over_rounds([0.0, log(2)]) == Share(ratio=pytest.approx(2**0.5), interval=None)
    share = over_rounds([log(1.9), log(2.0), log(2.1)])
    assert share.interval is not None
    assert share.interval[0] < 1.9 < 2.1 < share.interval[1]
    left = unexplained(4.0, share)
    assert left.interval == pytest.approx((4 / share.interval[1], 4 / share.interval[0]))


@pytest.mark.parametrize("protocol", SHIPPED, ids=lambda each: each.label)
def test_a_number_restated_by_its_own_protocol_is_the_one_reported(protocol: object) -> None:
    traces = [
        make_trace(i, [1_000_000 + 997 * ((i + j) % 17) + 400_000 * (j < 3) for j in range(90)])
        for i in range(6)
    ]
    record = msgspec.structs.replace(make_record(traces=traces), protocol=protocol)
    summary = summarize(record)
    assert summary is not None
    statistic = record.protocol.statistic
    ns = restated_ns(record, regime_of(statistic), statistic)
    value = summary.reported.value
    expected = 1e9 / value if summary.reported.unit == "images/s" else value
    assert ns == pytest.approx(expected)


def test_cold_records_hold_no_warm_samples_and_warm_ones_hold_cold_ones() -> None:
    cold = next(each for each in SHIPPED if each.statistic.kind == "cold")
    record = make_record()
    assert restated_ns(record, "cold", cold.statistic) == 84_000_000 + 9_100_000
    record = msgspec.structs.replace(record, protocol=cold)
    assert restated_ns(record, "warm", WARM.statistic) is None


def with_options(record: Record, **options: str) -> Record:
    request = msgspec.structs.replace(record.request, options=options)
    return msgspec.structs.replace(record, request=request)


def test_facts_that_differ_and_consequences() -> None:
    a = with_options(make_record(), form="trained", opset="18")
    b = make_record(backend="openvino")
    assert b.runtime is not None
    b = msgspec.structs.replace(b, runtime=msgspec.structs.replace(b.runtime, version="2"))
    found = compare_factors(facts_of(a), facts_of(b), options=True)
    assert {each.name: (each.a, each.b) for each in found.differ} == {
        "backend": ("onnxruntime", "openvino"),
        "model form": ("trained", "deploy"),
        "option opset": ("18", "default"),
    }
    assert found.alike["threads"] == "2"
    back = compare_factors(facts_of(b), facts_of(a), options=True)
    assert {(each.name, each.b, each.a) for each in back.differ} == {
        (each.name, each.a, each.b) for each in found.differ
    }


@pytest.mark.parametrize(("memory", "differs"), [(8_000_004_096, False), (16_000_000_000, True)])
def test_memory_that_a_reboot_changes_is_not_a_factor(memory: int, differs: bool) -> None:
    a = facts_of(make_record())
    b = {**a, "memory": f"{memory} bytes"}
    found = compare_factors(a, b, options=True)
    assert ("memory" in {each.name for each in found.differ}) is differs


def test_how_precise_a_number_gets_is_no_factor() -> None:
    assert protocol_name(msgspec.structs.replace(WARM, budget_ns=1, processes=9)) == WARM.label
    assert protocol_name(msgspec.structs.replace(FIXED, min_calls=9)) != FIXED.label
    timm = next(each for each in SHIPPED if each.label == "timm@1")
    again = msgspec.structs.replace(timm, processes=6, max_processes=6)
    assert protocol_name(again) == timm.label


def on(record: Record, **units: int | None) -> Record:
    assert record.runtime is not None
    placement = Placement(known="proven", units=units)
    runtime = msgspec.structs.replace(record.runtime, placement=placement)
    return msgspec.structs.replace(record, runtime=runtime)


@pytest.mark.parametrize(
    ("units", "unit", "where"),
    [
        ({"XnnpackBackend": 9, "kernels": 3}, "cpu", "tensor on the host"),
        ({"CPUExecutionProvider": 9, "CUDAExecutionProvider": 0}, "cpu", "tensor on the host"),
        ({"CUDAExecutionProvider": 9}, "gpu", "tensor on the device"),
        ({"neuralEngine": 9, "cpu": 1}, "cpu, npu", "tensor on the device"),
    ],
)
def test_the_unit_is_the_kind_of_what_computes(
    units: dict[str, int], unit: str, where: str
) -> None:
    facts = facts_of(on(make_record(), **units))
    assert (facts["compute unit"], facts["input"]) == (unit, where)


def test_unit_and_input_that_follow_from_the_backend_are_no_rows() -> None:
    a, b = facts_of(on(make_record(), cpu=9)), facts_of(on(make_record(backend="other"), CUDA=9))
    found = compare_factors(a, b, options=True)
    assert [each.name for each in found.differ] == ["backend"]
    # A claim states its unit; the input still follows from it.
    found = compare_factors(a, b, options=False)
    assert {each.name for each in found.differ} == {"backend", "compute unit"}


def shaped(*shapes: tuple[int, ...]) -> Record:
    record = make_record()
    assert record.artifact is not None
    inputs = tuple(TensorSpec(name=str(s), shape=s, dtype="float32") for s in shapes)
    artifact = msgspec.structs.replace(record.artifact, inputs=inputs)
    return msgspec.structs.replace(record, artifact=artifact)


def test_input_shapes_are_a_factor_and_resolution_knows_where_channels_are() -> None:
    assert facts_of(shaped((1, 192, 256, 3)))["resolution"] == "192x256"
    found = compare_factors(facts_of(shaped((1, 128))), facts_of(shaped((1, 512))), options=True)
    assert [(each.name, each.a, each.b) for each in found.differ] == [("input shape", "128", "512")]
    assert "input shape" not in facts_of(make_record())
    assert facts_of(shaped((2, 3, 8, 8), (2, 4)))["input shape"] == "3x8x8, 4"


def test_switching_sets_one_factor_and_both_ends_are_the_sides() -> None:
    a = setup_of(with_options(make_record(), form="trained"))
    b = msgspec.structs.replace(setup_of(make_record()), protocol=WARM)
    b = msgspec.structs.replace(b, request=msgspec.structs.replace(b.request, threads=1))
    names = ("model form", "threads", "protocol")
    assert configured(b, a, b, names, names) == b
    assert configured(b, a, b, names, ()) == a
    assert switch(b, "threads", a).request.threads == 2
    assert switch(b, "model form", a).request.options == {"form": "trained"}
    assert switch(a, "model form", b).request.options == {}


def latency(ms: float, id: str, protocol: object = FIXED) -> Record:
    traces = [make_trace(i, [round(ms * 1e6)] * 100) for i in range(3)]
    return msgspec.structs.replace(make_record(id=id, traces=traces), protocol=protocol)


def test_an_account_of_planted_effects_and_an_open_factor() -> None:
    a, b = side_of(latency(1, "a" * 26)), side_of(latency(3, "b" * 26))
    a = msgspec.structs.replace(a, facts={**a.facts, "threads": "1", "precision": None})
    alternative = Alternative(factor="precision", value="int8")
    plan = AttributionPlan(
        between=compare_factors(a.facts, b.facts, options=False),
        measured=("threads",),
        computed=(),
        alternatives=(alternative,),
        reasons={"precision": "the source leaves it open"},
    )
    measured: dict[Key, Record] = {
        frozenset[str](): latency(1, "c" * 26),
        frozenset({"threads"}): latency(2, "d" * 26),
        alternative: latency(4, "e" * 26),
    }
    found = account(a, b, plan, [measured] * 3, ())
    assert found is not None
    threads, precision = found.parts
    assert (threads.how, precision.how) == ("measured", "open")
    assert threads.share is not None
    assert threads.share.ratio == pytest.approx(2)
    assert precision.range == pytest.approx((0.5, 1))
    assert found.residual.ratio == pytest.approx(1.5)
    assert len(found.records) == 9
    # What A left open was not as in A.
    assert found.a_again_ns is None
    assert found.b_again_ns == pytest.approx(2e6)


def test_a_side_is_only_measured_again_with_all_of_its_settings() -> None:
    a, b = side_of(latency(1, "a" * 26)), side_of(latency(3, "b" * 26))
    measured: dict[Key, Record] = {
        frozenset[str](): latency(1, "c" * 26),
        frozenset({"threads"}): latency(2, "d" * 26),
    }
    for other, again in (("backend", None), ("os", pytest.approx(1e6))):
        one = msgspec.structs.replace(a, facts={**a.facts, "threads": "1", other: "another"})
        plan = AttributionPlan(
            between=compare_factors(one.facts, b.facts, options=True),
            measured=("threads",),
            computed=(),
            alternatives=(),
            reasons={other: "not here"},
        )
        found = account(one, b, plan, [measured] * 3, ())
        assert found is not None
        assert found.a_again_ns == again
        assert found.b_again_ns == pytest.approx(2e6)


def test_orders_that_could_not_be_had_are_said() -> None:
    a, b = side_of(latency(1, "a" * 26)), side_of(latency(4, "b" * 26))
    one = msgspec.structs.replace(a, facts={**a.facts, "threads": "1", "precision": "int8"})
    plan = AttributionPlan(
        between=compare_factors(one.facts, b.facts, options=True),
        measured=("threads", "precision"),
        computed=(),
        alternatives=(),
        reasons={},
    )
    measured: dict[Key, Record] = {
        key: latency(2 ** len(key), "c" * 26) for key in subsets(plan.measured)
    }
    for orders_had, words in ((2, "over all orders"), (1, "the one order of switching that could")):
        found = account(one, b, plan, [measured] * 2, ())
        assert found is not None
        assert found.orders == orders_had
        assert any(words in line for line in account_lines(found, None))
        measured.pop(frozenset({"threads"}), None)


@pytest.mark.parametrize(
    ("ratio", "half", "text"),
    [
        (180000.0, 0.00001, "180000 (180000 to 180000)"),
        (180000.0, 40000.0, "180000 (140000 to 220000)"),
        (1.23456789, 0.0, "1.2346 (1.2346 to 1.2346)"),
        (1.0312, 0.04, "1.03 (0.99 to 1.07)"),
        (0.000012345, 0.000002, "0.000012 (0.000010 to 0.000014)"),
        (1.4, 3.0, "1.4 (-1.6 to 4.4)"),
    ],
)
def test_digits_of_a_share(ratio: float, half: float, text: str) -> None:
    assert share_text(Share(ratio=ratio, interval=(ratio - half, ratio + half))) == text


def test_files_of_one_name_are_the_same_model_only_by_their_digest() -> None:
    def of_file(id: str, digest: str, name: str = "net.onnx") -> Record:
        record = latency(1, id * 26)
        model = msgspec.structs.replace(
            record.model, name=name, source="file", architecture=digest, weights="file"
        )
        return msgspec.structs.replace(record, model=model)

    check_same_model(side_of(of_file("a", "x")), side_of(of_file("b", "x", "copy.onnx")))
    with pytest.raises(UsageError, match=r"two files named net\.onnx"):
        check_same_model(side_of(of_file("a", "x")), side_of(of_file("b", "y")))


def test_plausible_statistics_have_names_of_their_own() -> None:
    assert len({statistic_name(each) for each in PLAUSIBLE}) == len(PLAUSIBLE)
    assert statistic_name(Statistic(kind="throughput")) == "mean"
