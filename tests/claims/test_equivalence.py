"""Claims that a method costs nothing: the rule on made graphs, and methods that are merged here."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import msgspec
import pytest

from latbench.claims.judge import verdict
from latbench.claims.model import Claim, ClaimedModel
from latbench.claims.verdict import Answer, CheckContext, CountedModel
from latbench.errors import StageError
from latbench.schema.graph import GraphSize, MergeCheck, MergedGraphs

torch = pytest.importorskip("torch", reason="models need the `export` extra")
from torch import nn  # noqa: E402

from latbench.claims.graph import GRAPH_TOLERANCE  # noqa: E402
from latbench.zoo.merge_check import check_merge, difference, graph  # noqa: E402
from latbench.zoo.nets import methods  # noqa: E402

pytestmark = pytest.mark.torch

PLAIN = GraphSize(operators=10, parameters=100, macs=1000)
BUILT = MergedGraphs(plain=PLAIN, merged=PLAIN, unmerged_operators=20, apart=1e-15)
NETS = """\
from torch import nn

def good():
    return nn.Sequential(
        nn.Conv2d(3, 8, 4, 4, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1), nn.GELU(), nn.GroupNorm(2, 8),
        nn.ConvTranspose2d(8, 6, 2, 2), nn.Flatten(2), nn.Linear(3136 * 4, 5), nn.LayerNorm(5),
    )

def bare_norm():
    '''Nothing before the scale and shift could take it in.'''
    norm = nn.LayerNorm(16, elementwise_affine=False)
    return nn.Sequential(nn.Conv2d(3, 4, 56, 56), nn.Flatten(2), nn.GELU(), norm)

def nothing():
    return nn.Sequential(nn.Conv2d(3, 4, 56, 56, bias=False), nn.ReLU())
"""
LAYERS = {
    "linear": (lambda: nn.Linear(6, 4), (2, 3, 6)),
    "conv": (lambda: nn.Conv2d(6, 4, 3, groups=2), (2, 6, 5, 5)),
    "conv1d": (lambda: nn.Conv1d(6, 4, 3), (2, 6, 5)),
    "transposed": (lambda: nn.ConvTranspose2d(6, 4, 2, 2), (2, 6, 5, 5)),
    "layer norm": (lambda: nn.LayerNorm(6), (2, 3, 6)),
    "group norm": (lambda: nn.GroupNorm(2, 6), (2, 6, 5, 5)),
    "batch norm": (lambda: nn.BatchNorm2d(6), (2, 6, 5, 5)),
}


def x(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).double()


def answer(*shown: MergeCheck, merges: str | None = "scale-and-shift") -> Answer:
    says: dict[str, Any] = {
        "kind": "identity",
        "metric": "latency",
        "method": "merged",
        "against": "plain",
        "merges": merges,
    }
    tree = {
        "id": "planted",
        "model": "one",
        "says": says,
        "source": {"id": "s", "where": "abstract"},
        "by": "authors",
    }
    models = {id: ClaimedModel(id=id, name=id, absent="a method") for id in ("one", "plain")}
    bench = CheckContext(models=models, counts={"one": CountedModel(shown=shown)})
    found = verdict(msgspec.convert(tree, Claim), [], bench)
    assert found.value is not None
    assert "static" in found.value.reasons[0]
    assert found.static is not None
    return found.static


def host(name: str = "net", **changes: Any) -> MergeCheck:
    return MergeCheck(host=name, built=msgspec.structs.replace(BUILT, **changes))


@pytest.mark.parametrize(
    ("changes", "expected", "words"),
    [
        ({}, "confirmed", "10 operators, same shapes"),
        ({"apart": None}, "confirmed", "20 operators before merging"),
        ({"difference": "aten.mul"}, "refuted", "differs from the plain one"),
        ({"merged": msgspec.structs.replace(PLAIN, parameters=101)}, "refuted", "101 parameters"),
        ({"apart": 1e-3}, "refuted", "its outputs differ from those before merging"),
        ({"unmerged_operators": 10}, "inconclusive", "not larger than the plain one"),
    ],
)
def test_the_rule(changes: dict[str, Any], expected: str, words: str) -> None:
    found = answer(host(**changes))
    assert found.answer == expected
    assert found.where == "net"
    assert words in found.reasons[0]


def test_every_host_counts() -> None:
    missing = MergeCheck(host="lost", missing="no such network")
    larger = host("larger", difference="aten.mul")
    assert answer(host("a"), host("b")).where == "a, b"
    assert answer(host("a"), larger).answer == "refuted"
    assert answer(missing, larger).answer == "refuted"
    partly = answer(host("a"), missing)
    assert (partly.answer, partly.where) == ("inconclusive", "a")
    assert "lost: no such network" in partly.reasons
    none = answer(missing)
    assert none.answer == "not testable here"
    assert none.reasons == ("lost: no such network",)
    assert answer().answer == "not testable here"
    assert answer(merges=None).answer == "not testable here"


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_takes_in_the_scale_and_shift_after_it(name: str) -> None:
    build, shape = LAYERS[name]
    net = nn.Sequential(build(), nn.GELU()).double().eval().requires_grad_(False)
    inputs = x(*shape)
    before = copy.deepcopy(net.state_dict())
    applied = methods.with_scale_and_shift(net, methods.places(net))
    merged = methods.merged(applied)
    torch.testing.assert_close(merged(inputs), applied(inputs), rtol=1e-12, atol=1e-12)
    assert float((merged(inputs) - net(inputs)).abs().max()) > 1e-3
    assert all(torch.equal(net.state_dict()[key], value) for key, value in before.items())
    lines = [graph(each, (inputs,)) for each in (net, merged, applied)]
    assert difference(lines[0], lines[1]) is None
    assert len(lines[2]) > len(lines[0])


def test_after_an_activation_it_stays_and_the_graph_is_larger() -> None:
    net = nn.Sequential(nn.Linear(6, 4), nn.GELU()).double().requires_grad_(False)
    applied = methods.with_scale_and_shift(net, ["0"])
    applied[1] = nn.Sequential(net[1], methods.ScaleAndShift(x(4), x(4), trailing=True))
    merged = methods.merged(applied)
    inputs = (x(2, 6),)
    torch.testing.assert_close(merged(*inputs), applied(*inputs), rtol=1e-12, atol=1e-12)
    found = difference(graph(net, inputs), graph(merged, inputs))
    assert found is not None


def test_a_shift_that_is_lost_is_seen() -> None:
    net = nn.Sequential(nn.Linear(6, 4), nn.GELU()).double().requires_grad_(False)
    applied = methods.with_scale_and_shift(net, ["0"])
    merged = methods.merged(applied)
    merged[0].bias.copy_(net[0].bias * applied[0][1].scale)
    assert float((merged(x(2, 6)) - applied(x(2, 6))).abs().max()) > 1000 * GRAPH_TOLERANCE


def test_where_it_is_put() -> None:
    net = nn.Sequential(
        nn.Linear(4, 4, bias=False), nn.LayerNorm(4), nn.ReLU(), nn.Sequential(nn.Linear(4, 4))
    )
    assert methods.places(net) == ["1", "3.0"]


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (lambda x: (x + 1).relu(), lambda x: x.relu() + 1),  # order
        (lambda x: x + 1, lambda x: x + 2),  # a constant
        (lambda x: x.reshape(2, 6), lambda x: x.reshape(6, 2)),  # a shape
        (lambda x: x - x.relu(), lambda x: x.relu() - x),  # a connection
        (lambda x: x.relu(), lambda x: x.relu().relu()),  # one more
    ],
)
def test_graphs_that_differ(one: Any, two: Any) -> None:
    class Net(nn.Module):
        def __init__(self, call: Any) -> None:
            super().__init__()
            self.call = call

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.call(x)

    lines = [graph(Net(call), (x(3, 4),)) for call in (one, two, one)]
    assert difference(lines[0], lines[1]) is not None
    assert difference(lines[0], lines[2]) is None


def test_weights_are_averaged_and_counters_are_not() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).requires_grad_(False)
    net[1].num_batches_tracked.fill_(7)
    parts = methods.trainings(net, 3)
    weights = [part[0].weight for part in parts]
    assert not torch.equal(weights[0], weights[1])
    found = methods.averaged(parts)
    torch.testing.assert_close(found[0].weight, sum(weights) / 3)
    assert int(found[1].num_batches_tracked) == 7
    together = methods.Together(parts)(torch.ones(1, 3, 8, 8))[0]
    mean = sum(part(torch.ones(1, 3, 8, 8)) for part in parts) / 3
    torch.testing.assert_close(together, mean)


@pytest.mark.parametrize("method", ["scale-and-shift", "averaged-weights"])
def test_planted_truth(tmp_path: Path, method: Any) -> None:
    """BatchNorms are folded in what is compared, as in what is deployed."""
    (tmp_path / "nets.py").write_text(NETS)
    built = check_merge(method, f"{tmp_path}/nets.py:good")
    assert built.difference is None
    assert built.merged == built.plain
    assert built.unmerged_operators > built.plain.operators
    assert answer(MergeCheck(host="good", built=built), merges=method).answer == "confirmed"


def test_planted_falsehood(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(NETS)
    built = check_merge("scale-and-shift", f"{tmp_path}/nets.py:bare_norm")
    assert built.merged.operators == built.plain.operators + 2
    found = answer(MergeCheck(host="bare", built=built))
    assert found.answer == "refuted"
    assert "aten.mul" in found.reasons[0]
    nothing = check_merge("scale-and-shift", f"{tmp_path}/nets.py:nothing")
    assert answer(MergeCheck(host="nothing", built=nothing)).answer == "inconclusive"


def test_what_cannot_be_built_is_told(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text("def broken():\n    raise ValueError('no weights')\n")
    with pytest.raises(StageError, match="no weights"):
        check_merge("scale-and-shift", f"{tmp_path}/nets.py:broken")
