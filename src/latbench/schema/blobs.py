"""Pack integer series for the registry."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Any

import msgspec

from latbench.errors import LatbenchError

BLOB_VERSION = 1


HEADER_BYTES = 10


WIDTHS = {4: "I", 8: "Q"}


def pack_ns(values: Sequence[int]) -> bytes:
    """Pack nanoseconds into a compressed blob.

    Header: version, bytes per value (4 where all values fit, else 8), count as unsigned 64-bit
    little-endian. Then the values, little-endian, the first bytes of all, then the second bytes and
    so on (which zlib packs 15 % tighter than one value after the other), through zlib.
    Raise :class:`ValueError` for a value below 0 or from 2**64.
    """
    width = 4 if max(values, default=0) < 2**32 else 8
    try:
        plain = struct.pack(f"<{len(values)}{WIDTHS[width]}", *values)
    except struct.error as error:
        raise ValueError(f"a time does not fit into 64 bits: {error}") from error
    shuffled = b"".join(plain[i::width] for i in range(width))
    return (
        bytes((BLOB_VERSION, width)) + len(values).to_bytes(8, "little") + zlib.compress(shuffled)
    )


def unpack_ns(blob: bytes) -> tuple[int, ...]:
    """Unpack a blob of :func:`pack_ns`. Raise :class:`LatbenchError` for anything else."""
    if len(blob) < HEADER_BYTES or blob[0] != BLOB_VERSION or blob[1] not in WIDTHS:
        raise _damaged("its header is unknown")
    width, count = blob[1], int.from_bytes(blob[2:HEADER_BYTES], "little")
    size = count * width
    # The header limits the unpacked size; zlib's compression ratio never exceeds about 1032 : 1.
    if size > (len(blob) + 64) * 1100:
        raise _damaged("its count is larger than its bytes can hold")
    unpacker = zlib.decompressobj()
    try:
        shuffled = unpacker.decompress(blob[HEADER_BYTES:], size + 1)
    except zlib.error as error:
        raise _damaged(str(error)) from error
    if len(shuffled) != size or not unpacker.eof or unpacker.unused_data:
        raise _damaged("its length does not match its header")
    plain = bytearray(size)
    for i in range(width):
        plain[i::width] = shuffled[i * count : (i + 1) * count]
    return struct.unpack(f"<{count}{WIDTHS[width]}", plain)


def pack_json(value: object) -> bytes:
    """Pack a value as compressed JSON: the length as unsigned 64-bit little-endian, then zlib."""
    plain = msgspec.json.encode(value)
    return len(plain).to_bytes(8, "little") + zlib.compress(plain)


def unpack_json(blob: bytes) -> Any:
    """Unpack a blob of :func:`pack_json`. Raise :class:`LatbenchError` for anything else."""
    size = int.from_bytes(blob[:8], "little")
    if len(blob) < 8 or size > (len(blob) + 64) * 1100:
        raise _damaged("its length is larger than its bytes can hold")
    unpacker = zlib.decompressobj()
    try:
        plain = unpacker.decompress(blob[8:], size + 1)
        if len(plain) != size or not unpacker.eof:
            raise _damaged("its length does not match its header")
        return msgspec.json.decode(plain)
    except (zlib.error, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _damaged(str(error)) from error


def _damaged(why: str) -> LatbenchError:
    return LatbenchError(
        f"a blob of samples is damaged: {why}", hint="restore the registry from a copy"
    )
