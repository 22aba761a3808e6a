"""Checkpoints in one file or in several, as Hugging Face saves them.

A folder holds an index, ``model.safetensors.index.json`` or ``pytorch_model.bin.index.json``, whose
``weight_map`` names for each tensor the file beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

import msgspec

from latbench.errors import UsageError, listed
from latbench.zoo.checkpoint.read import (
    Checkpoint,
    CheckpointEntry,
    flattened,
    read_checkpoint,
    reading,
)
from latbench.zoo.checkpoint.tensor import StoredTensor

if TYPE_CHECKING:
    import torch

INDEX = ".index.json"
WHOLE = ("model.safetensors", "pytorch_model.bin")
"""Names of checkpoints in one file."""
LARGEST_INDEX_BYTES = 64 * 2**20
SHOWN = 3
DOWNLOAD = "download or save the whole checkpoint again"


class _Index(msgspec.Struct):
    """What the index holds, as far as it is used."""

    weight_map: dict[str, str]
    metadata: dict[str, object] | None = None


def located_checkpoint(path: Path) -> Path:
    """``path``, or the checkpoint or index in it if it is a folder.

    Raises :class:`UsageError` for a folder with none or several.
    """
    try:
        if not path.is_dir():
            return path
        names = sorted(each.name for each in path.iterdir() if each.is_file())
    except OSError as error:
        raise UsageError(f"cannot read the weights file {path}: {error.strerror}") from error
    found = [name for name in names if name.endswith(INDEX) or name in WHOLE]
    if len(found) > 1:
        raise UsageError(
            f"the folder {path} holds several checkpoints: {listed(found)}",
            hint=f"name one of them, such as {path / found[0]}",
        )
    if not found:
        raise UsageError(
            f"the folder {path} holds no checkpoint",
            hint=f"name a file, or a folder with one of {listed(WHOLE)} or an index (*{INDEX})",
        )
    return path / found[0]


def checkpoint_files(path: Path) -> tuple[Path, ...]:
    """The files of a checkpoint: one, or the index and the shards that it names, sorted.

    Raises :class:`UsageError` if the index is damaged or a shard is missing.
    """
    place = located_checkpoint(path)
    if not _is_index(place):
        return (place,)
    return (place, *_shards(place, _read_index(place)).values())


def open_checkpoint(path: Path) -> Checkpoint:
    """Read which tensors a checkpoint of one or several files holds, as :func:`read_checkpoint`."""
    place = located_checkpoint(path)
    if not _is_index(place):
        return read_checkpoint(place)
    index = _read_index(place)
    tree: dict[str, StoredTensor] = {}
    homes: dict[str, str] = {}
    formats, others = set(), {}
    for name, shard in _shards(place, index).items():
        read = read_checkpoint(shard)
        formats.add(read.format)
        others.update({f"{name}: {key}": value for key, value in read.others.items() if key})
        for entry in read.entries:
            if (other := homes.setdefault(entry.full, name)) != name:
                raise UsageError(
                    f"{place.name}: tensor {entry.full} is in two files, {other} and {name}",
                    hint=DOWNLOAD,
                )
            tree[entry.full] = _of_shard(entry, shard)
    _check_places(place, index, homes)
    with reading(place):
        entries, _ = flattened(tree)
    return Checkpoint(
        path=place,
        format="+".join(sorted(formats)),
        tree=tree,
        entries=tuple(entries),
        others={**others, "files": f"{len(set(index.weight_map.values()))} shards"},
        metadata={key: str(value) for key, value in (index.metadata or {}).items()},
    )


def _of_shard(entry: CheckpointEntry, shard: Path) -> StoredTensor:
    """The tensor, distinct from equal places in other files."""
    tensor = entry.tensor

    def load() -> torch.Tensor:
        with reading(shard):
            return tensor.load()

    return replace(tensor, place=(shard.name, tensor.place), load=load)


def _is_index(path: Path) -> bool:
    return path.name.endswith(INDEX) and path.is_file()


def _read_index(path: Path) -> _Index:
    try:
        if path.stat().st_size > LARGEST_INDEX_BYTES:
            raise ValueError(f"it is larger than {LARGEST_INDEX_BYTES:,} bytes")
        index = msgspec.json.decode(path.read_bytes(), type=_Index)
        if not index.weight_map:
            raise ValueError("its weight_map names no tensor")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, msgspec.DecodeError, RecursionError) as error:
        raise UsageError(
            f"{path.name} is not an index of a checkpoint: {error}",
            hint="its weight_map names a file for each tensor, as Hugging Face saves it",
        ) from error
    return index


def _shards(path: Path, index: _Index) -> dict[str, Path]:
    """The files that the index names, by name; each must be in the folder of the index."""
    names = sorted(set(index.weight_map.values()))
    for name in names:
        # Links may lead elsewhere, as in the cache of Hugging Face: the user's folder has them.
        outside = PurePosixPath(name).is_absolute() or bool(PureWindowsPath(name).anchor)
        parts = {*PurePosixPath(name).parts, *PureWindowsPath(name).parts}
        if outside or ".." in parts or not parts or "\0" in name:
            raise UsageError(
                f"{path.name} names {name!r}, which is outside of its folder",
                hint="the files of a checkpoint are beside its index",
            )
    missing = [name for name in names if not (path.parent / name).is_file()]
    if missing:
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        raise UsageError(
            f"{path.name}: {len(missing)} of {len(names)} files are missing: "
            f"{listed(missing[:SHOWN])}{more}",
            hint=DOWNLOAD,
        )
    return {name: path.parent / name for name in names}


def _check_places(path: Path, index: _Index, homes: Mapping[str, str]) -> None:
    """Refuse an index that places a tensor in a file that does not hold it."""
    wrong = [name for name, file in index.weight_map.items() if homes.get(name) != file]
    if wrong:
        raise UsageError(
            f"{path.name}: {index.weight_map[wrong[0]]} does not hold {wrong[0]}"
            + (f" ({len(wrong)} tensors are not where the index says)" if len(wrong) > 1 else ""),
            hint=DOWNLOAD,
        )
