"""Claims of how MACs grow: the rule on made counts, and networks whose growth is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from latbench.bundle.archive import BundleError
from latbench.bundle.claim_evidence import ClaimEvidence, Claims, decode_claims
from latbench.claims.judge import verdict
from latbench.claims.model import Claim, ClaimedModel, ClaimSource
from latbench.claims.verdict import Answer, CheckContext, CountedModel
from latbench.errors import StageError
from latbench.schema.graph import Growth, Over

SIDES = (224, 448, 672, 896)
NETS = """\
from torch import nn

class Vit(nn.Module):
    input_shape = (3, 224, 224)

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 16, 16)
        self.qkv = nn.Linear(32, 96)

    def forward(self, x):
        q, k, v = self.qkv(self.patches(x).flatten(2).transpose(1, 2)).chunk(3, dim=2)
        return (q @ k.transpose(1, 2)).softmax(2) @ v

class Fixed(nn.Sequential):
    input_shape = (3, 224, 224)

    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(3 * 224 * 224, 2))

def convs():
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1))
"""


def claim(exponent: float, **says: Any) -> Claim:
    tree = {
        "id": "planted",
        "model": "one",
        "says": {
            "kind": "scaling",
            "metric": "macs",
            "over": "tokens",
            "exponent": exponent,
            **says,
        },
        "source": {"id": "s", "where": "abstract"},
        "by": "authors",
    }
    return msgspec.convert(tree, Claim)


def answer(exponent: float, counted: CountedModel, **says: Any) -> Answer:
    bench = CheckContext(
        models={"one": ClaimedModel(id="one", name="One", build="one")}, counts={"one": counted}
    )
    found = verdict(claim(exponent, **says), [], bench).static
    assert found is not None
    return found


def grown(*macs: float, over: Over = "tokens", sizes: tuple[int, ...] = SIDES) -> CountedModel:
    return CountedModel(growth=Growth(over=over, sizes=sizes, macs=tuple(map(round, macs))))


def law(constant: float, linear: float, square: float) -> CountedModel:
    """By tokens of 16x16 pixels."""
    counts = [(side // 16) ** 2 for side in SIDES]
    return grown(*(constant + linear * n + square * n * n for n in counts))


def test_exponents_are_of_the_amount_and_not_of_the_side() -> None:
    growth = law(0, 1000, 0).growth
    assert growth is not None
    assert growth.exponents() == pytest.approx((1, 1, 1))
    batch = Growth(over="batch", sizes=(1, 2, 4), macs=(10, 20, 80))
    assert batch.exponents() == pytest.approx((1, 2))


@pytest.mark.parametrize(
    ("exponent", "counted", "expected"),
    [
        (1, law(0, 1e6, 0), "confirmed"),
        (1, law(1e6, 1e6, 0), "confirmed"),  # a classifier
        (2, law(0, 1e6, 0), "refuted"),
        (1, law(0, 12 * 192**2, 2 * 192), "refuted"),  # a layer of ViT-Ti
        (1, law(0, 12 * 768**2, 2 * 768), "refuted"),  # of ViT-B: 1.08 at first
        (2, law(0, 12 * 192**2, 2 * 192), "inconclusive"),  # not there yet
        (2, law(0, 1, 1e6), "confirmed"),
        (1, law(0, 1, 1e6), "refuted"),  # another power, but always the same one
        (1, law(300e6, 1e6, 0), "inconclusive"),  # a constant part that is not yet small
    ],
)
def test_the_rule(exponent: float, counted: CountedModel, expected: str) -> None:
    found = answer(exponent, counted)
    assert found.answer == expected, found
    assert bool(found.needs) == (expected == "inconclusive")
    assert found.unit == "exponent"
    assert "896 pixels per side" in found.reasons[0]


def test_what_was_not_counted_is_not_testable() -> None:
    found = answer(1, CountedModel(missing="it takes 224 pixels alone"))
    assert found.answer == "not testable here"
    assert found.reasons == ("One: it takes 224 pixels alone",)
    assert answer(1, CountedModel()).answer == "not testable here"


def test_latency_over_sizes_is_not_asked_of_counts() -> None:
    timed = claim(1, metric="latency")
    bench = CheckContext(models={"one": ClaimedModel(id="one", name="One", build="one")}, counts={})
    found = verdict(timed, [], bench)
    assert found.static is None
    assert found.value is not None
    assert found.value.answer == "not testable here"


@pytest.mark.parametrize(
    ("sizes", "macs"),
    [((1, 2), (1, 2)), ((1, 2, 2), (1, 2, 3)), ((1, 2, 4), (1, 0, 3)), ((1, 2, 4), (1, 2))],
)
def test_what_has_no_exponents_is_not_sound(sizes: tuple[int, ...], macs: tuple[int, ...]) -> None:
    assert not Growth(over="batch", sizes=sizes, macs=macs).sound()


def test_a_bundle_of_counts_without_exponents_does_not_open() -> None:
    bad = Growth(over="batch", sizes=(1, 2, 4), macs=(1, 0, 3))
    for growth, opens in ((law(0, 1, 0).growth, True), (bad, False)):
        claims = Claims(
            device="here",
            backends=(),
            sources=(ClaimSource(id="s", title="S"),),
            models=(ClaimedModel(id="one", name="One", build="one"),),
            evidence=(
                ClaimEvidence(
                    claim=claim(1), counts={"one": CountedModel(growth=growth)}, answers=()
                ),
            ),
        )
        raw = msgspec.json.encode(claims)
        if opens:
            assert decode_claims(raw) == claims
        else:
            with pytest.raises(BundleError, match="a count that cannot be"):
                decode_claims(raw)


@pytest.mark.torch
@pytest.mark.parametrize(
    ("factory", "over", "exponent", "expected"),
    [
        ("Vit", "tokens", 1, "refuted"),
        ("Vit", "batch", 1, "confirmed"),
        ("convs", "pixels", 1, "confirmed"),
        ("convs", "pixels", 2, "refuted"),
    ],
)
def test_planted_networks(
    tmp_path: Path, factory: str, over: Over, exponent: float, expected: str
) -> None:
    pytest.importorskip("torch", reason="models need the `export` extra")
    from latbench.zoo.scaling import growth

    (tmp_path / "nets.py").write_text(NETS)
    found = growth(f"{tmp_path}/nets.py:{factory}", over)
    if factory == "Vit" and over == "tokens":
        n = 14 * 14
        assert found.macs[0] == n * 3 * 256 * 32 + n * 32 * 96 + 2 * n * n * 32
        assert found.exponents()[0] < found.exponents()[1] < found.exponents()[2] < 2
    assert answer(exponent, CountedModel(growth=found), over=over).answer == expected


@pytest.mark.torch
def test_a_network_of_one_size_is_told(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="models need the `export` extra")
    from latbench.zoo.scaling import growth

    (tmp_path / "nets.py").write_text(NETS)
    with pytest.raises(StageError, match="cannot take an input of 1x3x448x448"):
        growth(f"{tmp_path}/nets.py:Fixed", "tokens")
    with pytest.raises(StageError, match="time-steps"):
        growth(f"{tmp_path}/nets.py:convs", "time-steps")


@pytest.mark.torch
def test_a_catalogued_network_counts_the_same_at_its_own_size() -> None:
    pytest.importorskip("torch", reason="models need the `export` extra")
    from latbench.zoo import catalog
    from latbench.zoo.scaling import growth

    found = growth("mobilevig_ti", "pixels")  # without a product of activations
    assert found.macs[0] == catalog.find("mobilevig_ti").macs


@pytest.mark.torch
def test_l2vit_is_linear_products_of_activations_included() -> None:
    pytest.importorskip("torch", reason="models need the `export` extra")
    from latbench.zoo import catalog
    from latbench.zoo.scaling import growth

    found = growth("l2vit_t", "tokens")
    assert found.macs[0] > catalog.find("l2vit_t").macs
    assert found.exponents() == pytest.approx((1, 1, 1), abs=0.001)
