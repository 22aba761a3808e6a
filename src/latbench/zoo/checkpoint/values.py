"""Values in pickles of torch and numpy: tensors, arrays, scalars and containers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from latbench.zoo.checkpoint.inert_pickle import Build, Global, Opaque
from latbench.zoo.checkpoint.tensor import ITEM_BYTES, StoredTensor

if TYPE_CHECKING:
    import torch

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


@dataclass(frozen=True, kw_only=True)
class Storage:
    """The elements that tensors are views of."""

    key: object
    dtype: str
    elements: int
    read: Callable[[], bytes]


def in_memory(key: object, dtype: str, content: bytes) -> Storage:
    """A storage whose elements have been read."""
    return Storage(
        key=key, dtype=dtype, elements=len(content) // ITEM_BYTES[dtype], read=lambda: content
    )


def whole(value: object) -> int:
    """``value``, if it can be a size. Raises :class:`ValueError`."""
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} is not a number of elements")
    return value


def storage_type(named: object) -> str:
    """The element type of ``torch.FloatStorage`` and so on. Raises :class:`ValueError`."""
    kind = (
        named.name.rpartition(".")[2].removesuffix("Storage") if isinstance(named, Global) else ""
    )
    if kind not in STORAGES:
        raise ValueError(f"unknown kind of storage: {named}")
    return STORAGES[kind]


def tensor(
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
    sizes, steps, first = tuple(map(whole, shape)), tuple(map(whole, stride)), whole(offset)
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
                step *= max(whole(size), 1)
            storage = in_memory(id(array), dtype, content)
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


def _rebuilt(function: object, _: object, arguments: object, *__: object) -> object:
    """A tensor of a subclass, made by ``function``."""
    if isinstance(function, Global) and isinstance(arguments, tuple) and function.name in TENSORS:
        return TENSORS[function.name](*arguments)
    return Opaque(function.name if isinstance(function, Global) else "tensor")


TENSORS: Mapping[str, Build] = {
    "torch._utils._rebuild_tensor": tensor,
    "torch._utils._rebuild_tensor_v2": tensor,
    "torch._utils._rebuild_tensor_v3": _typed_tensor,
    "torch._utils._rebuild_parameter": lambda data, *_: data,
    "torch._utils._rebuild_parameter_with_state": lambda data, *_: data,
}
VALUES: Mapping[str, Build] = {
    **TENSORS,
    "torch._tensor._rebuild_from_type_v2": _rebuilt,
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
