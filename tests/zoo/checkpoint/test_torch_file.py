"""Files of torch.save of every age, and plain pickles."""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the `export` extra")
from torch import nn  # noqa: E402

from latbench.errors import UsageError  # noqa: E402
from latbench.zoo.checkpoint.read import Checkpoint, read_checkpoint, reading  # noqa: E402

pytestmark = pytest.mark.torch


def loaded(checkpoint: Checkpoint) -> dict[str, Any]:
    return {entry.full: entry.tensor.load() for entry in checkpoint.entries}


def save_zip(tree: object, path: Path) -> None:
    torch.save(tree, path)


def save_chain(tree: object, path: Path) -> None:
    torch.save(tree, path, _use_new_zipfile_serialization=False)


def save_pickle(tree: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(tree))


def save_recompressed(tree: object, path: Path) -> None:
    torch.save(tree, path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


SAVES: list[Any] = [save_zip, save_chain, save_pickle, save_recompressed]


@pytest.mark.parametrize("save", SAVES)
def test_every_kind_of_tensor_is_read(tmp_path: Path, save: Any) -> None:
    torch.manual_seed(0)
    base = torch.rand(4, 6)
    tree = {
        "plain": base,
        "view": base.t()[1:3],
        "parameter": nn.Parameter(torch.rand(3)),
        "scalar": torch.tensor(3),
        "empty": torch.zeros(0, 3),
        **{
            str(dtype): torch.ones(2).to(dtype)
            for dtype in (torch.float64, torch.float16, torch.bfloat16, torch.int8, torch.bool)
        },
    }
    save(tree, tmp_path / "w.pth")
    found = loaded(read_checkpoint(tmp_path / "w.pth"))
    assert found.keys() == tree.keys()
    for name, tensor in tree.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor.detach()), name


def test_a_tar_archive_of_the_first_torch_is_read(tmp_path: Path) -> None:
    values = np.arange(6, dtype=np.float32)
    storages, tensors = io.BytesIO(), io.BytesIO()
    for part in (1, (7, "cpu", torch.FloatStorage)):
        pickle.dump(part, storages, protocol=2)
    storages.write(struct.pack("<q", 6) + values.tobytes())
    pickle.dump([], storages, protocol=2)
    for part in (1, (8, 7, torch.FloatTensor)):
        pickle.dump(part, tensors, protocol=2)
    tensors.write(struct.pack("<i4x2q2qq", 2, 2, 3, 3, 1, 0))

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: object) -> str | None:
            return "8" if obj == "the tensor" else None

    tree = io.BytesIO()
    Pickler(tree, protocol=2).dump({"weight": "the tensor"})
    with tarfile.open(tmp_path / "w.pth", "w") as archive:
        for name, part in (("storages", storages), ("tensors", tensors), ("pickle", tree)):
            entry = tarfile.TarInfo(name)
            entry.size = len(part.getvalue())
            archive.addfile(entry, io.BytesIO(part.getvalue()))
    found = loaded(read_checkpoint(tmp_path / "w.pth"))
    assert found["weight"].tolist() == values.reshape(2, 3).tolist()


@pytest.mark.parametrize("save", SAVES)
def test_numpy_arrays_and_scalars_are_read(tmp_path: Path, save: Any) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    save({"weight": array, "best": np.float64(77.5), "names": np.array(["a"])}, tmp_path / "w.pth")
    found = read_checkpoint(tmp_path / "w.pth")
    assert loaded(found)["weight"].tolist() == array.tolist()
    assert found.others == {"best": "77.5", "names": "numpy.ndarray"}


@pytest.mark.parametrize("save", [save_zip, save_chain])
def test_a_pickled_module_has_the_names_of_its_state_dict(tmp_path: Path, save: Any) -> None:
    class Part(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2, bias=False)
            self.register_buffer("kept", torch.ones(1))
            self.register_buffer("hidden", torch.ones(1), persistent=False)

    globals()["Part"] = Part
    Part.__qualname__ = "Part"
    net = nn.Sequential(Part(), nn.BatchNorm1d(2))
    save({"model": net, "epoch": 3}, tmp_path / "w.pth")
    entries = read_checkpoint(tmp_path / "w.pth").entries
    assert {entry.keys for entry in entries} == {"model"}
    assert {entry.name for entry in entries} == set(net.state_dict())


@pytest.mark.parametrize("change", [(5, (3, 1), (1, 1)), (0, (99,), (1,)), (0, (2,), (6,))])
def test_a_tensor_beyond_its_storage_is_damage(tmp_path: Path, change: Any) -> None:
    offset, shape, stride = change
    tensor = torch.rand(6)
    real = torch._utils._rebuild_tensor_v2

    class Beyond:
        def __reduce__(self) -> tuple[Any, ...]:
            return real, (tensor.storage(), offset, shape, stride, False, {})

    save_zip({"w": Beyond()}, tmp_path / "w.pth")
    with pytest.raises(UsageError, match="damaged checkpoint: a tensor is larger"):
        read_checkpoint(tmp_path / "w.pth")


def test_a_decompression_bomb_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    save_recompressed({"w": torch.zeros(5_000_000)}, path)
    assert path.stat().st_size < 100_000
    (entry,) = read_checkpoint(path).entries
    with pytest.raises(UsageError, match="claims to unpack to 20,000,000"):
        entry.tensor.load()


def test_an_entry_that_claims_terabytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    save_zip({"w": torch.zeros(4)}, path)
    content = path.read_bytes()
    at = content.rindex(b"PK\x01\x02", 0, content.rindex(b"w/data.pkl"))
    size = struct.pack("<I", 4_000_000_000)
    path.write_bytes(content[: at + 24] + size + content[at + 28 :])
    with pytest.raises(UsageError, match="claims to unpack to 4,000,000,000"):
        read_checkpoint(path)


def test_an_entry_that_holds_more_than_it_states_fills_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    save_recompressed({"w": torch.zeros(50_000_000)}, path)
    content = path.read_bytes()
    at = content.rindex(b"PK\x01\x02", 0, content.rindex(b"data/0"))
    path.write_bytes(content[: at + 24] + struct.pack("<I", 4_000) + content[at + 28 :])
    (entry,) = read_checkpoint(path).entries
    tracemalloc.start()
    try:
        with pytest.raises(UsageError, match="damaged"), reading(path):
            entry.tensor.load()
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
