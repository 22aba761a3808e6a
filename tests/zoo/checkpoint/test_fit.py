"""Where the weights are in a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the `export` extra")
from torch import nn  # noqa: E402

from latbench.errors import UsageError  # noqa: E402
from latbench.zoo.weights import WeightsUsed, load_weights  # noqa: E402

pytestmark = pytest.mark.torch


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def weights(seed: int = 1, prefix: str = "") -> dict[str, Any]:
    return {prefix + name: tensor for name, tensor in network(seed).state_dict().items()}


def load(tmp_path: Path, tree: object, key: str | None = None, seed: int = 1) -> WeightsUsed:
    """Load the weights, which must be those of ``network(seed)``."""
    torch.save(tree, tmp_path / "w.pth")
    model = network(9)
    used = load_weights(model, tmp_path / "w.pth", key)
    for name, tensor in network(seed).state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name
    return used


@pytest.mark.parametrize(
    ("tree", "key"),
    [
        ({"weight": weights(), "epoch": 3, "opt_g": {}}, "weight"),
        ({"model_state_dict": weights(), "optimizer_state_dict": {}, "loss": 0.1}, None),
        ({"net": weights(), "acc": 91.2}, "net"),
        ({"a": {"b": {"c": weights()}}}, "a.b.c"),
        ([{"lr": 0.1}, weights()], "1"),
        ({"generator": weights(), "discriminator": {"0.weight": torch.zeros(7)}}, "generator"),
    ],
)
def test_the_key_need_not_be_known(tmp_path: Path, tree: Any, key: str | None) -> None:
    used = load(tmp_path, tree)
    assert key is None or used.key == key
    assert used.remarks == ()


@pytest.mark.parametrize(
    "prefix", ["_orig_mod.", "module._orig_mod.", "model.", "backbone.", "net.", "any.thing."]
)
def test_a_prefix_is_removed_and_reported(tmp_path: Path, prefix: str) -> None:
    used = load(tmp_path, {"state_dict": weights(prefix=prefix)})
    assert "removed from the names" in used.remarks[0]
    assert used.key == "state_dict"


def test_compiled_parts_are_recognized_at_any_depth(tmp_path: Path) -> None:
    tree = {name.replace(".", "._orig_mod.", 1): tensor for name, tensor in weights().items()}
    assert load(tmp_path, tree).remarks == ("_orig_mod removed from the names",)


def test_a_prefix_that_only_the_network_has_is_added(tmp_path: Path) -> None:
    torch.save(weights(), tmp_path / "w.pth")
    model = nn.Module()
    model.inner = network(9)
    used = load_weights(model, tmp_path / "w.pth")
    assert used.remarks == ("prefix 'inner.' added to the names",)


def test_what_is_outside_the_prefix_is_reported(tmp_path: Path) -> None:
    used = load(tmp_path, {**weights(prefix="backbone."), "head.weight": torch.zeros(3, 3)})
    assert "1 not used, outside the prefix: head.weight" in used.remarks


def test_bookkeeping_is_left_out_and_reported(tmp_path: Path) -> None:
    counters = {
        "total_ops": torch.zeros(1, dtype=torch.float64),
        "0.total_params": torch.zeros(1, dtype=torch.float64),
        "n_averaged": torch.tensor(5),
    }
    (remark,) = load(tmp_path, {**weights(), **counters}).remarks
    assert remark.startswith("3 not used, bookkeeping: ")
    used = load(tmp_path, {**weights(prefix="module."), "n_averaged": torch.tensor(5)})
    assert "1 not used, bookkeeping: n_averaged" in used.remarks


@pytest.mark.parametrize("name", ["model_ema", "state_dict_ema", "ema", "params_ema", "swa"])
def test_averaged_weights_are_preferred_and_reported(tmp_path: Path, name: str) -> None:
    tree = {"model": weights(2), name: weights(1)}
    used = load(tmp_path, tree)
    assert used.key == name
    assert used.remarks == (f"{name} is used; model fits too (--weights-key chooses)",)
    assert load(tmp_path, tree, key="model", seed=2).key == "model"


def test_the_same_tensors_under_two_keys_are_one(tmp_path: Path) -> None:
    tree = weights()
    assert load(tmp_path, {"model": tree, "best": tree}).remarks == ()
    assert load(tmp_path, {"model": tree, "best": tree}, key="best").key == "best"


def test_several_weights_that_fit_need_a_key(tmp_path: Path) -> None:
    tree = {"student": weights(1), "teacher": weights(2)}
    with pytest.raises(UsageError, match="student, teacher") as caught:
        load(tmp_path, tree)
    assert caught.value.hint == "choose one, such as --weights-key student"
    assert load(tmp_path, tree, key="teacher", seed=2).key == "teacher"


def test_a_key_may_be_a_prefix_of_names(tmp_path: Path) -> None:
    tree = {"state_dict": {**weights(1, "student."), **weights(2, "teacher.")}}
    used = load(tmp_path, tree, key="state_dict.teacher", seed=2)
    assert used.remarks[0] == "prefix 'teacher.' removed from the names"


@pytest.mark.parametrize(
    ("tree", "key", "words"),
    [
        ({"a": {"x": torch.zeros(1)}, "epoch": 3}, None, "no tensor with a name of the model"),
        ({"model": weights()}, "nothing", "under 'nothing'"),
        ({"model": {**weights(), "5.weight": torch.zeros(2)}}, None, "1 extra: 5.weight"),
    ],
)
def test_what_does_not_fit_lists_the_keys(
    tmp_path: Path, tree: Any, key: str | None, words: str
) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        load(tmp_path, tree, key)
    assert caught.value.hint


def test_keys_are_listed_with_what_is_in_them(tmp_path: Path) -> None:
    tree = {"a": {"x": torch.zeros(1)}, "epoch": 3, "name": "best"}
    with pytest.raises(UsageError) as caught:
        load(tmp_path, tree)
    assert caught.value.hint == "the file has: a (1 tensors), epoch (3), name ('best')"


def test_a_dictionary_may_be_in_itself(tmp_path: Path) -> None:
    tree: dict[str, Any] = {"model": weights()}
    tree["again"] = tree
    assert load(tmp_path, tree).key == "model"


def test_endless_references_are_refused(tmp_path: Path) -> None:
    tree: list[Any] = [1]
    for _ in range(40):
        tree = [tree, tree]
    with pytest.raises(UsageError, match="more than 1,000,000 values"):
        load(tmp_path, tree)


def test_a_shared_tensor_may_be_there_once(tmp_path: Path) -> None:
    def shared(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
        net[1].weight = net[0].weight
        return net

    for kept in ("0.weight", "1.weight"):
        torch.save({kept: shared(1)[0].weight.detach()}, tmp_path / "w.pth")
        model = shared(2)
        load_weights(model, tmp_path / "w.pth")
        assert torch.equal(model[0].weight, shared(1)[0].weight)
        assert torch.equal(model[1].weight, shared(1)[0].weight)
