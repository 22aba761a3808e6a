"""The libraries of the glibc bundle: from packages, folders, or Debian's archive."""

from __future__ import annotations

import hashlib
import io
import tarfile
import urllib.error
from collections.abc import Mapping
from pathlib import Path

import pytest

from latbench.devices import glibc
from latbench.devices.glibc import LIBRARIES, LOADERS, Package, glibc_bundle
from latbench.errors import StageError, UsageError
from support.elf import elf

VERSION = b"GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36.\n"


def libraries(
    architecture: str = "aarch64", version: bytes = VERSION, but: tuple[str, ...] = ()
) -> dict[str, bytes]:
    names = (LOADERS[architecture], *LIBRARIES)
    return {
        name: elf(architecture, version if name == "libc.so.6" else b"")
        for name in names
        if name not in but
    }


def deb(
    place: Path,
    files: Mapping[str, bytes],
    *,
    compression: str = "xz",
    links: Mapping[str, str] | None = None,
) -> Path:
    """A Debian package of libraries."""
    data = io.BytesIO()
    folder = "./usr/lib/aarch64-linux-gnu"
    with tarfile.open(fileobj=data, mode=f"w:{compression}") as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    members = {
        "debian-binary": b"2.0\n",
        "control.tar.xz": b"odd",
        f"data.tar.{compression}" if compression else "data.tar": data.getvalue(),
    }
    content = b"!<arch>\n"
    for name, each in members.items():
        content += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(each):<10}`\n".encode()
        content += each + b"\n" * (len(each) % 2)
    place.write_bytes(content)
    return place


def refused(tmp_path: Path, *places: Path) -> UsageError:
    with pytest.raises(UsageError) as caught:
        glibc_bundle("aarch64", places, tmp_path, print)
    return caught.value


@pytest.mark.parametrize("compression", ["xz", "gz", ""])
def test_packages_are_read_without_dpkg(tmp_path: Path, compression: str) -> None:
    """The first that has a library counts, and links within a package are followed."""
    files = libraries()
    cpp = files.pop("libstdc++.so.6")
    one = deb(tmp_path / "libc6.deb", files, compression=compression)
    two = deb(
        tmp_path / "libstdc++6.deb",
        {"libstdc++.so.6.0.30": cpp, "libm.so.6": b"another"},
        links={"libstdc++.so.6": "libstdc++.so.6.0.30"},
    )
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    found = glibc_bundle("aarch64", [one, two], unpacked, print)
    assert (found.version, found.loader) == ((2, 36), "ld-linux-aarch64.so.1")
    assert found.files["libstdc++.so.6"].read_bytes() == cpp
    assert found.files["libm.so.6"].read_bytes() == files["libm.so.6"]
    assert set(found.files) == {found.loader, *LIBRARIES}


@pytest.mark.parametrize("below", [".", "lib", "usr/lib/aarch64-linux-gnu"])
def test_folders_of_libraries_and_of_systems(tmp_path: Path, below: str) -> None:
    place = tmp_path / "root" / below
    place.mkdir(parents=True)
    for name, content in libraries().items():
        (place / name).write_bytes(content)
    found = glibc_bundle("aarch64", [tmp_path / "root"], tmp_path, print)
    assert {path.parent.resolve() for path in found.files.values()} == {place.resolve()}


def test_what_does_not_fit_is_told(tmp_path: Path) -> None:
    part = deb(tmp_path / "part.deb", libraries(but=("libm.so.6", "libstdc++.so.6")))
    error = refused(tmp_path, part)
    assert "needs libm.so.6, libstdc++.so.6, which is not in" in error.message
    assert "libstdc++6 of Debian" in (error.hint or "")
    other = {
        name: elf("x86_64") for name in libraries()
    }  # Files of the right names for the wrong processor.
    assert (
        "is for x86_64, the device is aarch64"
        in refused(tmp_path, deb(tmp_path / "other.deb", other)).message
    )
    text = deb(tmp_path / "text.deb", dict.fromkeys(libraries(), b"INPUT ( /lib/libm.so.6 )"))
    assert "is not a library, the device is aarch64" in refused(tmp_path, text).message
    old = libraries(version=b"GNU C Library (Debian GLIBC 2.24) stable release version 2.24, by\n")
    assert (
        "is 2.24; the runtimes need 2.28"
        in refused(tmp_path, deb(tmp_path / "old.deb", old)).message
    )
    unknown = deb(tmp_path / "unknown.deb", libraries(version=b""))
    assert "is of unknown version" in refused(tmp_path, unknown).message


@pytest.mark.parametrize("content", [b"", b"PK\3\4", b"!<arch>\n", b"!<arch>\n" + b"x" * 200])
def test_a_file_that_is_no_package(tmp_path: Path, content: bytes) -> None:
    place = tmp_path / "x.deb"
    place.write_bytes(content)
    assert "is not a Debian package" in refused(tmp_path, place).message


def test_a_damaged_package(tmp_path: Path) -> None:
    whole = deb(tmp_path / "a.deb", libraries()).read_bytes()
    for end in (70, 150, len(whole) // 2, len(whole) - 30):
        (tmp_path / "a.deb").write_bytes(whole[:end])
        assert "is not a Debian package" in refused(tmp_path, tmp_path / "a.deb").message


class Archive:
    """Debian's archive: what it has, by address, and what was asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []

    def open(self, url: str, timeout: float) -> io.BytesIO:
        self.asked.append(url)
        if url not in self.files:
            raise urllib.error.URLError("[Errno -2] Name or service not known")
        return io.BytesIO(self.files[url])


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Archive:
    made = Archive()
    content = deb(tmp_path / "all.deb", libraries()).read_bytes()
    package = Package(
        path="pool/main/g/glibc/libc6_2.36_arm64.deb",
        sha1=hashlib.sha1(content, usedforsecurity=False).hexdigest(),
        sha256=hashlib.sha256(content).hexdigest(),
    )
    monkeypatch.setitem(glibc.GLIBC_PACKAGES, "aarch64", (package,))
    monkeypatch.setattr(glibc.urllib.request, "urlopen", made.open)
    monkeypatch.setenv("LATBENCH_CACHE", str(tmp_path / "cache"))
    made.files[f"https://snapshot.debian.org/file/{package.sha1}"] = content
    return made


def test_packages_are_downloaded_once(archive: Archive, tmp_path: Path) -> None:
    """From the archive of all versions where the current one has another; digests are compared."""
    current = "https://deb.debian.org/debian/pool/main/g/glibc/libc6_2.36_arm64.deb"
    archive.files[current] = b"an update"
    told: list[str] = []
    (tmp_path / "u").mkdir()
    found = glibc_bundle("aarch64", [], tmp_path / "u", told.append)
    assert found.version == (2, 36)
    assert told == ["downloaded libc6_2.36_arm64.deb from snapshot.debian.org"]
    assert len(archive.asked) == 2
    glibc_bundle("aarch64", [], tmp_path / "u", told.append)
    assert len(archive.asked) == 2
    # What lies in the cache is compared too.
    (stored,) = (tmp_path / "cache/glibc").rglob("*.deb")
    stored.write_bytes(b"changed")
    glibc_bundle("aarch64", [], tmp_path / "u", told.append)
    assert len(archive.asked) == 4


def test_without_internet(archive: Archive, tmp_path: Path) -> None:
    archive.files.clear()
    with pytest.raises(StageError) as caught:
        glibc_bundle("aarch64", [], tmp_path, print)
    error = caught.value
    assert error.kind == "unavailable"
    assert "libc6_2.36_arm64.deb for the glibc bundle cannot be downloaded" in error.message
    assert "--glibc" in (error.hint or "")


def test_a_false_file_is_never_used(archive: Archive, tmp_path: Path) -> None:
    for url in list(archive.files):
        archive.files[url] = b"false"
    with pytest.raises(StageError) as caught:
        glibc_bundle("aarch64", [], tmp_path, print)
    assert "another digest" in (caught.value.failure.detail or "")
    assert not list((tmp_path / "cache").rglob("*.deb"))


def test_both_architectures_have_packages() -> None:
    for architecture, name in (("aarch64", "arm64"), ("x86_64", "amd64")):
        for each in glibc.GLIBC_PACKAGES[architecture]:
            assert (len(each.sha256), len(each.sha1)) == (64, 40)
            assert each.path.endswith(f"_{name}.deb")
