"""The glibc bundle: a dynamic loader with its libraries, for devices with another C library.

The libraries are those of Debian. latbench does not distribute them: they are downloaded from
Debian's archive onto the user's machine, or taken from packages and folders that the user names.
"""

from __future__ import annotations

import functools
import hashlib
import http.client
import io
import lzma
import re
import tarfile
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import IO

from latbench.devices.elf import Elf, read_elf
from latbench.errors import StageError, UsageError, listed
from latbench.events import Warn
from latbench.files import content_sha256, write_beside
from latbench.paths import cache_folder

LOADERS = {"aarch64": "ld-linux-aarch64.so.1", "x86_64": "ld-linux-x86-64.so.2"}
LIBRARIES = (
    *("libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1"),
    *("libgcc_s.so.1", "libstdc++.so.6"),
)
"""What the worker and the libraries of the runtimes need."""
OLDEST_GLIBC = (2, 28)
"""The runtimes' packages need it."""
ARCHIVES = ("https://deb.debian.org/debian/{path}", "https://snapshot.debian.org/file/{sha1}")
"""The second has files for good, the first until the next update of the package."""
PACKAGE_TIMEOUT_S = 60.0
LARGEST_PACKAGE = 64 * 2**20
_STATED = re.compile(rb"GNU C Library [^\n]*?version (\d+)\.(\d+)")


@dataclass(frozen=True, kw_only=True)
class Package:
    """A package of Debian 12."""

    path: str
    """In the archive."""
    sha1: str
    """By which the snapshot archive names it. It protects nothing."""
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Glibc:
    """The files of a bundle."""

    version: tuple[int, int]
    loader: str
    """Name of the loader among the files."""
    files: Mapping[str, Path]
    """Name on the device -> file here."""


GLIBC_PACKAGES = {
    "aarch64": (
        Package(
            path="pool/main/g/glibc/libc6_2.36-9+deb12u14_arm64.deb",
            sha1="85af57bf1f9fa075163e51c99d9536154c21ab7e",
            sha256="01f4330719fd4f65580e16ea5a0527f372fca750e8f588d26deaf09f2d3b1cf4",
        ),
        Package(
            path="pool/main/g/gcc-12/libgcc-s1_12.2.0-14+deb12u1_arm64.deb",
            sha1="6534755fbb89e7bd0ef86c53fce6f34b4f7bfbd4",
            sha256="576926b283613db80168ddf76380a3bd877602778cf0d226caa7bfbfa71eacf3",
        ),
        Package(
            path="pool/main/g/gcc-12/libstdc++6_12.2.0-14+deb12u1_arm64.deb",
            sha1="d0ab5371c1259b637436b4e61381e47385386650",
            sha256="26e138c677a985775331373828a6c286c551ff397cb735d00e2383cb273d1cb2",
        ),
    ),
    "x86_64": (
        Package(
            path="pool/main/g/glibc/libc6_2.36-9+deb12u14_amd64.deb",
            sha1="c534c6c7f912b61ca26b7cf4082235a0343b8751",
            sha256="ba4f88f73dbc3ae9055f3c20f4523bfdbaf1ad13ff95e258924f77d20b4fbedf",
        ),
        Package(
            path="pool/main/g/gcc-12/libgcc-s1_12.2.0-14+deb12u1_amd64.deb",
            sha1="c72798568b9086ecacf3d46e420c6d90b78ce50d",
            sha256="3016e62cb4b7cd8038822870601f5ed131befe942774d0f745622cc77d8a88f7",
        ),
        Package(
            path="pool/main/g/gcc-12/libstdc++6_12.2.0-14+deb12u1_amd64.deb",
            sha1="b1d2dc0cd7bcd57fa4b1ea6dd27a40384d45b937",
            sha256="5cd3171216d4ab0fc911cfe9c35509bf2dd8f47761c43b7f6a4296701551a24d",
        ),
    ),
}


def glibc_bundle(architecture: str, given: Sequence[Path], folder: Path, warn: Warn) -> Glibc:
    """The bundle for ``architecture``, from the packages and folders ``given``, or downloaded.

    Files of packages are unpacked into ``folder``. Raises :class:`StageError` and
    :class:`UsageError`.
    """
    loader = LOADERS[architecture]
    wanted = (loader, *LIBRARIES)
    places = given or [_downloaded(package, warn) for package in GLIBC_PACKAGES[architecture]]
    files: dict[str, Path] = {}
    for i, place in enumerate(places):
        own = folder / f"package-{i}"
        found = _in_folder(place, wanted) if place.is_dir() else _in_package(place, wanted, own)
        # The first place that has a file counts.
        files = {**found, **files}
    where = ", ".join(map(str, places))
    if missing := [name for name in wanted if name not in files]:
        raise UsageError(
            f"the glibc bundle for {architecture} needs {listed(missing)}, which is not in {where}",
            hint="name more packages or folders with --glibc: libc6, libgcc-s1 and libstdc++6 of "
            "Debian or Ubuntu for that architecture",
        )
    for path in files.values():
        found_for = _read(path)
        if found_for is None or found_for.architecture != architecture:
            what = f"for {found_for.architecture}" if found_for else "not a library"
            raise UsageError(
                f"{path.name} in {where} is {what}, the device is {architecture}",
                hint="--glibc names packages or a folder for the device's architecture",
            )
    stated = _STATED.search(files["libc.so.6"].read_bytes())
    version = (int(stated[1]), int(stated[2])) if stated else None
    if version is None or version < OLDEST_GLIBC:
        text = "of unknown version" if version is None else ".".join(map(str, version))
        raise UsageError(
            f"the glibc in {where} is {text}; the runtimes need 2.28 or newer",
            hint="without --glibc that of Debian 12 is downloaded",
        )
    return Glibc(version=version, loader=loader, files=files)


def _read(path: Path) -> Elf | None:
    try:
        return read_elf(path)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error


def _in_folder(place: Path, wanted: Sequence[str]) -> dict[str, Path]:
    """Libraries in a folder of libraries, or in the root folder of a system."""
    inner = sorted(each for each in (*place.glob("lib/*-linux-gnu"), *place.glob("usr/lib/*-gnu")))
    folders = (place, place / "lib", place / "usr/lib", *inner)
    found: dict[str, Path] = {}
    for name in wanted:
        path = next((each / name for each in folders if (each / name).is_file()), None)
        if path is not None:
            found[name] = path
    return found


def _in_package(place: Path, wanted: Sequence[str], folder: Path) -> dict[str, Path]:
    """Libraries in a Debian package, unpacked into ``folder``."""
    found: dict[str, Path] = {}
    folder.mkdir(exist_ok=True)
    try:
        with place.open("rb") as file, _content(file, place) as archive:
            for member in archive.getmembers():
                name = member.name.rsplit("/", 1)[-1]
                if name not in wanted or name in found:
                    continue
                # A link within the package, such as libstdc++.so.6, is followed.
                content = archive.extractfile(member)
                if content is not None:
                    found[name] = folder / name
                    found[name].write_bytes(content.read())
    except OSError as error:
        raise UsageError(f"cannot read {place}: {error.strerror or error}") from error
    except (tarfile.TarError, lzma.LZMAError, ValueError, KeyError, EOFError) as error:
        raise UsageError(
            f"{place} is not a Debian package: {error}",
            hint="--glibc names .deb files, or a folder that has the libraries",
        ) from error
    return found


@contextmanager
def _content(file: IO[bytes], place: Path) -> Iterator[tarfile.TarFile]:
    """The files of a package, which is an archive of ``ar`` (Debian, deb(5)) with a tar in it."""
    if file.read(8) != b"!<arch>\n":
        raise ValueError("it does not begin as one")
    while len(header := file.read(60)) == 60:
        name, size = header[:16].decode("ascii").strip().rstrip("/"), int(header[48:58])
        if not name.startswith("data.tar"):
            file.seek(size + size % 2, io.SEEK_CUR)
            continue
        content = io.BytesIO(file.read(size))
        if len(content.getbuffer()) < size:
            raise ValueError("it ends early")
        stream: IO[bytes] = _unpacked_zstd(content, place) if name.endswith(".zst") else content
        with tarfile.open(fileobj=stream) as archive:
            yield archive
        return
    raise ValueError("it has no data.tar")


def _unpacked_zstd(content: IO[bytes], place: Path) -> IO[bytes]:
    try:
        zstandard = import_module("zstandard")
    except ImportError:
        raise UsageError(
            f"{place} is compressed with zstd, which needs a package that is not installed here",
            hint="pip install zstandard, or name Debian's packages, which are compressed with xz",
        ) from None
    with zstandard.ZstdDecompressor().stream_reader(content) as reader:
        return io.BytesIO(reader.read())


def _downloaded(package: Package, warn: Warn) -> Path:
    """The package in the cache folder; downloaded once, and compared with its digest each time."""
    name = package.path.rsplit("/", 1)[-1]
    place = cache_folder() / "glibc" / package.sha256[:32] / name
    if place.exists() and content_sha256(place) == package.sha256:
        return place
    reasons = []
    for archive in ARCHIVES:
        url = archive.format(path=package.path, sha1=package.sha1)
        try:
            with urllib.request.urlopen(url, timeout=PACKAGE_TIMEOUT_S) as response:  # noqa: S310
                content = response.read(LARGEST_PACKAGE)
        except (OSError, http.client.HTTPException) as error:
            reasons.append(f"{url}: {error}")
            continue
        if hashlib.sha256(content).hexdigest() != package.sha256:
            reasons.append(f"{url}: the file has another digest than {package.sha256[:12]}")
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        write_beside(place, functools.partial(Path.write_bytes, data=content))
        warn(f"downloaded {name} from {url.split('/')[2]}")
        return place
    raise StageError(
        "probe",
        f"{name} for the glibc bundle cannot be downloaded: {reasons[0]}",
        hint="name the libraries with --glibc: .deb files of libc6, libgcc-s1 and libstdc++6, or a "
        "folder such as /usr/aarch64-linux-gnu/lib of Debian's libstdc++6-arm64-cross",
        kind="unavailable",
        detail="\n".join(reasons),
    )
