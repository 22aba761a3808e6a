"""Installing the native worker on a device: one program, and the libraries of its runtimes."""

from __future__ import annotations

import os
import platform
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from latbench.devices.connections import Connection, Installed
from latbench.devices.glibc import LOADERS, OLDEST_GLIBC, glibc_bundle
from latbench.devices.installation import SPARE_BYTES, Surroundings, look_around
from latbench.devices.runtime_libraries import ABIS, NamedLibrary, runtime_files
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
from latbench.schema.environment import Level
from latbench.worker.native import ANDROID_API, PROGRAM, build_native, native_libraries

BACKENDS = ("onnxruntime", "tflite")
"""Those that the native worker has."""
PYTHON = (3, 11)
"""Any version for which there are wheels: their libraries do not depend on it."""


@dataclass(frozen=True, kw_only=True)
class NativeOptions:
    """What the user chooses for the native worker."""

    ndk: Path | None = None
    """Folder of Android's NDK, to compile for the C library of Android."""
    glibc: tuple[Path, ...] = ()
    """Packages and folders with the libraries of the glibc bundle; none downloads them."""
    libraries: tuple[NamedLibrary, ...] = ()
    """Libraries of runtimes, in place of those in PyPI's packages."""


@dataclass(frozen=True, kw_only=True)
class _Ground:
    """The program, and what it stands on."""

    level: Level | None
    program: Path
    libc: tuple[int, int] | None
    """Version of glibc; ``None`` for Android's C library."""
    loader: str | None = None
    files: Mapping[str, Path] = field(default_factory=dict)


def install_native_worker(
    connection: Connection,
    transport: Transport,
    backends: Sequence[str],
    options: NativeOptions,
    warn: Warn,
) -> Installed:
    """Build the native worker for the device and put it there with its libraries.

    What is there already is not sent again. Raises :class:`StageError` and :class:`UsageError`.
    """
    found = look_around(connection, transport)
    _check(connection, found, backends)
    root = PurePosixPath(found.home, connection.folder)
    with tempfile.TemporaryDirectory(prefix="latbench-native-") as temporary:
        folder = Path(temporary)
        ground = _ground(connection, found, options, folder, warn)
        libraries, variables = _runtimes(found, backends, ground, options, folder)
        files = {PROGRAM: ground.program, **ground.files, **libraries}
        sha256 = digest_of({name: content_sha256(path) for name, path in files.items()})
        place = root / "native" / sha256
        _send(connection, transport, found, files, place, warn)
    programs = [str(place / name) for name in (PROGRAM, ground.loader) if name is not None]
    transport.run(("chmod", "700", *programs), timeout_s=COMMAND_TIMEOUT_S)
    if ground.level == "ndk":
        # Android's loader does not look beside a library for those that it needs.
        variables = {**variables, "LD_LIBRARY_PATH": str(place)}
    return Installed(
        worker="native",
        sha256=sha256,
        latbench=own_sha256(),
        folder=str(root),
        backends=tuple(backends),
        variables={
            name: str(place / value) if value in files else value
            for name, value in variables.items()
        },
        level=ground.level,
        loader=None if ground.loader is None else str(place / ground.loader),
    )


def _check(connection: Connection, found: Surroundings, backends: Sequence[str]) -> None:
    """Refuse what no level can serve. Raises :class:`StageError` and :class:`UsageError`."""
    if unknown := [each for each in backends if each not in BACKENDS]:
        raise UsageError(
            f"the native worker has no backend {listed(unknown)}",
            hint=f"it has {listed(BACKENDS)}; the Python worker has the others",
        )
    if not found.writable:
        raise _unfit(
            f"{found.home}/{connection.folder} on {connection.id} cannot be written",
            "latbench devices add --folder names another folder below the home folder",
        )
    runs = "the native worker runs on Linux and Android with 64-bit programs on x86-64 or aarch64"
    if found.system != "Linux" or found.architecture not in LOADERS:
        raise _unfit(f"{connection.id} is {found.system} {found.architecture}", runs)
    abi = ABIS[found.architecture]
    if found.abis and abi not in found.abis:
        raise _unfit(
            f"{connection.id} executes 32-bit programs only: {listed(found.abis)}, not {abi}", runs
        )
    if found.bits == 32:
        raise _unfit(
            f"{connection.id} has a 32-bit system, though its processor is {found.architecture}",
            runs,
        )


def _ground(
    connection: Connection,
    found: Surroundings,
    options: NativeOptions,
    folder: Path,
    warn: Warn,
) -> _Ground:
    if options.ndk is not None:
        if options.glibc:
            raise UsageError("--ndk and --glibc exclude each other", hint="choose one level")
        if found.android is None:
            raise UsageError(
                f"--ndk is for Android, and {connection.id} does not say that it is",
                hint="without --ndk the worker runs on glibc",
            )
        if found.android < ANDROID_API:
            raise _unfit(
                f"{connection.id} has Android's API level {found.android}, the worker is compiled "
                f"for {ANDROID_API}",
                "without --ndk the worker runs on a glibc bundle",
            )
        target = f"{found.architecture}-linux-android{ANDROID_API}"
        return _Ground(level="ndk", program=build_native(target, ndk=options.ndk), libc=None)
    if found.libc is not None and found.libc >= OLDEST_GLIBC and not options.glibc:
        return _Ground(level=None, program=_program(found, found.libc), libc=found.libc)
    bundle = glibc_bundle(found.architecture, options.glibc, folder, warn)
    return _Ground(
        level="glibc bundle",
        program=_program(found, bundle.version),
        libc=bundle.version,
        loader=bundle.loader,
        files=bundle.files,
    )


def _program(found: Surroundings, libc: tuple[int, int]) -> Path:
    """The program for a glibc, by this machine's compiler if what that makes runs there."""
    here = platform.libc_ver()[1].split(".")
    same = (platform.system(), platform.machine()) == (found.system, found.architecture)
    if same and here[0].isdecimal() and tuple(map(int, here)) <= libc:
        return build_native()
    return build_native(f"{found.architecture}-linux-gnu.2.28")


def _runtimes(
    found: Surroundings,
    backends: Sequence[str],
    ground: _Ground,
    options: NativeOptions,
    folder: Path,
) -> tuple[dict[str, Path], dict[str, str]]:
    """The libraries of the backends by name, and the variables that name them."""
    if surplus := [each.backend for each in options.libraries if each.backend not in backends]:
        raise UsageError(
            f"a library of {listed(surplus)} is named, which is not to be installed",
            hint=f"--backend {surplus[0]}",
        )
    named = {each.backend for each in options.libraries}
    rest = [each for each in backends if each not in named]
    files, variables = runtime_files(
        options.libraries,
        found.architecture,
        "other" if ground.libc is None else "glibc",
        folder,
    )
    if not rest:
        return files, variables
    if ground.libc is None:
        raise UsageError(
            f"the library of {rest[0]} for Android comes from you",
            hint=f"--library {rest[0]}=PATH.aar or PATH.so, such as onnxruntime-android-1.32.0.aar",
        )
    there = Platform(
        system=found.system, architecture=found.architecture, python=PYTHON, libc=ground.libc
    )
    unpacked = folder / "wheels"
    unpacked.mkdir()
    for wheel in fetch_wheels(with_versions(packages_of(rest)), there, unpacked, alone=True):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(unpacked)
    for name, value in native_libraries(unpacked).items():
        path = Path(value)
        if path.is_absolute():
            files[path.name] = path
        variables.setdefault(name, path.name)
    return files, variables


def _send(
    connection: Connection,
    transport: Transport,
    found: Surroundings,
    files: Mapping[str, Path],
    place: PurePosixPath,
    warn: Warn,
) -> None:
    """Send the files that are not there yet. Raises :class:`StageError` without the room."""
    listing = transport.run(("ls", str(place)), timeout_s=COMMAND_TIMEOUT_S)
    there = set(listing.stdout.decode(errors="replace").split())
    missing = {name: path for name, path in files.items() if name not in there}
    needed = sum(path.stat().st_size for path in missing.values())
    if found.free_bytes is not None and missing and found.free_bytes < needed + SPARE_BYTES:
        raise _unfit(
            f"{connection.id} has {found.free_bytes / 1e6:.0f} MB free, the worker needs "
            f"{(needed + SPARE_BYTES) / 1e6:.0f} MB",
            "free space there, or install fewer backends: --backend onnxruntime",
        )
    for name, path in missing.items():
        transport.push(path, str(place / name))
    if missing:
        warn(f"sent {needed / 1e6:.1f} MB to {connection.id}")


def _unfit(message: str, hint: str) -> StageError:
    return StageError("probe", message, hint=hint, kind="unavailable")


def ndk_folder(named: str) -> Path:
    """The folder of the NDK: ``named``, or where the environment says. Raises UsageError."""
    for place in (named, os.environ.get("ANDROID_NDK_HOME"), os.environ.get("ANDROID_NDK_ROOT")):
        if place:
            return Path(place)
    raise UsageError(
        "--ndk names no folder, and ANDROID_NDK_HOME is not set",
        hint="--ndk PATH, such as ~/Android/Sdk/ndk/27.2.12479018",
    )
