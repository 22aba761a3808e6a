"""Accuracy against latency, ratios against ratios, and the rank correlation of the latter."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from latbench.analysis.rank_correlation import kendall_tau, tau_with_interval
from latbench.audit.papers import Top1
from latbench.audit.pareto import (
    Accuracy,
    accuracies,
    alike,
    frontier,
    pareto_points,
    ratio_pairs,
    tau_text,
)
from latbench.claims.model import (
    Citation,
    Claim,
    ClaimConditions,
    ClaimedModel,
)
from latbench.claims.statements import StatedValue
from latbench.errors import UsageError
from latbench.report.plot.pareto import save_pareto, save_ratios
from latbench.report.plot.picture import Style
from latbench.schema.record import Record
from support.records import make_record, make_trace

MODELS = {
    name: ClaimedModel(id=name, name=name.upper(), build=f"zoo_{name}") for name in "abcdefg"
} | {"unbuilt": ClaimedModel(id="unbuilt", name="Unbuilt", absent="no")}


def record(
    model: str,
    ms: float,
    *,
    threads: str = "2",
    device: str = "bench",
    backend: str = "onnxruntime",
) -> Record:
    traces = [
        make_trace(i, [round(ms * 1e6 * (1 + (i - 4) / 2000 + j % 7 / 5000)) for j in range(100)])
        for i in range(8)
    ]
    id = f"{model}-{ms}-{threads}"
    made = make_record(id=id, model=model, device=device, backend=backend, traces=traces)
    assert made.runtime is not None
    settings = {**made.runtime.settings, "threads": threads}
    runtime = msgspec.structs.replace(made.runtime, settings=settings)
    return msgspec.structs.replace(made, runtime=runtime)


def claim(
    model: str, figure: str, *, source: str = "paper", batch: int = 1, resolution: int = 224
) -> Claim:
    return Claim(
        id=f"{source}-{model}-{figure}",
        model=model,
        says=StatedValue(metric="latency", figure=figure, unit="ms"),
        source=Citation(id=source, where="Table 1"),
        conditions=ClaimConditions(device="phone", batch=batch, resolution=resolution),
        by="authors",
    )


def test_tau_is_that_of_the_definition() -> None:
    assert kendall_tau([(1, 1), (2, 2), (3, 3)]) == 1
    assert kendall_tau([(1, 3), (2, 2), (3, 1)]) == -1
    # 4 concordant, 2 discordant of 6
    assert kendall_tau([(1, 2), (2, 1), (3, 4), (4, 3)]) == pytest.approx(1 / 3)
    # One tie in the first: 2 / sqrt(2 * 3)
    assert kendall_tau([(1, 1), (1, 2), (2, 3)]) == pytest.approx(2 / 6**0.5)
    assert kendall_tau([(1, 1), (1, 2)]) is None
    assert kendall_tau([(1, 1)]) is None
    assert kendall_tau([]) is None


def test_tau_agrees_with_scipy() -> None:
    scipy = pytest.importorskip("scipy.stats")
    pairs = [(float(i % 7), float(i * i % 11)) for i in range(30)]
    expected = scipy.kendalltau(*zip(*pairs, strict=True)).statistic
    assert kendall_tau(pairs) == pytest.approx(expected)


def test_interval_of_tau_needs_six_pairs_and_is_repeatable() -> None:
    few = tau_with_interval([(1, 1), (2, 3), (3, 2)])
    assert few is not None
    assert few.interval is None
    assert "too few" in tau_text(few)
    pairs = [(float(i), float(i + (3 if i % 3 == 0 else 0))) for i in range(20)]
    tau = tau_with_interval(pairs)
    assert tau is not None
    assert tau.interval is not None
    assert tau.interval[0] < tau.value < tau.interval[1] <= 1
    assert tau == tau_with_interval(pairs)
    # The same two models in many sources are not more evidence, and five of them too little.
    grouped = tau_with_interval(pairs, [i // 2 for i in range(20)])
    assert grouped is not None
    assert grouped.interval is not None
    assert grouped.interval != tau.interval
    assert "20 ratios of 10 pairs of models" in tau_text(grouped)
    five = tau_with_interval(pairs, [i // 4 for i in range(20)])
    assert five is not None
    assert five.interval is None
    assert "none" in tau_text(tau_with_interval([(1, 1)]))


def test_records_of_several_devices_or_backends_are_refused() -> None:
    with pytest.raises(UsageError, match="several: one, two") as error:
        alike([record("zoo_a", 1, device="one"), record("zoo_b", 1, device="two")])
    assert "--device" in (error.value.hint or "")
    with pytest.raises(UsageError, match="several: onnxruntime, openvino"):
        alike([record("zoo_a", 1), record("zoo_b", 1, backend="openvino")])
    assert alike([]) == ([], [])


def test_records_under_other_settings_are_left_out_and_named() -> None:
    rows = [record("zoo_a", 1), record("zoo_b", 2), record("zoo_c", 3, threads="1")]
    kept, left = alike(rows)
    assert [each.model.name for each in kept] == ["zoo_a", "zoo_b"]
    assert left == ["zoo_c: fp32, 1 thread, batch 1, not fp32, 2 threads, batch 1"]


def test_accuracy_comes_from_claims_before_the_file() -> None:
    said = Claim(
        id="said",
        model="a",
        says=StatedValue(metric="accuracy", figure="74.0", unit="%"),
        source=Citation(id="paper", where="abstract"),
        by="authors",
    )
    stated = [
        Top1(model="zoo_a", figure="70.0", source="elsewhere"),
        Top1(model="zoo_b", figure="71.8", source="abstract"),
    ]
    found = accuracies([said, claim("b", "1.0")], MODELS, stated)
    of_a, of_b = found["zoo_a"][-1], found["zoo_b"][-1]
    assert (of_a.top1, of_a.source, of_b.top1, of_b.source) == (74.0, "said", 71.8, "abstract")
    assert len(found["zoo_a"]) == len(found["zoo_b"]) == 1


def test_points_are_of_models_that_have_both_and_the_frontier_is_undominated() -> None:
    rows = [record("zoo_b", 3), record("zoo_a", 1), record("zoo_c", 2), record("other", 1)]
    published = top1s(zoo_a=70, zoo_b=75, zoo_c=69)
    points, left = pareto_points(rows, published)
    assert left == {"other": "no published accuracy"}
    assert [point.measured.model for point in points] == ["zoo_a", "zoo_c", "zoo_b"]
    assert [point.measured.model for point in frontier(points)] == ["zoo_a", "zoo_b"]
    low, high = points[0].measured.interval_ns or (0, 0)
    assert low <= points[0].measured.median_ns <= high
    assert points[0].measured.median_ns == pytest.approx(1e6, rel=0.01)


def top1s(**values: float) -> dict[str, tuple[Accuracy, ...]]:
    return {name: (Accuracy(top1=top1, source=""),) for name, top1 in values.items()}


def at(row: Record, side: int) -> Record:
    """The record, measured with ``--resolution side``."""
    assert row.artifact is not None
    image = msgspec.structs.replace(row.artifact.inputs[0], shape=(1, 3, side, side))
    return msgspec.structs.replace(
        row,
        model=msgspec.structs.replace(row.model, resolution=(side, side)),
        artifact=msgspec.structs.replace(row.artifact, inputs=(image,)),
    )


def test_an_accuracy_applies_at_the_resolution_it_was_published_for() -> None:
    row = record("zoo_a", 3)
    published = {
        "zoo_a": (
            Accuracy(top1=70, source="own"),
            Accuracy(top1=72, source="larger", resolution=256),
        )
    }

    def found(measured: Record) -> float | str:
        points, left = pareto_points([measured], published)
        return points[0].top1 if points else left["zoo_a"]

    assert found(row) == 70
    assert found(at(row, 256)) == 72
    assert found(at(row, 128)) == (
        "measured at 128x128, and its accuracy is published for its own resolution, 256"
    )
    # A model of the zoo has a known resolution, so naming it changes nothing.
    own = at(record("mobilevig_ti", 3), 224)
    assert pareto_points([own], top1s(mobilevig_ti=75.7))[1] == {}


def test_ratios_are_over_the_first_model_of_each_table() -> None:
    rows = [record("zoo_a", 2), record("zoo_b", 4), record("zoo_c", 1)]
    claims = [
        claim("unbuilt", "9"),
        claim("a", "1.0"),
        claim("b", "1.5"),
        claim("c", "0.50"),
        claim("a", "30", source="other"),
        claim("c", "10", source="other", batch=8),  # not as it was measured
        claim("b", "10", source="third", resolution=512),
    ]
    pairs = ratio_pairs(claims, rows, MODELS)
    assert [(pair.model, pair.reference) for pair in pairs] == [("B", "A"), ("C", "A")]
    assert [pair.published for pair in pairs] == [1.5, 0.5]
    assert [pair.measured for pair in pairs] == pytest.approx([2, 0.5], rel=0.01)
    low, high = pairs[0].measured_interval or (0, 0)
    assert low <= pairs[0].measured <= high
    # The printed digits: 1.45 / 1.05 to 1.55 / 0.95.
    assert pairs[0].published_interval == pytest.approx((1.381, 1.632), abs=0.001)


def test_pictures_are_drawn_and_other_endings_refused(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the `plot` extra")
    rows = [record("zoo_a", 2), record("zoo_b", 4)]
    points, _ = pareto_points(rows, top1s(zoo_a=70, zoo_b=75))
    pairs = ratio_pairs([claim("a", "1.0"), claim("b", "1.5")], rows, MODELS)
    small = Style(size=(3.5, 2.5), font_pt=7, titled=False)
    save_pareto(points, "a title", tmp_path / "p.png", names={"zoo_a": "A"}, style=small)
    save_ratios(pairs, "a title", tmp_path / "r.svg")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (tmp_path / "r.svg").read_bytes()
    with pytest.raises(UsageError, match="unknown file extension"):
        save_pareto(points, "a title", tmp_path / "p.doc")
