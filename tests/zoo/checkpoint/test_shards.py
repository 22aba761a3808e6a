"""Checkpoints in several files with an index."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the `export` extra")
from safetensors.torch import save_file  # noqa: E402
from torch import nn  # noqa: E402

from latbench.artifacts.inspection import inspect  # noqa: E402
from latbench.errors import UsageError  # noqa: E402
from latbench.zoo.resolver import resolve  # noqa: E402
from latbench.zoo.weights import load_weights  # noqa: E402

pytestmark = pytest.mark.torch


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    # Shapes that repeat: tensors at equal places of two files must not be taken for one.
    return nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))


def save(folder: Path, kind: str, seed: int = 1) -> Path:
    """Two files and their index, whose path is returned."""
    state = network(seed).state_dict()
    names = list(state)
    stem, suffix = ("model", "safetensors") if kind == "safetensors" else ("pytorch_model", "bin")
    places = {}
    for number, part in enumerate((names[:3], names[3:]), 1):
        file = f"{stem}-0000{number}-of-00002.{suffix}"
        held = {name: state[name].clone() for name in part}
        (save_file if kind == "safetensors" else torch.save)(held, folder / file)
        places.update(dict.fromkeys(part, file))
    index = folder / f"{stem}.{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 240}, "weight_map": places}))
    return index


def change(index: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    tree = json.loads(index.read_text())
    edit(tree)
    index.write_text(json.dumps(tree))


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
@pytest.mark.parametrize("named", ["index", "folder"])
def test_all_files_are_read(tmp_path: Path, kind: str, named: str) -> None:
    index = save(tmp_path, kind)
    model = network(9)
    used = load_weights(model, index if named == "index" else tmp_path)
    assert used.remarks == ()
    for name, tensor in network(1).state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name


def test_links_are_followed_as_in_a_download_cache(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot").mkdir()
    save(tmp_path / "blobs", "safetensors")
    for file in (tmp_path / "blobs").iterdir():
        (tmp_path / "snapshot" / file.name).symlink_to(Path("../blobs") / file.name)
    load_weights(network(), tmp_path / "snapshot")


def test_inspect_lists_the_tensors_of_all_files(tmp_path: Path) -> None:
    save(tmp_path, "safetensors")
    found = inspect(tmp_path)
    (weights,) = found.weights
    assert (weights.tensors, weights.elements) == (6, 60)
    assert found.others["files"] == "2 shards"
    assert found.size_bytes == sum(file.stat().st_size for file in tmp_path.iterdir())
    assert found.next[0].endswith(f"--weights {tmp_path}")


def test_every_file_is_part_of_the_identity(tmp_path: Path) -> None:
    index = save(tmp_path, "bin")

    def identity() -> str:
        settled = {"batch": 1, "resolution": None, "seed": 0}
        return resolve("mobilevig_ti", weights=index, **settled).identity.weights

    first = identity()
    torch.save({}, tmp_path / "pytorch_model-00002-of-00002.bin")
    assert identity() != first


def test_a_folder_with_one_file_is_that_file(tmp_path: Path) -> None:
    save_file(network(1).state_dict(), tmp_path / "model.safetensors")
    model = network(9)
    load_weights(model, tmp_path)
    assert torch.equal(model[0].weight, network(1)[0].weight)


def test_a_folder_with_several_or_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no checkpoint"):
        load_weights(network(), tmp_path)
    save(tmp_path, "bin")
    save(tmp_path, "safetensors")
    with pytest.raises(UsageError, match=r"holds several checkpoints: model\.safetensors\.index"):
        load_weights(network(), tmp_path)


@pytest.mark.parametrize(
    "outside",
    [
        "../elsewhere.bin",
        "/etc/passwd",
        "a/../../b.bin",
        "..",
        "C:\\b.bin",
        "..\\b.bin",
        "",
        "a\0b",
    ],
)
def test_a_file_outside_of_the_folder_is_refused(tmp_path: Path, outside: str) -> None:
    index = save(tmp_path, "bin")
    torch.save(network().state_dict(), tmp_path.parent / "elsewhere.bin")
    change(index, lambda tree: tree["weight_map"].update({"0.weight": outside}))
    with pytest.raises(UsageError, match="outside of its folder"):
        load_weights(network(), index)
    with pytest.raises(UsageError, match="outside of its folder"):
        inspect(index)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    index = save(tmp_path, "bin")
    (tmp_path / "pytorch_model-00002-of-00002.bin").unlink()
    with pytest.raises(UsageError, match=r"1 of 2 files are missing: pytorch_model-00002-of-00002"):
        load_weights(network(), index)


def test_a_tensor_in_two_files_is_refused(tmp_path: Path) -> None:
    index = save(tmp_path, "bin")
    second = tmp_path / "pytorch_model-00002-of-00002.bin"
    torch.save({**torch.load(second), "0.weight": torch.zeros(4, 4)}, second)
    with pytest.raises(UsageError, match=r"tensor 0\.weight is in two files"):
        load_weights(network(), index)


def test_a_tensor_elsewhere_than_the_index_says_is_refused(tmp_path: Path) -> None:
    index = save(tmp_path, "bin")
    change(index, lambda tree: tree["weight_map"].update({"9.w": tree["weight_map"]["0.weight"]}))
    with pytest.raises(UsageError, match=r"does not hold 9\.w"):
        load_weights(network(), index)


def test_a_tensor_that_the_index_leaves_out_is_not_dropped(tmp_path: Path) -> None:
    index = save(tmp_path, "bin")
    change(index, lambda tree: tree["weight_map"].pop("0.weight"))
    model = network(9)
    load_weights(model, index)
    assert torch.equal(model[0].weight, network(1)[0].weight)


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"[]", b"{}", b'{"weight_map": {}}', b'{"weight_map": [1]}', b"\xff"),
        *(b'{"weight_map": {"a": 1}}', b"[" * 100_000, b'{"weight_map": null}'),
    ],
    ids=lambda content: repr(content[:20]),
)
def test_a_damaged_index_is_refused(tmp_path: Path, content: bytes) -> None:
    index = save(tmp_path, "bin")
    index.write_bytes(content)
    with pytest.raises(UsageError, match=r"pytorch_model\.bin\.index\.json is not an index"):
        load_weights(network(), index)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    index = save(tmp_path, "safetensors")
    (tmp_path / "model-00002-of-00002.safetensors").write_bytes(b"\x10" * 99)
    with pytest.raises(UsageError, match=r"model-00002-of-00002\.safetensors is a damaged"):
        load_weights(network(), index)
