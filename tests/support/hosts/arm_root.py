"""The root folder of an arm64 Debian with Python, unpacked from its packages."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from support import debian
from support.hosts.boot import EMULATOR, X86_FOR_SSHD

PACKAGES = (
    *("base-files", "bash", "coreutils", "dash", "findutils", "grep", "gzip", "hostname", "mount"),
    *("procps", "python3", "sed", "tar", "util-linux"),
    *("libgcc-s1", "libgomp1", "libstdc++6"),  # libraries that wheels expect
    "usr-is-merged",  # or a dependency is met by a package that needs all of Perl
)
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
    if (reason := debian.why_unavailable()) is not None:
        return reason
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
    return debian.made_once(cache, "arm64-root", (PACKAGES, X86_FOR_SSHD), _make)


def fetched_packages(cache: Path, architecture: str, packages: Sequence[str]) -> list[Path]:
    """Debian packages and what they depend on, downloaded by the first that asks."""

    def fetch(folder: Path) -> Path:
        debian.download(folder, packages, architecture=architecture)
        return folder / "cache/archives"

    place = debian.made_once(cache, "packages", (architecture, packages), fetch)
    return sorted(place.glob("*.deb"))


def _make(folder: Path) -> Path:
    packages = debian.download(folder, PACKAGES, architecture="arm64")
    root = debian.unpacked(folder / "root", packages, shell="dash")
    for path in X86_FOR_SSHD:
        place = root / path.lstrip("/")
        if Path(path).is_dir():
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.touch()
    return root
