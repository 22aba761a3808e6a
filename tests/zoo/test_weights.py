"""Files of weights: those that fit, those that do not, and those that would execute code."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="weights need the `export` extra")
from safetensors.torch import save_file  # noqa: E402
from torch import nn  # noqa: E402

from latbench.errors import LatbenchError, UsageError  # noqa: E402
from latbench.zoo.weights import load_weights  # noqa: E402

pytestmark = pytest.mark.torch


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


NESTED: list[Any] = [
    lambda weights: weights,
    lambda weights: {"state_dict": weights, "epoch": 3},
    lambda weights: {"model": weights, "optimizer": {"lr": 0.1}},
    lambda weights: {"model_ema": weights, "model": {}},
    lambda weights: {f"module.{name}": tensor for name, tensor in weights.items()},
    lambda weights: {k: v for k, v in weights.items() if not k.endswith("num_batches_tracked")},
]


@pytest.mark.parametrize("nest", NESTED)
def test_what_training_scripts_save_is_read(tmp_path: Path, nest: Any) -> None:
    trained, path = network(1), tmp_path / "w.pth"
    torch.save(nest(trained.state_dict()), path)
    model = network(2)
    load_weights(model, path)
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), trained.parameters(), strict=True)
    )


def test_safetensors_are_read(tmp_path: Path) -> None:
    trained, path = network(1), tmp_path / "w.safetensors"
    save_file(trained.state_dict(), path)
    model = network(2)
    load_weights(model, path)
    assert torch.equal(model[0].weight, trained[0].weight)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: w.pop("0.weight"), "1 missing: 0.weight"),
        (lambda w: w.update(extra=torch.zeros(1)), "1 extra: extra"),
        (lambda w: w.update({"3.weight": torch.zeros(7, 4)}), "3.weight is 7x4, the model has 2x4"),
        (lambda w: w["0.bias"].fill_(float("nan")), "0.bias holds NaN"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, change: Any, words: str) -> None:
    weights, path = network().state_dict(), tmp_path / "w.pth"
    change(weights)
    torch.save(weights, path)
    with pytest.raises(UsageError) as caught:
        load_weights(network(), path)
    assert words in caught.value.message


class Evil:
    """Pickles into a call of a function."""

    def __init__(self, target: Path) -> None:
        self._target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self._target}",)


@pytest.mark.parametrize(
    "save", [torch.save, lambda tree, path: path.write_bytes(pickle.dumps(tree))]
)
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".ckpt"])
def test_nothing_is_ever_executed(tmp_path: Path, save: Any, suffix: str) -> None:
    target, path = tmp_path / "executed", tmp_path / f"w{suffix}"
    save({"state_dict": network().state_dict(), "surprise": Evil(target)}, path)
    with pytest.raises(UsageError) as caught:
        load_weights(network(), path)
    assert not target.exists()
    assert caught.value.hint


def test_a_pickled_module_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save(network(), path)
    with pytest.raises(UsageError, match="more than tensors"):
        load_weights(network(), path)


def test_a_torchscript_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "script.pt"
    torch.jit.trace(network().eval(), torch.zeros(1, 3, 1, 1)).save(path)
    with pytest.raises(UsageError, match="TorchScript program"):
        load_weights(network(), path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    "content", [b"", b"x", b"PK\x03\x04 no archive", b"\x80\x02}q\x00.", b"\xff" * 100]
)
def test_other_files_are_told(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    with pytest.raises(LatbenchError):
        load_weights(network(), path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_truncated_files_are_told(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"w{suffix}"
    weights = network().state_dict()
    save_file(weights, path) if suffix == ".safetensors" else torch.save(weights, path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UsageError):
        load_weights(network(), path)


@pytest.mark.parametrize("tree", [5, [1, 2], {"a": 1}, {1: torch.zeros(1)}])
def test_what_is_no_dictionary_of_tensors(tmp_path: Path, tree: object) -> None:
    path = tmp_path / "w.pth"
    torch.save(tree, path)
    with pytest.raises(UsageError, match="not a dictionary of tensors"):
        load_weights(network(), path)
