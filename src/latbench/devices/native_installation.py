"""Installing the native worker on a device: one program, and the libraries of its runtimes."""

from __future__ import annotations

import platform
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from latbench.devices.connections import Connection, Installed
from latbench.devices.installation import Surroundings, look_around
from latbench.devices.transport import COMMAND_TIMEOUT_S, Transport
from latbench.devices.wheels import (
    Platform,
    digest_of,
    fetch_wheels,
    own_sha256,
    packages_of,
    with_versions,
)
from latbench.errors import StageError, UsageError, listed
from latbench.events import Warn
from latbench.files import content_sha256
from latbench.worker.native import PROGRAM, TARGETS, build_native, native_libraries

BACKENDS = ("onnxruntime", "tflite")
"""Those that the native worker has."""
OLDEST_GLIBC = (2, 28)
PYTHON = (3, 11)
"""Any version for which there are wheels: their libraries do not depend on it."""


def install_native_worker(
    connection: Connection, transport: Transport, backends: Sequence[str], warn: Warn
) -> Installed:
    """Build the native worker for the device and put it there with its libraries.

    What is there already is not sent again. Raises :class:`StageError` and :class:`UsageError`.
    """
    found = look_around(connection, transport)
    program = build_native(_target(connection, found, backends))
    root = PurePosixPath(found.home, connection.folder)
    with tempfile.TemporaryDirectory(prefix="latbench-native-") as temporary:
        folder = Path(temporary)
        there = Platform(
            system=found.system, architecture=found.architecture, python=PYTHON, libc=found.libc
        )
        for wheel in fetch_wheels(with_versions(packages_of(backends)), there, folder, alone=True):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(folder)
        libraries = native_libraries(folder)
        files = {PROGRAM: program}
        files |= {Path(each).name: Path(each) for each in libraries.values() if Path(each).exists()}
        sha256 = digest_of({name: content_sha256(path) for name, path in files.items()})
        place = root / "native" / sha256
        sent = 0
        for name, path in files.items():
            target = str(place / name)
            if transport.run(("test", "-e", target), timeout_s=COMMAND_TIMEOUT_S).status != 0:
                transport.push(path, target)
                sent += path.stat().st_size
        transport.run(("chmod", "700", str(place / PROGRAM)), timeout_s=COMMAND_TIMEOUT_S)
        if sent:
            warn(f"sent {sent / 1e6:.1f} MB to {connection.id}")
    return Installed(
        worker="native",
        sha256=sha256,
        latbench=own_sha256(),
        folder=str(root),
        backends=tuple(backends),
        variables={
            name: str(place / Path(value).name) if Path(value).name in files else value
            for name, value in libraries.items()
        },
    )


def _target(connection: Connection, found: Surroundings, backends: Sequence[str]) -> str | None:
    """What to compile for; ``None`` if this machine's compiler makes programs that run there."""
    if unknown := [each for each in backends if each not in BACKENDS]:
        raise UsageError(
            f"the native worker has no backend {listed(unknown)}",
            hint=f"it has {listed(BACKENDS)}; the Python worker has the others",
        )
    if not found.writable:
        raise StageError(
            "probe",
            f"{found.home}/{connection.folder} on {connection.id} cannot be written",
            hint="latbench devices add --folder names another folder below the home folder",
            kind="unavailable",
        )
    target = f"{found.architecture}-linux-gnu.2.28"
    if found.system != "Linux" or target not in TARGETS or (found.libc or (0, 0)) < OLDEST_GLIBC:
        libc = f"glibc {'.'.join(map(str, found.libc))}" if found.libc else "no glibc"
        raise StageError(
            "probe",
            f"the native worker does not run on {found.system} {found.architecture} with {libc}",
            hint="it needs Linux on x86-64 or aarch64, with glibc 2.28 or newer",
            kind="unavailable",
        )
    here = platform.libc_ver()[1].split(".")
    same = (platform.system(), platform.machine()) == (found.system, found.architecture)
    if same and here[0].isdecimal() and tuple(map(int, here)) <= (found.libc or ()):
        return None
    return target
