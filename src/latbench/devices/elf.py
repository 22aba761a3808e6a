"""What a program or library of Linux and Android says about itself (System V ABI, ELF-64)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

MACHINES = {3: "i686", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv64"}


@dataclass(frozen=True, kw_only=True)
class Elf:
    """A file of the format."""

    architecture: str
    """As ``uname -m`` names it; ``machine N`` for one that is not known here."""
    libc: Literal["glibc", "other"] | None
    """The C library that it names; ``None`` if it names none."""
    content: bytes
    whole: bool
    """Whether the file holds everything that its headers list: a copy may be cut."""

    def names(self, symbol: str) -> bool:
        """Whether a string of it is ``symbol``, as a function that it exports."""
        return b"\0" + symbol.encode() + b"\0" in self.content


def architecture_of(path: Path) -> str | None:
    """What a file was built for; ``None`` for one of another format. Raises :class:`OSError`."""
    found = read_elf(path)
    return found.architecture if found else None


def read_elf(path: Path) -> Elf | None:
    """Read a file; ``None`` if it is of another format. Raises :class:`OSError`."""
    content = path.read_bytes()
    if content[:4] != b"\x7fELF" or len(content) < 20:
        return None
    little = content[5] == 1
    machine = int.from_bytes(content[18:20], "little" if little else "big")
    libc: Literal["glibc", "other"] | None = None
    if b"\0libc.so.6\0" in content:
        libc = "glibc"
    elif b"\0libc.so\0" in content or b"\0libc.musl-" in content:
        libc = "other"
    return Elf(
        architecture=MACHINES.get(machine, f"machine {machine}"),
        libc=libc,
        content=content,
        whole=_is_whole(content, "<" if little else ">"),
    )


def _is_whole(content: bytes, order: str) -> bool:
    """Whether the segments, and the table of sections, are within the file; 64-bit files only."""
    if content[4] != 2:
        return True
    try:
        segments, sections = struct.unpack_from(f"{order}QQ", content, 32)
        sizes = struct.unpack_from(f"{order}HHHH", content, 54)
        ends = [int(sections) + int(sizes[2] * sizes[3])]
        for i in range(sizes[1]):
            at = segments + i * sizes[0]
            (offset,) = struct.unpack_from(f"{order}Q", content, at + 8)
            (size,) = struct.unpack_from(f"{order}Q", content, at + 32)
            ends.append(int(offset) + int(size))
    except struct.error:
        return False
    return max(ends) <= len(content)
