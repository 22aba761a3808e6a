"""A FlatBuffer table reader that checks every offset before following it."""

from __future__ import annotations

import struct


class Table:
    """A FlatBuffer table. Fields are numbered and have defaults."""

    def __init__(self, content: bytes, at: int) -> None:
        self._content = content
        self._at = at
        self._fields = at - self._read("i", at)
        self._size = self._read("H", self._fields)

    @classmethod
    def root(cls, content: bytes) -> Table:
        return cls(content, struct.unpack_from("<I", content, 0)[0])

    def number(self, field: int, kind: str) -> int:
        """A number, 0 by default; ``kind`` is a format character of :mod:`struct`."""
        at = self._field(field)
        return 0 if at is None else self._read(kind, at)

    def numbers(self, field: int) -> tuple[int, ...]:
        """A vector of 32-bit integers."""
        start, length = self.place(field)
        self._reach(start, 4 * length)
        return struct.unpack_from(f"<{length}i", self._content, start)

    def text(self, field: int) -> str:
        start, length = self.place(field)
        self._reach(start, length)
        return self._content[start : start + length].decode(errors="replace")

    def length(self, field: int) -> int:
        """Length of a vector, which must lie within the file."""
        start, length = self.place(field)
        self._reach(start, length)
        return length

    def table(self, field: int) -> Table | None:
        at = self._field(field)
        return None if at is None else Table(self._content, at + self._read("I", at))

    def tables(self, field: int) -> list[Table]:
        """A vector of tables."""
        start, length = self.place(field)
        self._reach(start, 4 * length)
        places = range(start, start + 4 * length, 4)
        return [Table(self._content, at + self._read("I", at)) for at in places]

    def place(self, field: int) -> tuple[int, int]:
        """Where the elements of a vector start, and how many there are; zeros if it is absent."""
        at = self._field(field)
        if at is None:
            return 0, 0
        start = at + self._read("I", at)
        return start + 4, self._read("I", start)

    def _field(self, field: int) -> int | None:
        slot = 4 + 2 * field
        if slot + 2 > self._size:
            return None
        offset = self._read("H", self._fields + slot)
        return self._at + offset if offset else None

    def _read(self, kind: str, at: int) -> int:
        self._reach(at, struct.calcsize(kind))
        number: int = struct.unpack_from(f"<{kind}", self._content, at)[0]
        return number

    def _reach(self, at: int, size: int) -> None:
        if not 0 <= at <= at + size <= len(self._content):
            raise ValueError(f"truncated or damaged: byte {at + size} of {len(self._content)}")
