"""Files of the harness on a device, each under its digest."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from latbench.devices.transport import COMMAND_TIMEOUT_S, Transport
from latbench.files import content_sha256


def push_by_digest(transport: Transport, folder: str, path: Path) -> PurePosixPath:
    """Push what is not yet there of a file or folder; return its path on the device.

    ``folder`` is latbench's on the device. Raises :class:`StageError`.
    """
    target = PurePosixPath(folder, "artifacts", content_sha256(path), path.name)
    parts = sorted(each for each in path.rglob("*") if each.is_file()) or [path]
    for part in parts:
        place = str(target / part.relative_to(path))
        there = transport.run(("test", "-e", place), timeout_s=COMMAND_TIMEOUT_S)
        if there.status != 0:
            transport.push(part, place)
    return target
