"""A real adbd for devices: that of Debian trixie, unpacked with the libraries that it needs."""

from __future__ import annotations

import fcntl
import hashlib
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from shlex import quote

PORT = 5555
SUITE = "trixie"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
APT = """\
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Dir::State "{folder}/state";
Dir::State::status "{folder}/state/status";
Dir::Cache "{folder}/cache";
Dir::Etc::sourcelist "{folder}/sources.list";
Dir::Etc::sourceparts "-";
"""
"""A source of its own, and nothing of what the system has installed."""
SOURCE = f"deb [signed-by={KEYRING}] http://deb.debian.org/debian {SUITE} main\n"
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
    if shutil.which("apt-get") is None or not KEYRING.exists():
        return "adbd's packages need Debian's apt-get and its keyring"
    if shutil.which("adb") is None:
        return "adb is not installed (Debian: adb)"
    if shutil.which("cc") is None:
        return "adbd's vsock is closed by a library that needs a C compiler"
    return None


def unpacked(cache: Path) -> Path:
    """The folder with adbd, made by the first test process that asks; 7 MB to fetch, 5 s.

    Raises :class:`RuntimeError` if the packages cannot be fetched.
    """
    digest = hashlib.sha256(repr((APT, SOURCE, NO_VSOCK)).encode()).hexdigest()[:12]
    root = cache / f"adbd-{digest}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "adbd.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            with tempfile.TemporaryDirectory(dir=cache, prefix="making-") as folder:
                _make(Path(folder)).rename(root)
    return root


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
    for each in ("state/lists/partial", "cache/archives/partial"):
        (folder / each).mkdir(parents=True)
    (folder / "state/status").touch()
    (folder / "sources.list").write_text(SOURCE)
    config = folder / "apt.conf"
    config.write_text(APT.format(folder=folder))
    apt = ("env", f"APT_CONFIG={config}", "apt-get", "-qq")
    _run(*apt, "update")
    _run(*apt, "install", "--yes", "--download-only", "adbd")
    root = folder / "root"
    root.mkdir()
    for package in sorted((folder / "cache/archives").glob("*.deb")):
        _run("dpkg-deb", "-x", str(package), str(root))
    source = folder / "no-vsock.c"
    source.write_text(NO_VSOCK)
    _run("cc", "-shared", "-fPIC", "-o", str(root / "no-vsock.so"), str(source))
    return root


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:5])}: {done.stderr.strip()[-2000:]}")
