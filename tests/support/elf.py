"""Files that look like libraries of Linux and Android."""

from __future__ import annotations

from latbench.devices.elf import MACHINES


def elf(architecture: str, content: bytes = b"", *names: str) -> bytes:
    """A header for ``architecture`` (little-endian, 64 bits), ``content``, and ``names``."""
    machine = {name: number for number, name in MACHINES.items()}[architecture]
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + (3).to_bytes(2, "little")
    strings = b"\0".join(each.encode() for each in names)
    return header + machine.to_bytes(2, "little") + bytes(44) + content + b"\0" + strings + b"\0"
