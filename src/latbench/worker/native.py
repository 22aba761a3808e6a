"""Build the native worker, and find the libraries that it loads.

The program and what it does are described in ``docs/devices/native-worker.md``. Its sources are
part of the package; a binary is kept in the cache folder, named by everything that it depends on.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import Distribution, PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from latbench.errors import StageError, UsageError, first_line, listed
from latbench.files import exclusive, write_beside
from latbench.paths import cache_folder
from latbench.version import latbench_version

_PACKAGED = Path(__file__).parent / "native_worker"
SOURCES = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).parents[3] / "runners/native-worker"
"""The folder of the sources: in the installed package, or in a checkout."""
PROGRAM = "latbench-native"
TARGETS = ("x86_64-linux-gnu.2.28", "aarch64-linux-gnu.2.28")
"""Targets of cross-compilation: processor, system, and the oldest glibc that the program runs on,
which is that of the runtimes' packages."""
ANDROID_API = 29
"""The oldest API level of Android for which the program is compiled, that of Android 10."""
ANDROID_TARGETS = tuple(f"{each}-linux-android{ANDROID_API}" for each in ("aarch64", "x86_64"))
"""Targets of compilation by Android's NDK."""
ANDROID_LINKED = ("-Wl,-z,max-page-size=16384",)
"""Phones may have pages of 16 KiB."""
COMPILERS = ("c++", "g++", "clang++")
FLAGS = (
    *("-std=c++17", "-O2", "-ffunction-sections", "-pthread"),
    # A fused product and sum would change the bits of seeded inputs.
    "-ffp-contract=off",
)
LINKED = ("-Wl,--gc-sections", "-s", "-static-libstdc++", "-static-libgcc", "-ldl")
COMPILE_TIMEOUT_S = 900
"""The first build for a target by zig compiles the C++ library too, which took two minutes."""
ONNXRUNTIME, LITERT = "LATBENCH_ORT", "LATBENCH_LITERT"
LITERT_VERSION = "LATBENCH_LITERT_VERSION"
"""Environment variables of the native worker."""


def build_native(target: str | None = None, *, ndk: Path | None = None) -> Path:
    """Path of the native worker for ``target``, one of :data:`TARGETS`, or for this machine.

    With the folder of an ``ndk``, for one of :data:`ANDROID_TARGETS`. It is compiled unless the
    cache folder has it. Raises :class:`StageError` without a compiler or if it fails, and
    :class:`UsageError` for an unknown target.
    """
    command, described = _compiler(target) if ndk is None else _ndk_compiler(target, ndk)
    linked = LINKED if ndk is None else (*LINKED, *ANDROID_LINKED)
    digest = hashlib.sha256(repr((command, described, FLAGS, linked, latbench_version())).encode())
    for path in sorted(SOURCES.iterdir()):
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    place = cache_folder() / "native" / digest.hexdigest()[:32] / PROGRAM
    if place.exists():
        return place
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StageError(
            "open",
            f"the folder {place.parent} cannot be made: {error.strerror}",
            hint="set LATBENCH_CACHE to a folder that can be written",
        ) from error
    with exclusive(place.with_name("lock")):
        if not place.exists():  # Another program may have built it meanwhile.
            write_beside(place, lambda out: _build(command, linked, out))
    return place


def _build(command: Sequence[str], linked: Sequence[str], out: Path) -> None:
    """Compile the sources, as many at once as there are CPUs, and link them."""
    stated = f'-DLATBENCH_VERSION="{latbench_version()}"'
    with tempfile.TemporaryDirectory(prefix="latbench-native-") as folder:

        def compiled(source: Path) -> str:
            made = str(Path(folder, f"{source.stem}.o"))
            _compile([*command, *FLAGS, stated, "-c", str(source), "-o", made])
            return made

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(compiled, sorted(SOURCES.glob("*.cpp"))))
        _compile([*command, *FLAGS, *objects, "-o", str(out), *linked])


def native_libraries(folder: Path | None = None) -> dict[str, str]:
    """Environment variables that name the runtimes' libraries: those in the packages installed
    here, or in packages unpacked into ``folder``. Runtimes that are absent are left out."""
    found = {}
    if (path := _library("onnxruntime", "capi/libonnxruntime.so*", folder)) is not None:
        found[ONNXRUNTIME] = str(path)
    if (path := _library("ai_edge_litert", "libLiteRt.so", folder)) is not None:
        found[LITERT] = str(path)
        where = sys.path if folder is None else [str(folder)]
        stated = next(iter(Distribution.discover(name="ai-edge-litert", path=where)), None)
        if stated is not None:
            found[LITERT_VERSION] = stated.version
    return found


def _library(package: str, pattern: str, folder: Path | None) -> Path | None:
    if folder is not None:
        places = [folder / package]
    else:
        spec = find_spec(package)
        places = [Path(each) for each in (spec and spec.submodule_search_locations) or ()]
    return next((path for place in places for path in sorted(place.glob(pattern))), None)


def _compiler(target: str | None) -> tuple[list[str], str]:
    """The compiler's command for ``target``, and its version."""
    if target is not None and target not in TARGETS:
        raise UsageError(f"unknown target {target!r}", hint=f"one of: {listed(TARGETS)}")
    if target is None:
        if sys.platform != "linux":
            raise StageError(
                "open",
                "the native worker runs on Linux only",
                hint="use the Python worker on this machine",
                kind="unavailable",
            )
        named = os.environ.get("CXX")
        names = [named] if named else [name for name in COMPILERS if shutil.which(name)]
        if names:
            command = shlex.split(names[0])
            return command, _said([*command, "--version"])
    try:
        described = f"ziglang {version('ziglang')}"
    except PackageNotFoundError:
        raise StageError(
            "open",
            f"building the native worker for {target} requires ziglang, which is not installed"
            if target
            else "a C++ compiler is required to build the native worker, and none was found",
            hint="pip install 'latbench[native]'"
            + ("" if target else ", install g++, or set CXX to a compiler"),
            kind="unavailable",
        ) from None
    own = f"{platform.machine()}-linux-gnu.2.28"
    return [sys.executable, "-P", "-m", "ziglang", "c++", "-target", target or own], described


def _ndk_compiler(target: str | None, ndk: Path) -> tuple[list[str], str]:
    """The command of the NDK's compiler for ``target``, and its version."""
    if target not in ANDROID_TARGETS:
        raise UsageError(f"unknown target {target!r}", hint=f"one of: {listed(ANDROID_TARGETS)}")
    suffix = ".cmd" if sys.platform == "win32" else ""
    found = sorted(ndk.glob(f"toolchains/llvm/prebuilt/*/bin/{target}-clang++{suffix}"))
    if not found:
        raise StageError(
            "open",
            f"{ndk} has no compiler for {target}",
            hint="the folder of an NDK of version 21 or newer, which has "
            f"toolchains/llvm/prebuilt/HOST/bin/{target}-clang++",
            kind="unavailable",
        )
    command = [str(found[0].absolute())]
    return command, _said([*command, "--version"])


def _said(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StageError(
            "open",
            f"the compiler {command[0]} cannot be started: {error}",
            hint="set CXX to a C++ compiler, or unset it",
            kind="unavailable",
        ) from error
    return done.stdout


def _compile(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=COMPILE_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StageError("open", f"the native worker cannot be compiled: {error}") from error
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if "error" in line]
        raise StageError(
            "open",
            "the native worker cannot be compiled: "
            + first_line("\n".join(errors) or done.stderr, f"status {done.returncode}"),
            hint="it requires C++17; set CXX to another compiler",
            detail=done.stderr[-4000:],
        )
