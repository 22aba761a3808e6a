"""`latbench claims check` of claims that are checked by building: growth and graphs."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from support.command_line import Latbench

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(find_spec("torch") is None, reason="needs the `export` extra"),
]
NETS = """\
from torch import nn

class Vit(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 16, 16)
        self.qkv = nn.Linear(32, 96)

    def forward(self, x):
        q, k, v = self.qkv(self.patches(x).flatten(2).transpose(1, 2)).chunk(3, dim=2)
        return (q @ k.transpose(1, 2)).softmax(2) @ v

def vit():
    return Vit()

def convs():
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1))

def bare_norm():
    norm = nn.LayerNorm(16, elementwise_affine=False)
    return nn.Sequential(nn.Conv2d(3, 4, 56, 56), nn.Flatten(2), nn.GELU(), norm)
"""
OWN = """\
schema: 1
sources:
- {id: paper, title: A paper}
models:
- {id: my_vit, name: My ViT, build: "nets.py:vit"}
- {id: my_convs, name: My convs, build: "nets.py:convs"}
- {id: tuned, name: A tuned network, absent: a method}
claims:
- id: vit-linear
  model: my_vit
  says: {kind: scaling, metric: macs, over: tokens, exponent: 1}
  source: {id: paper, where: abstract}
  by: authors
- id: convs-linear
  model: my_convs
  says: {kind: scaling, metric: macs, over: pixels, exponent: 1}
  source: {id: paper, where: abstract}
  by: authors
- id: tuned-free
  model: tuned
  says: {kind: identity, metric: latency, method: m, against: my_convs, merges: scale-and-shift}
  source: {id: paper, where: abstract}
  by: authors
- id: tuned-free-on-a-bare-norm
  model: tuned
  says:
    kind: identity
    metric: latency
    method: m
    against: my_convs
    merges: scale-and-shift
    hosts: ["nets.py:bare_norm", "nets.py:convs"]
  source: {id: paper, where: abstract}
  by: authors
- id: averaged-free
  model: tuned
  says:
    kind: identity
    metric: memory
    method: m
    against: my_convs
    merges: averaged-weights
    hosts: ["nets.py:convs", "nets.py:lost"]
  source: {id: paper, where: abstract}
  by: authors
"""


def test_planted_claims(latbench: Latbench, tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(NETS)
    (tmp_path / "own.yaml").write_text(OWN)
    own = {"LATBENCH_CLAIMS": str(tmp_path / "own.yaml")}
    ended = latbench("claims", "check", "--source", "paper", "--trust-code", "--json", **own)
    assert ended.status == 1, ended
    answers = {each["claim"]["id"]: each["verdict"]["static"] for each in ended.json}
    assert {id: found["answer"] for id, found in answers.items()} == {
        "vit-linear": "refuted",
        "convs-linear": "confirmed",
        "tuned-free": "confirmed",
        "tuned-free-on-a-bare-norm": "refuted",
        "averaged-free": "inconclusive",
    }
    assert answers["tuned-free"]["where"] == "nets.py:convs"
    assert "has no function 'lost'" in " ".join(answers["averaged-free"]["reasons"])
    _evidence_travels(latbench, tmp_path, own)
    static = ("--question", "static")
    text = latbench(
        *("claims", "check", "convs-linear", "tuned-free", "--trust-code"), *static, **own
    )
    assert text.status == 0, text
    assert "MACs grow linearly with pixels" in text.out
    assert "growth: confirmed: exponent 1" in text.out
    assert "claimed 0.95 to 1.05" in text.out
    assert "no more latency than My convs" in text.out
    assert "graph on nets.py:convs: confirmed" in text.out


def _evidence_travels(latbench: Latbench, tmp_path: Path, own: dict[str, str]) -> None:
    """The same answers without the networks."""
    claims = ("--claim", "vit-linear", "--claim", "tuned-free")
    made = latbench("bundle", "create", "--trust-code", "evidence.zip", *claims, **own)
    assert made.status == 0, made
    (tmp_path / "nets.py").rename(tmp_path / "away.py")
    assert latbench("bundle", "verify", "evidence.zip").status == 0
    shown = latbench("bundle", "show", "evidence.zip")
    assert "growth: refuted" in shown.out, shown
    assert "graph on nets.py:convs: confirmed" in shown.out
    (tmp_path / "away.py").rename(tmp_path / "nets.py")


@pytest.mark.slow
def test_shipped_claims(latbench: Latbench) -> None:
    if find_spec("timm") is None:
        pytest.skip("needs the `timm` extra")
    ids = (
        "l2vit-linear-complexity",
        "ssf-zero-inference-cost",
        "model-soups-zero-inference-cost",
    )
    ended = latbench("claims", "check", *ids, "--question", "static")
    assert ended.status == 0, ended
    assert "3 confirmed" in ended.out
    assert "timm:swin_tiny_patch4_window7_224" in ended.out
