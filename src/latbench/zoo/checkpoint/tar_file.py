"""Files of ``torch.save`` before torch 0.1.10: tar archives of storages, tensors and a pickle."""

from __future__ import annotations

import struct
import tarfile
from pathlib import Path
from typing import Any, BinaryIO

from latbench.zoo.checkpoint.inert_pickle import Stream, read_pickle
from latbench.zoo.checkpoint.tensor import ITEM_BYTES
from latbench.zoo.checkpoint.values import VALUES, in_memory, storage_type, tensor, whole


def read_tar(path: Path) -> object:
    """What the archive holds. Raises built-in exceptions and ``TarError`` for a damaged one."""
    known: dict[object, Any] = {}
    with tarfile.open(path, "r:") as archive:

        def member(name: str) -> BinaryIO:
            found: Any = archive.extractfile(name)
            if found is None:
                raise ValueError(f"the archive has no {name}")
            opened: BinaryIO = found
            return opened

        with member("storages") as file:
            for _ in range(_number(file)):
                key, _, stored_as = _fields(read_pickle(file, VALUES), 3)
                dtype = storage_type(stored_as)
                (elements,) = struct.unpack("<q", file.read(8))
                content = file.read(whole(elements) * ITEM_BYTES[dtype])
                known[key] = in_memory(key, dtype, content)
            for target, root, offset, elements in _rows(read_pickle(file, VALUES)):
                held, width = known[root], ITEM_BYTES[known[root].dtype]
                part = held.read()[offset * width : (offset + elements) * width]
                known[target] = in_memory(target, held.dtype, part)
        with member("tensors") as file:
            for _ in range(_number(file)):
                key, root, _ = _fields(read_pickle(file, VALUES), 3)
                (axes,) = struct.unpack("<i4x", file.read(8))
                shape = struct.unpack(f"<{axes}q", file.read(8 * axes))
                stride = struct.unpack(f"<{axes}q", file.read(8 * axes))
                (offset,) = struct.unpack("<q", file.read(8))
                known[key] = tensor(known[root], offset, shape, stride)
        with member("pickle") as file:
            return read_pickle(
                file,
                VALUES,
                lambda given: given[0] if isinstance(given, tuple) else known[int(given)],
            )


def _number(file: Stream) -> int:
    return whole(read_pickle(file, VALUES))


def _rows(value: object) -> list[tuple[Any, ...]]:
    if not isinstance(value, list):
        raise ValueError("a list is missing")
    return [_fields(row, 4) for row in value]


def _fields(value: object, number: int) -> tuple[Any, ...]:
    if not isinstance(value, tuple) or len(value) != number:
        raise ValueError(f"a tuple of {number} is missing")
    return value
