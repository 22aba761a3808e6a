"""Files of ``torch.save``, of every age, and plain pickles: which tensors and values they hold.

Since torch 1.6 a file is a zip archive of one pickle and the elements of each storage; before, it
was a chain of pickles with the elements behind them, and before 0.1.10 a tar archive.
"""

from __future__ import annotations

import io
import mmap
import struct
import zipfile
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latbench.errors import UsageError
from latbench.zoo.checkpoint.inert_pickle import Build, Stream, read_pickle
from latbench.zoo.checkpoint.tar_file import read_tar
from latbench.zoo.checkpoint.tensor import ITEM_BYTES
from latbench.zoo.checkpoint.values import VALUES, Storage, storage_type, whole

if TYPE_CHECKING:
    pass

MAGIC = 0x1950A86A20F9469CFC6C
"""The first value of the second format."""
LARGE_BYTES = 16_000_000
MOST_COMPRESSED = 20
"""An archive's entry above :data:`LARGE_BYTES` that shrank by more than this is refused: torch does
not compress, and weights compress by 2 at most."""


def read_torch_file(path: Path) -> object:
    """What the file holds: dictionaries, lists and scalars, :class:`StoredTensor` for each tensor,
    and :class:`Opaque` for each object of an unknown class.

    Raises :class:`UsageError` for a program, and a built-in exception, ``BadZipFile`` or
    ``TarError`` for a damaged file.
    """
    if is_program(path):
        raise UsageError(
            f"{path.name} is a TorchScript program, not a file of weights",
            hint="save the state_dict alone, best as .safetensors",
        )
    if zipfile.is_zipfile(path):
        return read_archive(path)
    with path.open("rb") as file:
        if file.read(4) == b"PK\x03\x04":
            raise zipfile.BadZipFile("the archive is cut off")
        file.seek(257)
        if file.read(5) == b"ustar":
            return read_tar(path)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _read_chain(content, len(content), lambda at, size: _part(path, at, size))


def is_program(path: Path) -> bool:
    """Whether the file is a TorchScript program, whose archive holds code."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    return any("/code/" in name or name.endswith("constants.pkl") for name in names)


def read_archive(path: Path) -> object:
    """What a zip archive of torch holds, a program's tensors included. Raises as
    :func:`read_torch_file`."""
    # Open as long as tensors are read: finding its entries takes time.
    archive = zipfile.ZipFile(path)
    names = set(archive.namelist())
    pickles = [name for name in names if name.split("/")[1:] == ["data.pkl"]]
    if len(pickles) != 1:
        raise UsageError(
            f"{path.name} is a zip archive without a checkpoint of torch.save in it",
            hint="if it is a packed checkpoint, unpack it first",
        )
    folder = pickles[0].removesuffix("data.pkl")
    order = f"{folder}byteorder"
    if order in names and _entry(archive, order) == b"big":
        raise UsageError(
            f"{path.name} was written on a big-endian machine",
            hint="load it there and save it as .safetensors",
        )

    @lru_cache(maxsize=1)
    def content(name: str) -> bytes:
        """The elements of a storage, once for neighboring tensors that share it."""
        return _entry(archive, name)

    def storage(identifier: Any) -> object:
        kind, *rest = identifier
        if kind == "module":
            return rest[0]
        stored_as, key, _, elements = rest[:4]
        dtype = storage_type(stored_as)
        name = f"{folder}data/{key}"
        if name not in names:
            raise ValueError(f"the archive has no {name}")

        return Storage(key=key, dtype=dtype, elements=whole(elements), read=lambda: content(name))

    return read_pickle(io.BytesIO(_entry(archive, pickles[0])), UNDERSTOOD, storage)


def _entry(archive: zipfile.ZipFile, name: str) -> bytes:
    entry = archive.getinfo(name)
    if entry.file_size > max(LARGE_BYTES, MOST_COMPRESSED * entry.compress_size):
        raise UsageError(
            f"{Path(str(archive.filename)).name}: its entry {name} has {entry.compress_size:,} "
            f"bytes and claims to unpack to {entry.file_size:,}",
            hint="weights do not compress that well; download or save the checkpoint again",
        )
    # Without a limit zipfile unpacks up to 2 GiB before it looks at the stated size.
    with archive.open(entry) as stream:
        content = stream.read(entry.file_size + 1)
    if len(content) != entry.file_size:
        raise zipfile.BadZipFile(f"{name} is cut off")
    return content


def _part(path: Path, start: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(size)


def _read_chain(content: Stream, length: int, part: Callable[[int, int], bytes]) -> object:
    """A chain of pickles of ``length`` bytes; ``part`` reads so many bytes from a position."""
    first = read_pickle(content, UNDERSTOOD)
    if first != MAGIC:
        return first
    read_pickle(content, UNDERSTOOD)  # version
    read_pickle(content, UNDERSTOOD)  # byte order and sizes of the machine
    file = object()  # files in a file may number their storages alike
    starts: dict[object, int] = {}
    types: dict[object, str] = {}

    def storage(identifier: Any) -> object:
        kind, *rest = identifier
        if kind in ("module", b"module"):
            return rest[0]
        stored_as, key, _, elements, view = (*rest, None)[:5]
        dtype = types.setdefault(key, storage_type(stored_as))
        skip, elements = (view[1], view[2]) if view is not None else (0, elements)
        width = ITEM_BYTES[dtype]

        def read() -> bytes:
            return part(starts[key] + whole(skip) * width, whole(elements) * width)

        return Storage(key=(file, key, skip), dtype=dtype, elements=whole(elements), read=read)

    tree = read_pickle(content, UNDERSTOOD, storage)
    keys = read_pickle(content, UNDERSTOOD)
    if not isinstance(keys, list):
        raise ValueError("the list of storages is missing")
    for key in keys:
        (elements,) = struct.unpack("<q", content.read(8))
        starts[key] = content.tell()
        size = whole(elements) * ITEM_BYTES[types[key]]
        if starts[key] + size > length:
            raise ValueError("the file ends within a tensor")
        content.seek(starts[key] + size)
    if missing := set(types) - set(starts):
        raise ValueError(f"{len(missing)} storages are missing")
    return tree


def _nested(content: object, *_: object) -> object:
    """A storage that was pickled without ``torch.save``: a file of the second format in itself."""
    if not isinstance(content, bytes):
        raise ValueError("a storage has no content")
    return _read_chain(io.BytesIO(content), len(content), lambda at, size: content[at : at + size])


UNDERSTOOD: Mapping[str, Build] = {**VALUES, "torch.storage._load_from_bytes": _nested}
"""What is understood: functions of this program, by the names that pickles use."""
