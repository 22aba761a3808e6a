"""The shipped claims, what a bad entry does, and completeness."""

from __future__ import annotations

from pathlib import Path

import pytest

from latbench.audit.library import (
    ClaimLibrary,
    add_file,
    load_claims,
    user_claims,
)
from latbench.claims.completeness import completeness
from latbench.claims.model import Claim
from latbench.claims.quantities import parse_count, parse_figure, quotients
from latbench.claims.statements import KINDS, StatedRatio
from latbench.devices.catalog import load_devices
from latbench.errors import UsageError
from latbench.zoo.catalog import ZOO

ENTRY = """\
- id: {id}
  model: mine
  says: {{kind: value, metric: latency, figure: "2.30", unit: ms}}
  source: {{id: paper, where: Table 1}}
  conditions: {{device: pixel-8, backend: tflite, batch: 1, resolution: 224, precision: fp32}}
  open: [os, backend_version, compute_unit, threads, input, protocol, warmup_calls, calls, statistic]
  by: authors
"""
HEAD = """\
schema: 1
sources:
- {id: paper, title: A paper}
models:
- {id: mine, name: Mine, build: mobilevig_ti}
claims:
"""
VALUE = '{kind: value, metric: latency, figure: "2.30", unit: ms}'


@pytest.fixture(scope="module")
def shipped() -> ClaimLibrary:
    return load_claims(load_devices())


def own(tmp_path: Path, entries: str) -> ClaimLibrary:
    path = tmp_path / "own.yaml"
    path.write_text(HEAD + entries)
    return load_claims(load_devices(), [path])


def test_all_shipped_claims_are_good(shipped: ClaimLibrary) -> None:
    assert shipped.errors == ()
    assert len(shipped.claims) == 409
    assert sum(claim.headline for claim in shipped.claims) == 72
    assert {claim.kind for claim in shipped.claims} == set(KINDS)


def test_every_headline_has_its_words(shipped: ClaimLibrary) -> None:
    assert [c.id for c in shipped.claims if c.headline and not c.source.quote] == []


def test_quotes_of_headlines_are_verbatim_pieces(shipped: ClaimLibrary) -> None:
    """Nothing is left out of a quote, and a printed value is in it."""
    headlines = [claim for claim in shipped.claims if claim.headline]
    quotes = {claim.id: claim.source.quote or "" for claim in headlines}
    assert [id for id, quote in quotes.items() if "..." in quote or "\u2026" in quote] == []
    stated = {claim.id: claim.figure for claim in headlines if claim.says.metric == "accuracy"}
    # The abstract gives NASNet's accuracy as a difference only.
    assert [id for id, figure in stated.items() if str(figure) not in quotes[id]] == [
        "nasnet-mobile"
    ]


def test_printed_digits_are_kept(shipped: ClaimLibrary) -> None:
    assert shipped.find("mobilevig-b-latency-iphone13mini").figure == "2.30"
    assert shipped.find("mnv4-fastvit-t8-pixel4").figure == "failed"
    assert shipped.find("iir-snn-t1-latency").figure == "5-2500"


def test_completeness_counts_what_matters(shipped: ClaimLibrary) -> None:
    assert completeness(shipped.find("mobilevig-ti-latency-iphone13mini")) == (7, 13)
    assert completeness(shipped.find("fmvit-vs-resnet101-tensorrt")) == (1, 14)
    assert completeness(shipped.find("tinyvit-21m-params")) == (0, 1)
    assert completeness(shipped.find("model-soups-zero-inference-cost")) == (0, 0)


def test_what_a_source_corrects_is_kept_beside_what_it_prints(shipped: ClaimLibrary) -> None:
    claim = shipped.find("fbnet-b-speedup-mnv2-130")
    assert claim.figure == "1.5"
    assert claim.correction is not None
    assert claim.correction.figure == "1.46"
    assert claim.correction.reason


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("0.78", 0.775, 0.785),
        ("2.30", 2.295, 2.305),
        ("167", 166.5, 167.5),
        ("5-2500", 5, 2500),
        ("1/4", 1 / 4.5, 1 / 3.5),
    ],
)
def test_a_figure_is_an_interval(text: str, low: float, high: float) -> None:
    figure = parse_figure(text)
    assert figure is not None
    assert (figure.low, figure.high) == pytest.approx((low, high))


@pytest.mark.parametrize(
    "text", ["", "-1", "1e3", "0x10", "9-5", "1.2.3", "about 3", "1/1", "1/0", "2/3", "\u0661"]
)
def test_what_is_no_figure(text: str) -> None:
    assert parse_figure(text) is None


def test_counts() -> None:
    exact, rounded, two = (parse_count(t) for t in ("26868506", "4.8 M", "291.1-295.6 M"))
    assert exact is not None
    assert rounded is not None
    assert two is not None
    assert exact.low == exact.high == 26_868_506
    assert (rounded.low, rounded.high) == pytest.approx((4.75e6, 4.85e6))
    assert (two.low, two.high) == pytest.approx((291.1e6, 295.6e6))


def ratio(figure: str, unit: str, sense: str, reading: str | None = None) -> StatedRatio:
    return StatedRatio(
        metric="latency",
        figure=figure,
        unit=unit,
        sense=sense,
        against="x",
        reading=reading,  # type: ignore[arg-type]
    )


def test_a_percentage_of_speed_is_read_both_ways() -> None:
    both = quotients(ratio("43", "%", "less", "open"))
    assert both["time"] == pytest.approx((0.565, 0.575))
    assert both["rate"] == pytest.approx((1 / 1.435, 1 / 1.425))
    assert set(quotients(ratio("25", "%", "less", "time"))) == {"time"}
    assert quotients(ratio("1.5", "x", "less"))[""] == pytest.approx((1 / 1.55, 1 / 1.45))


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("  by: authors\n", "", 7, "missing required field `by`"),
        ('"2.30"', "2.30", 9, "claims[0].says.figure: expected `str`, got `float`"),
        ('"2.30"', '"fast"', 9, "'fast' is not a value"),
        ('"2.30"', '"0"', 9, "is impossible"),
        ('"2.30"', '"99999999"', 9, "is impossible"),
        ("unit: ms", "unit: images/s", 9, "'images/s' is not a unit of latency"),
        ("metric: latency", "metric: beauty", 9, "claims[0].says.metric"),
        ("kind: value", "kind: boast", 9, "claims[0].says.kind"),
        ("device: pixel-8", "device: pixel-88", 11, "unknown device 'pixel-88'"),
        ("model: mine", "model: mines", 8, "unknown model 'mines'"),
        ("{id: paper,", "{id: papers,", 10, "unknown source 'papers'"),
        ("batch: 1,", "batch: 1024,", 11, "batch 1024 on a phone (pixel-8) is impossible"),
        ("batch: 1,", "batch: 0,", 11, "must be at least 1"),
        ("precision: fp32", "precision: fp31", 11, "unknown precision 'fp31'"),
        ("resolution: 224", "resolution: 22400", 11, "more than 8192"),
        ("open: [os, ", "open: [", 11, "missing os"),
        ("open: [os, ", "open: [os, batch, ", 12, "batch is open, but `conditions` gives a value"),
        ("open: [os, ", "open: [os, mood, ", 12, "unknown condition 'mood'"),
        ("  by: authors", "  conflicts: [nobody]\n  by: authors", 13, "unknown claim 'nobody'"),
        ("  by: authors", "  bye: authors\n  by: authors", 13, "claims[0].bye: unknown key"),
        ("id: first", "id: First One", 7, "'First One' is not a valid id"),
        (VALUE, '{kind: ratio, metric: latency, figure: "25", unit: "%", sense: less, against: resnet50}', 9, "a percentage of speed refers to time or to rate"),
        (VALUE, '{kind: ratio, metric: latency, figure: "0.5", unit: x, sense: less, against: resnet50}', 9, "0.5x less contradicts itself"),
        (VALUE, '{kind: ratio, metric: latency, figure: "120", unit: "%", sense: less, against: resnet50, reading: time}', 9, "120 % less (reading: time) is impossible"),
        (VALUE, '{kind: ratio, metric: latency, figure: "200", unit: "%", sense: more, against: resnet50, reading: rate}', 9, "200 % more (reading: rate) is impossible"),
        (VALUE, '{kind: ratio, metric: latency, figure: "0-2", unit: x, sense: less, against: resnet50}', 9, "0-2x less is impossible"),
        (VALUE, '{kind: ratio, metric: throughput, figure: "90", unit: "%", sense: less, against: resnet50, around_percent: 20}', 9, "90 % less is impossible"),
        (VALUE, '{kind: ratio, metric: latency, figure: "1.5", unit: x, sense: less, against: resnet50, around_percent: -100}', 9, "says.around_percent: must be above 0"),
        (VALUE, '{kind: value, metric: throughput, figure: "0-100", unit: images/s}', 9, "throughput of 0-100 images/s is impossible"),
        (VALUE, '{kind: bound, metric: latency, figure: "2-3", unit: ms, sense: below}', 9, "a bound is a single value, not a range"),
        (VALUE, '{kind: scaling, metric: macs, over: tokens, exponent: -1}', 9, "says.exponent: must be at least 0"),
        (VALUE, '{kind: ordering, metric: latency, sense: less, against: mine}', 9, "the model is compared with itself"),
        (VALUE, '{kind: parity, metric: latency, against: resnet50, tolerance_percent: 90, tolerance_from: source}', 9, "must be above 0"),
        (VALUE, '{kind: size, metric: parameters, figure: "5", unit: M}', 11, "parameters do not depend on the device"),
    ],
)  # fmt: skip
def test_a_bad_entry_is_named_and_the_others_load(
    tmp_path: Path, old: str, new: str, line: int, words: str
) -> None:
    entry = ENTRY.format(id="first")
    assert old in entry
    found = own(tmp_path, entry.replace(old, new) + ENTRY.format(id="second"))
    assert [error for error in found.errors if words in error], found.errors
    told = next(error for error in found.errors if words in error)
    assert told.startswith(f"{tmp_path / 'own.yaml'}:{line}: claims[0]")
    assert found.find("second").figure == "2.30"
    assert len(found.claims) == 410
    with pytest.raises(UsageError):
        found.find("first")


def test_one_id_for_two_claims(tmp_path: Path) -> None:
    found = own(tmp_path, ENTRY.format(id="first") * 2)
    assert len(found.errors) == 1
    path = tmp_path / "own.yaml"
    assert found.errors[0].startswith(f"{path}:14: claims[1].id: the id 'first' is taken: {path}:7")
    assert found.find("first").figure == "2.30"


def test_models_are_checked_too(tmp_path: Path) -> None:
    for row, words in (
        ("{id: mine, name: Mine}", "models[0].absent: missing"),
        ("{id: mine, name: Mine, build: mobilevig_x}", "unknown model 'mobilevig_x'"),
        ("{id: mine, name: Mine, build: mobilevig_ti, absent: gone}", "contradicts `build`"),
        (
            "{id: mine, name: Mine, absent: x, counts: {source: s, macs: many}}",
            "'many' is not a count",
        ),
        ("{id: mine, name: Mine, build: mobilevig_ti, parameters: 0}", "must be at least 1"),
        ("{id: mine, name: Mine, build: mobilevig_ti, deployed_parameters: -1}", "at least 1"),
        ("{id: mine, name: Mine, build: mobilevig_ti, parameters: 5.2}", "models[0].parameters"),
        ("{id: mine, name: Mine, absent: x, parameters: 5}", "put published counts in `counts`"),
    ):
        path = tmp_path / "own.yaml"
        path.write_text(HEAD.replace("{id: mine, name: Mine, build: mobilevig_ti}", row))
        found = load_claims(load_devices(), [path])
        assert any(words in error for error in found.errors), found.errors
        assert len(found.claims) == 409


def test_every_model_that_is_built_is_pinned(shipped: ClaimLibrary) -> None:
    zoo = {entry.name: entry.parameters for entry in ZOO}
    pins: dict[str, int] = {}
    for model in shipped.models.values():
        if model.build is None:
            continue
        assert model.parameters is not None, model.id
        assert pins.setdefault(model.build, model.parameters) == model.parameters, model.id
        assert zoo.get(model.build, model.parameters) == model.parameters, model.id
        fused = model.deployed_parameters
        assert (fused is not None) == (model.form == "deployed"), model.id
        assert fused is None or fused < model.parameters, model.id


def test_a_file_that_is_no_yaml_does_not_hide_the_others(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    for text in (
        *("schema: 1\nclaims: [", "", "- 1\n", "claims: []\n"),
        *("schema: 2\n", "schema: true\n", "schema: -3\n", "schema: 0\n"),
    ):
        path.write_text(text)
        found = load_claims(load_devices(), [path, tmp_path / "none.yaml"])
        assert len(found.errors) == 2
        assert len(found.claims) == 409


def test_adding_copies_a_good_file_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATBENCH_CLAIMS", str(tmp_path / "claims"))
    path = tmp_path / "new.yaml"
    path.write_text(HEAD + ENTRY.format(id="bad").replace("pixel-8", "pixel-88"))
    with pytest.raises(UsageError, match="unknown device"):
        add_file(path, load_devices())
    assert not (tmp_path / "claims").exists()
    path.write_text(HEAD + ENTRY.format(id="first"))
    place, ids = add_file(path, load_devices())
    assert ids == ("first",)
    assert place.read_text() == path.read_text()
    with pytest.raises(UsageError, match="is taken"):
        add_file(path, load_devices())


def test_an_older_mistake_does_not_hide_that_of_a_new_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LATBENCH_CLAIMS", str(tmp_path / "claims"))
    (tmp_path / "claims").mkdir()
    old = HEAD + ENTRY.format(id="old").replace("model: mine", "model: mine_to_be")
    (tmp_path / "claims/old.yaml").write_text(old)
    path = tmp_path / "new.yaml"
    model = "- {id: mine_too, name: Mine, build: mobilevig_ti, parameters: 0}\nclaims:"
    path.write_text(HEAD.replace("claims:", model) + ENTRY.format(id="new"))
    with pytest.raises(UsageError, match="at least 1") as caught:
        add_file(path, load_devices())
    assert "old.yaml" not in caught.value.message
    path.write_text(HEAD.replace("claims:", model.replace(", parameters: 0", "")))
    with pytest.raises(UsageError, match="contains no claims"):
        add_file(path, load_devices())
    path.write_text(path.read_text() + ENTRY.format(id="new"))
    assert add_file(path, load_devices())[1] == ("new",)


@pytest.mark.parametrize("name", ["such.yaml", "such.yml"])
def test_a_file_that_is_named_must_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("LATBENCH_CLAIMS", str(tmp_path / name))
    (told,) = load_claims(load_devices(), user_claims()).errors
    assert str(tmp_path / name) in told
    monkeypatch.setenv("LATBENCH_CLAIMS", str(tmp_path))
    (tmp_path / name).write_text(HEAD + ENTRY.format(id="own"))
    assert load_claims(load_devices(), user_claims()).find("own").figure == "2.30"


def test_kinds_are_told_apart(shipped: ClaimLibrary) -> None:
    def kind(id: str) -> str:
        claim: Claim = shipped.find(id)
        return claim.kind

    assert kind("slab-swin-minus-flatten-swin") == "difference"
    assert kind("mobileone-s1-under-1ms") == "bound"
    assert kind("l2vit-linear-complexity") == "scaling"
    assert kind("ssf-zero-inference-cost") == "identity"
    assert kind("efficientformer-l1-as-fast-as-mnv2-140") == "parity"
    assert kind("mobilevig-ti-faster-mnv2-140") == "ordering"
