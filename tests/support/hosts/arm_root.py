"""The root folder of an arm64 Debian with Python, unpacked from its packages."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from support.hosts.boot import EMULATOR, X86_FOR_SSHD

PACKAGES = (
    *("base-files", "bash", "coreutils", "dash", "findutils", "grep", "gzip", "hostname", "mount"),
    *("procps", "python3", "sed", "tar", "util-linux"),
    *("libgcc-s1", "libgomp1", "libstdc++6"),  # libraries that wheels expect
    "usr-is-merged",  # or a dependency is met by a package that needs all of Perl
)
APT = """\
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Dir::State "{folder}/state";
Dir::State::status "{folder}/state/status";
Dir::Cache "{folder}/cache";
"""
"""The system's sources, and nothing of what the system has installed."""
CPUINFO = "".join(
    f"""\
processor\t: {cpu}
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3

"""
    for cpu in range(4)
)
"""That of a board with four Cortex-A72. ONNX Runtime crashes where it finds x86's instead."""


def why_unavailable() -> str | None:
    """What is missing to make the root and to run its programs."""
    if not EMULATOR.exists():
        return f"{EMULATOR} is not installed (Debian: qemu-user-static)"
    if shutil.which("apt-get") is None:
        return "arm64 packages need Debian's apt-get"
    made = subprocess.run(
        [
            *("unshare", "--user", "--map-root-user", "--mount", "sh", "-c"),
            "mount -t binfmt_misc binfmt_misc /tmp && test -e /tmp/register",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    # Since Linux 6.7. Before, one table of emulators serves the whole machine: not a test's to change.
    return "binfmt_misc cannot be mounted in a user namespace" if made.returncode else None


def arm_root(cache: Path) -> Path:
    """The root folder, made by the first test process that asks; takes about 20 s and 150 MB."""
    digest = hashlib.sha256(repr((PACKAGES, APT, X86_FOR_SSHD)).encode()).hexdigest()[:12]
    root = cache / f"arm64-root-{digest}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "arm64-root.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            with tempfile.TemporaryDirectory(dir=cache, prefix="making-") as folder:
                _make(Path(folder)).rename(root)
    return root


def fetched_packages(cache: Path, architecture: str, packages: Sequence[str]) -> list[Path]:
    """Debian packages and what they depend on, downloaded by the first that asks."""
    digest = hashlib.sha256(repr((architecture, packages, APT)).encode()).hexdigest()[:12]
    place = cache / f"packages-{digest}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "packages.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            with tempfile.TemporaryDirectory(dir=cache, prefix="making-") as folder:
                _fetch(Path(folder), architecture, packages).rename(place)
    return sorted(place.glob("*.deb"))


def _fetch(folder: Path, architecture: str, packages: Sequence[str]) -> Path:
    """The folder of the packages, below ``folder``."""
    for each in ("state/lists/partial", "cache/archives/partial"):
        (folder / each).mkdir(parents=True)
    (folder / "state/status").touch()
    config = folder / "apt.conf"
    config.write_text(APT.format(folder=folder, architecture=architecture))
    apt = ["env", f"APT_CONFIG={config}", "apt-get", "-qq"]
    _run(*apt, "update")
    _run(*apt, "install", "--yes", "--download-only", *packages)
    return folder / "cache/archives"


def _make(folder: Path) -> Path:
    packages = sorted(_fetch(folder, "arm64", PACKAGES).glob("*.deb"))
    root = folder / "root"
    (root / "usr/local").mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    unpack = f'for each; do dpkg-deb --fsys-tarfile "$each" | tar -x --keep-directory-symlink -C {root}; done'
    _run("sh", "-euc", unpack, "sh", *map(str, packages))
    if not (root / "usr/bin/sh").exists():
        (root / "usr/bin/sh").symlink_to("dash")
    for path in X86_FOR_SSHD:
        place = root / path.lstrip("/")
        if Path(path).is_dir():
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.touch()
    return root


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:5])}: {done.stderr.strip()[-2000:]}")
