"""Tensors that an ONNX file keeps in other files.

Below the size limit of an ONNX file, :func:`load` reads them in. Above it they stay outside, and
the artifact is a folder of two files, :data:`GRAPH` and :data:`DATA`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from latbench.api import StageError
from latbench_exporters.onnx.walk import graphs

if TYPE_CHECKING:
    import onnx

LIMIT_BYTES = 2**31 - 1
"""Size limit of a protobuf message, thus of an ONNX file."""
GRAPH, DATA = "model.onnx", "model.data"
LARGE_BYTES = 2**27
"""A larger model is written in parts, because writing it at once takes three times its size."""
SMALL_BYTES = 4096
"""Tensors up to this size are always read in: shapes may be computed from them."""
ALIGNMENT_BYTES = 2**16
"""ONNX Runtime maps tensors into memory at multiples of this on every system."""
CHUNK_BYTES = 2**24


class Located(NamedTuple):
    """Where the bytes of an external tensor are."""

    path: Path
    offset: int
    length: int


def main_file(path: Path) -> Path:
    """The ONNX file itself, which for a model over the size limit is in a folder."""
    return path / GRAPH if path.is_dir() else path


def load(model: onnx.ModelProto, path: Path) -> None:
    """Read the external tensors of the file at ``path`` into ``model``.

    If they exceed the limit of a file, only the small ones; the others get absolute locations.
    Raises :class:`StageError` if data are missing, incomplete or outside of the model's folder.
    """
    import onnx

    found = [(tensor, _located(tensor, path)) for tensor in external(model)]
    if not found:
        return
    whole = message_bytes(model) + sum(where.length for _, where in found)
    most = SMALL_BYTES if whole > LIMIT_BYTES else LIMIT_BYTES
    for tensor, where in found:
        if where.length <= most:
            with where.path.open("rb") as file:
                file.seek(where.offset)
                tensor.raw_data = file.read(where.length)
            tensor.data_location = onnx.TensorProto.DEFAULT
            del tensor.external_data[:]
        else:
            _point(tensor, where._replace(path=where.path.absolute()))


def move(model: onnx.ModelProto, folder: Path) -> None:
    """Copy the tensors that :func:`load` left outside to ``folder``, and point ``model`` there."""
    with (folder / DATA).open("wb") as data:
        for tensor in external(model):
            source = _entries(tensor)
            length = int(source["length"])
            data.seek(-(-data.tell() // ALIGNMENT_BYTES) * ALIGNMENT_BYTES)
            start = data.tell()
            with Path(source["location"]).open("rb") as file:
                file.seek(int(source["offset"]))
                _copy(file, data, length)
            _point(tensor, Located(Path(DATA), start, length))


def external(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """All tensors whose data are in other files."""
    import onnx

    for graph in graphs(model.graph):
        held = [*graph.initializer, *(part.values for part in graph.sparse_initializer)]
        for attribute in (a for node in graph.node for a in node.attribute):
            held += [attribute.t, *attribute.tensors] if attribute.HasField("t") else []
        yield from (t for t in held if t.data_location == onnx.TensorProto.EXTERNAL)


def message_bytes(model: onnx.ModelProto) -> int:
    """Size of the model as one message, without external data.

    ``ByteSize`` of the whole would serialize the weights to count them.
    """
    import onnx

    light, weights = _frame(model), 0
    for tensor in model.graph.initializer:
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            weights += size_bytes(tensor) + len(tensor.name) + 32
    return int(light.ByteSize()) + weights


def write_message(model: onnx.ModelProto, path: Path) -> None:
    """Write the model as one message, without a copy of all weights in memory.

    The parts of a message may follow each other: a reader adds them up.
    """
    import onnx

    with path.open("wb") as file:
        file.write(_frame(model).SerializeToString(deterministic=True))
        for tensor in model.graph.initializer:
            part = onnx.ModelProto()
            part.graph.initializer.append(tensor)
            file.write(part.SerializeToString(deterministic=True))


def _frame(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the model without its initializers."""
    import onnx

    frame = onnx.ModelProto()
    for field, value in model.ListFields():
        if field.name == "graph":
            for inner, content in value.ListFields():
                if inner.name != "initializer":
                    _copy_field(frame.graph, inner, content)
        else:
            _copy_field(frame, field, value)
    return frame


def _copy_field(to: Any, field: Any, value: Any) -> None:
    if field.message_type is None and not hasattr(value, "extend"):
        setattr(to, field.name, value)
    elif hasattr(value, "extend"):
        getattr(to, field.name).extend(value)
    else:
        getattr(to, field.name).CopyFrom(value)


def size_bytes(tensor: onnx.TensorProto) -> int:
    """Size of the tensor's elements; two or four elements of less than 8 bits share a byte.

    Raises :class:`StageError` for an element type that this version of ONNX does not know.
    """
    elements: int = math.prod(tensor.dims)
    return -(-elements * _bits(tensor) // 8)


def _bits(tensor: onnx.TensorProto) -> int:
    import onnx

    kind = tensor.data_type
    if kind not in onnx.TensorProto.DataType.values():
        raise StageError(
            "export",
            f"tensor {tensor.name!r} has the element type {kind}, which onnx "
            f"{onnx.__version__} does not know",
            hint="upgrade onnx and onnxruntime, or export the file for an older version",
        )
    name = onnx.TensorProto.DataType.Name(kind)
    if name in ("INT2", "UINT2"):
        return 2
    if name in ("INT4", "UINT4", "FLOAT4E2M1"):
        return 4
    return 8 * int(onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize)


def _located(tensor: onnx.TensorProto, path: Path) -> Located:
    """Where the data are. Links may lead out of their folder, as in the cache of Hugging Face, as
    long as they stay below the folder that the model itself is in."""
    entries = _entries(tensor)
    location, missing = entries.get("location", ""), f"{path.name} keeps tensors in"
    at = path.parent / location
    homes = (path.parent.resolve(), path.resolve().parent)
    escapes = PurePath(location).is_absolute() or ".." in PurePath(location).parts
    if escapes or not any(at.resolve().is_relative_to(home) for home in homes):
        raise StageError(
            "export",
            f"{missing} {location}, which is outside of its folder; a model may read only files "
            "beside it",
            hint="copy that file into the folder of the model, and name it in the model so",
        )
    if not location or not at.is_file():
        beside = path.resolve().parent / location
        raise StageError(
            "export",
            f"{missing} {location or 'a file without a name'}, which is missing",
            hint=f"give the model as {path.resolve()}, where the file is"
            if location and beside.is_file()
            else f"copy or download it too, into {path.parent}",
        )
    offset = int(entries.get("offset") or 0)
    length = int(entries.get("length") or 0) or size_bytes(tensor)
    if offset + length > at.stat().st_size:
        raise StageError(
            "export",
            f"{location} ends before the data of tensor {tensor.name!r}: it has "
            f"{at.stat().st_size} bytes, and {offset + length} are needed",
            hint="truncated, or of another version of the model: download it again",
        )
    return Located(at, offset, length)


def _entries(tensor: onnx.TensorProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


def _point(tensor: onnx.TensorProto, where: Located) -> None:
    del tensor.external_data[:]
    for key, value in (
        ("location", where.path.as_posix()),
        ("offset", str(where.offset)),
        ("length", str(where.length)),
    ):
        tensor.external_data.add(key=key, value=value)


def _copy(source: BinaryIO, target: BinaryIO, length: int) -> None:
    while length:
        chunk = source.read(min(length, CHUNK_BYTES))
        if not chunk:
            raise StageError("export", "a file of tensors became shorter while it was read")
        target.write(chunk)
        length -= len(chunk)
