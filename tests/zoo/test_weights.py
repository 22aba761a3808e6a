"""Files of weights: those that fit, those that do not, and those that would execute code."""

from __future__ import annotations

import argparse
import os
import pickle
import random
from collections.abc import Iterator
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
    trained, model = network(1), network(2)
    save({"state_dict": trained.state_dict(), "surprise": Evil(target)}, path)
    load_weights(model, path)
    assert not target.exists()
    assert torch.equal(model[0].weight, trained[0].weight)


def test_what_stands_in_the_way_is_named(tmp_path: Path) -> None:
    weights, path = network().state_dict(), tmp_path / "w.pth"
    weights["0.weight"] = argparse.Namespace(a=1)
    torch.save({"model": weights}, path)
    with pytest.raises(UsageError, match=r"model.0.weight is a argparse.Namespace") as caught:
        load_weights(network(), path)
    assert caught.value.hint


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


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS"),
        (b"\n<!DOCTYPE html><html>", "a web page"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    ],
)
def test_what_was_downloaded_instead_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=words):
        load_weights(network(), path)


def damaged(content: bytes) -> Iterator[bytes]:
    """The content cut off at many places, and with bytes changed."""
    yield from (content[:size] for size in range(0, len(content), max(1, len(content) // 80)))
    draw = random.Random(0)
    for _ in range(150):
        changed = bytearray(content)
        for _ in range(draw.choice((1, 1, 3))):
            changed[draw.randrange(len(content))] = draw.randrange(256)
        yield bytes(changed)
    yield from (draw.randbytes(draw.randrange(1, 300)) for _ in range(20))


def save_old(tree: Any, path: Path) -> None:
    torch.save(tree, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize(
    ("save", "suffix"),
    [(torch.save, ".pth"), (save_old, ".pth"), (save_file, ".safetensors")],
)
def test_damage_is_reported_in_words(tmp_path: Path, save: Any, suffix: str) -> None:
    path = tmp_path / f"w{suffix}"
    save(network().state_dict(), path)
    errors = []
    for content in damaged(path.read_bytes()):
        path.write_bytes(content)
        try:
            load_weights(network(), path)
        except UsageError as error:
            errors.append(error)
    assert len(errors) > 150
    assert all(error.hint for error in errors)


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*No such file"):
        load_weights(network(), tmp_path / "w.pth")


@pytest.mark.parametrize("tree", [5, [1, 2], {"a": 1}, {"args": argparse.Namespace()}])
def test_what_is_no_dictionary_of_tensors(tmp_path: Path, tree: object) -> None:
    path = tmp_path / "w.pth"
    torch.save(tree, path)
    with pytest.raises(UsageError, match="not a dictionary of tensors"):
        load_weights(network(), path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_cast_and_reported(tmp_path: Path, dtype: Any) -> None:
    path, model = tmp_path / "w.pth", network(2)
    torch.save(network(1).to(dtype).state_dict(), path)
    used = load_weights(model, path)
    assert model[0].weight.dtype == torch.float32
    assert used.remarks == (f"{str(dtype).removeprefix('torch.')} cast to float32",)


def test_integers_are_not_cast_to_weights(tmp_path: Path) -> None:
    weights, path = network().state_dict(), tmp_path / "w.pth"
    weights["0.weight"] = torch.zeros(4, 3, 1, 1, dtype=torch.int8)
    torch.save(weights, path)
    with pytest.raises(UsageError, match=r"0.weight is int8, the model has float32"):
        load_weights(network(), path)
