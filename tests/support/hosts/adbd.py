"""A real adbd for devices: that of Debian trixie, unpacked with the libraries that it needs."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from shlex import quote

from support import debian

PORT = 5555
SUITE = "trixie"
NO_VSOCK = """\
#define _GNU_SOURCE
#include <errno.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
int socket(int domain, int type, int protocol) {
    if (domain == AF_VSOCK) return errno = EAFNOSUPPORT, -1;
    return syscall(SYS_socket, domain, type, protocol);
}
"""
"""adbd also listens on vsock, which no network namespace closes, and asks nobody for a key."""


def why_unavailable() -> str | None:
    """What is missing to have phones; ``None`` if they can be made."""
    if platform.machine() != "x86_64":
        return "adbd is unpacked for x86-64 only"
    if (reason := debian.why_unavailable()) is not None:
        return reason
    if shutil.which("adb") is None:
        return "adb is not installed (Debian: adb)"
    if shutil.which("cc") is None:
        return "adbd's vsock is closed by a library that needs a C compiler"
    return None


def unpacked(cache: Path) -> Path:
    """The folder with adbd, made by the first test process that asks; 7 MB to fetch, 5 s.

    Raises :class:`RuntimeError` if the packages cannot be fetched.
    """
    return debian.made_once(cache, "adbd", (SUITE, NO_VSOCK), _make)


def lines(root: Path) -> Iterator[str]:
    """Shell commands that start adbd on a device and wait until it listens."""
    place = quote(str(root))
    libraries = f"{place}/usr/lib/x86_64-linux-gnu"
    # In its own environment: what a shell of a phone has.
    yield "export PATH=/system/bin:/usr/bin:/bin ANDROID_DATA=/data"
    yield (
        f"{libraries}/ld-linux-x86-64.so.2 --library-path {libraries}:{libraries}/android "
        f"--preload {place}/no-vsock.so {place}/usr/lib/android-sdk/platform-tools/adbd "
        "< /dev/null > /var/log/boot.log 2>&1 & adbd=$!"
    )
    hexadecimal = f":{PORT:04X} "
    yield (
        f"until grep -q '{hexadecimal}.* 0A ' /proc/net/tcp /proc/net/tcp6; "
        "do kill -0 $adbd; sleep 0.01; done"
    )


def _make(folder: Path) -> Path:
    root = folder / "root"
    root.mkdir()
    for package in debian.download(folder, ["adbd"], suite=SUITE):
        debian.run("dpkg-deb", "-x", str(package), str(root))
    source = folder / "no-vsock.c"
    source.write_text(NO_VSOCK)
    debian.run("cc", "-shared", "-fPIC", "-o", str(root / "no-vsock.so"), str(source))
    return root
