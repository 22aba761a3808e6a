"""Files of ``torch.save``, of every age, and plain pickles: which tensors and values they hold.

Since torch 1.6 a file is a zip archive of one pickle and the elements of each storage; before, it
was a chain of pickles with the elements behind them, and before 0.1.10 a tar archive.
"""

from __future__ import annotations

import io
import mmap
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from latbench.errors import UsageError
from latbench.zoo.checkpoint.inert_pickle import Build, Global, Opaque, Stream, read_pickle
from latbench.zoo.checkpoint.tensor import ITEM_BYTES, StoredTensor

if TYPE_CHECKING:
    import torch

MAGIC = 0x1950A86A20F9469CFC6C
"""The first value of the second format."""
STORAGES = {
    **{"Double": "float64", "Float": "float32", "Half": "float16", "BFloat16": "bfloat16"},
    **{"Long": "int64", "Int": "int32", "Short": "int16", "Char": "int8", "Byte": "uint8"},
    **{"Bool": "bool", "ComplexFloat": "complex64", "ComplexDouble": "complex128"},
    "Untyped": "uint8",
}
"""``torch.FloatStorage`` and so on: element types."""
NUMPY_TYPES = {
    **{"f8": "float64", "f4": "float32", "f2": "float16", "i8": "int64", "i4": "int32"},
    **{"i2": "int16", "i1": "int8", "u1": "uint8", "b1": "bool"},
}
ARRAY = "numpy.ndarray"
LARGE_BYTES = 16_000_000
MOST_COMPRESSED = 20
"""An archive's entry above :data:`LARGE_BYTES` that shrank by more than this is refused: torch does
not compress, and weights compress by 2 at most."""


@dataclass(frozen=True, kw_only=True)
class Storage:
    """The elements that tensors are views of."""

    key: object
    dtype: str
    elements: int
    read: Callable[[], bytes]


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
            return _read_tar(path)
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
        dtype = _storage_type(stored_as)
        name = f"{folder}data/{key}"
        if name not in names:
            raise ValueError(f"the archive has no {name}")

        return Storage(key=key, dtype=dtype, elements=_count(elements), read=lambda: content(name))

    return read_pickle(io.BytesIO(_entry(archive, pickles[0])), UNDERSTOOD, storage)


def _entry(archive: zipfile.ZipFile, name: str) -> bytes:
    entry = archive.getinfo(name)
    if entry.file_size > max(LARGE_BYTES, MOST_COMPRESSED * entry.compress_size):
        raise UsageError(
            f"{Path(str(archive.filename)).name}: its entry {name} has {entry.compress_size:,} "
            f"bytes and claims to unpack to {entry.file_size:,}",
            hint="weights do not compress that well; download or save the checkpoint again",
        )
    return archive.read(name)


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
    starts: dict[object, int] = {}
    types: dict[object, str] = {}

    def storage(identifier: Any) -> object:
        kind, *rest = identifier
        if kind in ("module", b"module"):
            return rest[0]
        stored_as, key, _, elements, view = (*rest, None)[:5]
        dtype = types.setdefault(key, _storage_type(stored_as))
        skip, elements = (view[1], view[2]) if view is not None else (0, elements)
        width = ITEM_BYTES[dtype]

        def read() -> bytes:
            return part(starts[key] + _count(skip) * width, _count(elements) * width)

        return Storage(key=(key, skip), dtype=dtype, elements=_count(elements), read=read)

    tree = read_pickle(content, UNDERSTOOD, storage)
    keys = read_pickle(content, UNDERSTOOD)
    if not isinstance(keys, list):
        raise ValueError("the list of storages is missing")
    for key in keys:
        (elements,) = struct.unpack("<q", content.read(8))
        starts[key] = content.tell()
        size = _count(elements) * ITEM_BYTES[types[key]]
        if starts[key] + size > length:
            raise ValueError("the file ends within a tensor")
        content.seek(starts[key] + size)
    if missing := set(types) - set(starts):
        raise ValueError(f"{len(missing)} storages are missing")
    return tree


def _read_tar(path: Path) -> object:
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
                key, _, stored_as = _fields(read_pickle(file, UNDERSTOOD), 3)
                dtype = _storage_type(stored_as)
                (elements,) = struct.unpack("<q", file.read(8))
                content = file.read(_count(elements) * ITEM_BYTES[dtype])
                known[key] = _in_memory(key, dtype, content)
            for target, root, offset, elements in _rows(read_pickle(file, UNDERSTOOD)):
                whole, width = known[root], ITEM_BYTES[known[root].dtype]
                part = whole.read()[offset * width : (offset + elements) * width]
                known[target] = _in_memory(target, whole.dtype, part)
        with member("tensors") as file:
            for _ in range(_number(file)):
                key, root, _ = _fields(read_pickle(file, UNDERSTOOD), 3)
                (axes,) = struct.unpack("<i4x", file.read(8))
                shape = struct.unpack(f"<{axes}q", file.read(8 * axes))
                stride = struct.unpack(f"<{axes}q", file.read(8 * axes))
                (offset,) = struct.unpack("<q", file.read(8))
                known[key] = _tensor(known[root], offset, shape, stride)
        with member("pickle") as file:
            return read_pickle(
                file,
                UNDERSTOOD,
                lambda given: given[0] if isinstance(given, tuple) else known[int(given)],
            )


def _in_memory(key: object, dtype: str, content: bytes) -> Storage:
    return Storage(
        key=key, dtype=dtype, elements=len(content) // ITEM_BYTES[dtype], read=lambda: content
    )


def _number(file: Stream) -> int:
    return _count(read_pickle(file, UNDERSTOOD))


def _rows(value: object) -> list[tuple[Any, ...]]:
    if not isinstance(value, list):
        raise ValueError("a list is missing")
    return [_fields(row, 4) for row in value]


def _fields(value: object, number: int) -> tuple[Any, ...]:
    if not isinstance(value, tuple) or len(value) != number:
        raise ValueError(f"a tuple of {number} is missing")
    return value


def _count(value: object) -> int:
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} is not a number of elements")
    return value


def _storage_type(named: object) -> str:
    kind = (
        named.name.rpartition(".")[2].removesuffix("Storage") if isinstance(named, Global) else ""
    )
    if kind not in STORAGES:
        raise ValueError(f"unknown kind of storage: {named}")
    return STORAGES[kind]


def _tensor(
    storage: object, offset: object, shape: object, stride: object, *_: object
) -> StoredTensor:
    """A view of a storage, which must hold all its elements."""
    if not isinstance(storage, Storage):
        raise ValueError("a tensor has no storage")
    return _view(storage, storage.dtype, offset, shape, stride)


def _typed_tensor(
    storage: object,
    offset: object,
    shape: object,
    stride: object,
    _: object,
    __: object,
    dtype: object,
    *___: object,
) -> StoredTensor:
    """A tensor whose storage is bytes."""
    name = dtype.name.removeprefix("torch.") if isinstance(dtype, Global) else ""
    if not isinstance(storage, Storage) or name not in ITEM_BYTES:
        raise ValueError(f"a tensor of an unknown type: {dtype}")
    return _view(storage, name, offset, shape, stride)


def _view(
    storage: Storage, dtype: str, offset: object, shape: object, stride: object
) -> StoredTensor:
    if not isinstance(shape, tuple) or not isinstance(stride, tuple) or len(shape) != len(stride):
        raise ValueError("a tensor has no shape")
    sizes, steps, first = tuple(map(_count, shape)), tuple(map(_count, stride)), _count(offset)
    width = ITEM_BYTES[dtype]
    held = storage.elements * ITEM_BYTES[storage.dtype] // width
    last = first + sum((size - 1) * step for size, step in zip(sizes, steps, strict=True))
    if 0 not in sizes and last >= held:
        raise ValueError("a tensor is larger than its storage")

    def load() -> torch.Tensor:
        import torch

        content = storage.read()
        if len(content) < held * width:
            raise ValueError("the elements of a tensor are cut off")
        if 0 in sizes:
            return torch.empty(sizes, dtype=getattr(torch, dtype))
        flat = torch.frombuffer(bytearray(content), dtype=getattr(torch, dtype))
        return flat.as_strided(sizes, steps, first).contiguous()

    place = (storage.key, dtype, first, sizes, steps)
    return StoredTensor(dtype=dtype, shape=sizes, place=place, load=load)


def array_tensor(array: Opaque) -> StoredTensor | None:
    """A numpy array as a tensor; ``None`` for other objects and for other element types."""
    if array.name != ARRAY:
        return None
    match array.state:
        case (
            _,
            tuple(shape),
            Opaque(arguments=(str(kind), *_), state=order),
            False,
            bytes(content),
        ):
            dtype = NUMPY_TYPES.get(kind)
            if dtype is None or (isinstance(order, tuple) and ">" in order):
                return None
            steps, step = [], 1
            for size in reversed(shape):
                steps.append(step)
                step *= max(_count(size), 1)
            storage = _in_memory(id(array), dtype, content)
            return _view(storage, dtype, 0, shape, tuple(reversed(steps)))
    return None


def _numpy_type(kind: Opaque) -> str | None:
    """The element type of a pickled ``numpy.dtype``; ``None`` for others than plain numbers."""
    match kind:
        case Opaque(name="numpy.dtype", arguments=(str(name), *_), state=(_, str(order), *_)):
            return NUMPY_TYPES.get(name) if order != ">" else None
    return None


def _scalar(kind: object, content: object = b"", *_: object) -> object:
    """A numpy scalar as a Python number."""
    dtype = _numpy_type(kind) if isinstance(kind, Opaque) else None
    if dtype is None or not isinstance(content, bytes):
        return Opaque("numpy scalar")
    import numpy as np

    return np.frombuffer(content, dtype, count=1)[0].item()


def _encode(text: object, encoding: object = "", *_: object) -> object:
    """How protocol 2 writes bytes."""
    return text.encode("latin-1") if isinstance(text, str) and encoding == "latin1" else b""


def _nested(content: object, *_: object) -> object:
    """A storage that was pickled without ``torch.save``: a file of the second format in itself."""
    if not isinstance(content, bytes):
        raise ValueError("a storage has no content")
    return _read_chain(io.BytesIO(content), len(content), lambda at, size: content[at : at + size])


def _rebuilt(function: object, _: object, arguments: object, *__: object) -> object:
    """A tensor of a subclass, made by ``function``."""
    if isinstance(function, Global) and isinstance(arguments, tuple) and function.name in TENSORS:
        return TENSORS[function.name](*arguments)
    return Opaque(function.name if isinstance(function, Global) else "tensor")


TENSORS: Mapping[str, Build] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _typed_tensor,
    "torch._utils._rebuild_parameter": lambda data, *_: data,
    "torch._utils._rebuild_parameter_with_state": lambda data, *_: data,
}
UNDERSTOOD: Mapping[str, Build] = {
    **TENSORS,
    "torch._tensor._rebuild_from_type_v2": _rebuilt,
    "torch.storage._load_from_bytes": _nested,
    "torch.Size": lambda sizes=(), *_: tuple(sizes),
    "collections.OrderedDict": lambda pairs=(), *_: dict(pairs),
    "collections.defaultdict": lambda *_: {},
    **dict.fromkeys(("builtins.set", "__builtin__.set"), lambda values=(), *_: set(values)),
    **dict.fromkeys(
        ("builtins.frozenset", "__builtin__.frozenset"), lambda values=(), *_: frozenset(values)
    ),
    "_codecs.encode": _encode,
    **dict.fromkeys(
        ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"),
        lambda *_: Opaque(ARRAY),
    ),
    **dict.fromkeys(("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"), _scalar),
}
"""What is understood: functions of this module, by the names that pickles use."""
