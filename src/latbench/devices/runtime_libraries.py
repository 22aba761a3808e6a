"""The libraries of runtimes that the user names: files, or packages for Android (AAR)."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from latbench.devices.elf import Elf, read_elf
from latbench.errors import UsageError, listed
from latbench.files import content_sha256
from latbench.worker.native import LITERT, LITERT_VERSION, ONNXRUNTIME

ABIS = {"aarch64": "arm64-v8a", "x86_64": "x86_64"}
"""Architecture -> Android's name of it."""


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """How a runtime's library is known."""

    variable: str
    function: str
    """A function of the interface that the worker uses."""
    version_variable: str | None = None
    """Says the version of a library that does not contain it."""
    older_function: str | None = None
    """A function of an older interface, which the worker does not use."""
    older: str = ""
    """What a library with that function has, and what the worker uses."""
    newer: str = ""
    """Where the interface that it uses is."""


KINDS: Mapping[str, _Kind] = {
    "onnxruntime": _Kind(variable=ONNXRUNTIME, function="OrtGetApiBase"),
    "tflite": _Kind(
        variable=LITERT,
        function="LiteRtCreateCompiledModel",
        version_variable=LITERT_VERSION,
        older_function="TfLiteInterpreterCreate",
        older="has the interface of TensorFlow Lite and LiteRT 1 (TfLite*); "
        "the native worker uses that of LiteRT 2",
        newer="com.google.ai.edge.litert:litert of version 2.3 has it, in libLiteRt.so",
    ),
}


@dataclass(frozen=True, kw_only=True)
class NamedLibrary:
    """``BACKEND=PATH[@sha256:DIGEST]``."""

    backend: str
    path: Path
    sha256: str | None


def read_named_library(text: str) -> NamedLibrary:
    """The parts of the option's value. Raises :class:`UsageError`."""
    backend, separator, rest = text.partition("=")
    plain, mark, digest = rest.rpartition("@sha256:")
    if not mark:
        plain, digest = rest, ""
    if not separator or not plain or (mark and not re.fullmatch("[0-9a-f]{64}", digest.lower())):
        raise UsageError(
            f"{text!r} does not name a library",
            hint="write BACKEND=PATH or BACKEND=PATH@sha256:DIGEST with 64 hexadecimal digits",
        )
    if backend not in KINDS:
        raise UsageError(
            f"{text!r}: the native worker has no backend {backend!r}",
            hint=f"it has {listed(KINDS)}",
        )
    return NamedLibrary(backend=backend, path=Path(plain), sha256=digest.lower() or None)


def runtime_files(
    named: Sequence[NamedLibrary],
    architecture: str,
    libc: Literal["glibc", "other"],
    folder: Path,
) -> tuple[dict[str, Path], dict[str, str]]:
    """The files of the libraries by their names, and the variables that say which to load.

    What packages have for ``architecture`` is unpacked into ``folder``; all of it goes to the
    device, because libraries need each other. Raises :class:`UsageError`.
    """
    files: dict[str, Path] = {}
    variables: dict[str, str] = {}
    for each in named:
        kind = KINDS[each.backend]
        for path in _checked(each, architecture, folder):
            elf = _fitting(path, each, architecture, libc)
            if path.name in files and content_sha256(path) != content_sha256(files[path.name]):
                raise UsageError(f"two libraries are called {path.name}, and they differ")
            files[path.name] = path
            # A binding for Java needs the functions too: the first by name is the shortest.
            if elf.names(kind.function) and kind.variable not in variables:
                variables[kind.variable] = path.name
                version = re.search(r"-(\d+\.\d+\.\d+)\.aar$", each.path.name)
                if version and kind.version_variable:
                    variables[kind.version_variable] = version[1]
    for backend in dict.fromkeys(each.backend for each in named):
        if KINDS[backend].variable not in variables:
            raise _no_runtime(backend, named, files)
    return files, variables


def _checked(named: NamedLibrary, architecture: str, folder: Path) -> list[Path]:
    """The libraries in what was named, the shortest name first."""
    path = named.path
    if not path.is_file():
        raise UsageError(f"{path} is not a file", hint="--library BACKEND=PATH.aar or PATH.so")
    found = content_sha256(path)
    if named.sha256 is not None and found != named.sha256:
        raise UsageError(
            f"{path} is not the file that was asked for: its sha256 is {found}",
            hint=f"--library asks for {named.sha256}",
        )
    if not zipfile.is_zipfile(path):
        return [path]
    abi = ABIS[architecture]
    unpacked = folder / f"aar-{found[:16]}"
    try:
        with zipfile.ZipFile(path) as archive:
            inside = [PurePosixPath(name) for name in archive.namelist()]
            libraries = [
                each for each in inside if len(each.parts) == 3 and each.parts[0] == "jni"
                and each.suffix == ".so"
            ]  # fmt: skip
            wanted = [each for each in libraries if each.parts[1] == abi]
            unpacked.mkdir(exist_ok=True)
            for each in wanted:
                (unpacked / each.name).write_bytes(archive.read(str(each)))
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError) as error:
        raise UsageError(
            f"cannot unpack {path}: {error}",
            hint="the file is damaged, or packed in an unusual way: download it again",
        ) from error
    if not wanted:
        has = sorted({each.parts[1] for each in libraries})
        raise UsageError(
            f"{path} has no library for {abi}" + (f", only for {listed(has)}" if has else ""),
            hint=f"the device is {architecture}; an AAR has libraries in jni/{abi}/",
        )
    return sorted((unpacked / each.name for each in wanted), key=lambda each: len(each.name))


def _fitting(
    path: Path, named: NamedLibrary, architecture: str, libc: Literal["glibc", "other"]
) -> Elf:
    elf = read_elf(path)
    if elf is None:
        raise _unreadable(path, named)
    if not elf.whole:
        raise UsageError(
            f"{path.name} of {named.path} is cut: its headers list more than it holds",
            hint="download or copy it again",
        )
    if elf.architecture != architecture:
        raise UsageError(
            f"{path.name} of {named.path} is for {elf.architecture}, the device is {architecture}",
            hint=f"take the build for {ABIS.get(architecture, architecture)}",
        )
    if elf.libc is not None and elf.libc != libc:
        made = "glibc" if elf.libc == "glibc" else "Android's or another C library"
        hint = (
            "install at the level of the NDK: --ndk PATH"
            if libc == "glibc"
            else "without --ndk the worker runs on glibc"
        )
        raise UsageError(f"{path.name} of {named.path} was made for {made}", hint=hint)
    return elf


def _unreadable(path: Path, named: NamedLibrary) -> UsageError:
    head = path.read_bytes()[:4]
    if path != named.path:
        message, hint = (
            f"{path.name} of {named.path} is not a library",
            "download the package again",
        )
    elif not head:
        message, hint = f"{path} is empty", "download it again"
    elif head[:2] == b"PK":
        message, hint = f"{path} is a package without its end", "download it again"
    else:
        message, hint = (
            f"{path} is neither a library of Linux nor an AAR",
            "--library BACKEND=PATH.aar or PATH.so; a page that says why a download failed has "
            "the same name as the file",
        )
    return UsageError(message, hint=hint)


def _no_runtime(
    backend: str, named: Sequence[NamedLibrary], files: Mapping[str, Path]
) -> UsageError:
    where = ", ".join(str(each.path) for each in named if each.backend == backend)
    kind = KINDS[backend]
    for name, path in files.items() if kind.older_function else ():
        elf = read_elf(path)
        if elf is not None and elf.names(kind.older_function or ""):
            return UsageError(f"{name} of {where} {kind.older}", hint=kind.newer)
    return UsageError(
        f"no library in {where} has the function {kind.function} of {backend}",
        hint=f"it has {listed(sorted(files))}",
    )
