"""Debian's packages in folders of the tests' own, without touching what the system has."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
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
"""Nothing of what the system has installed counts."""
ONLY_SUITE = """\
Dir::Etc::sourcelist "{folder}/sources.list";
Dir::Etc::sourceparts "{folder}/parts";
"""
SOURCE = f"deb [signed-by={KEYRING}] http://deb.debian.org/debian {{suite}} main\n"
TIMEOUT_S = 1800


def why_unavailable() -> str | None:
    """Why no packages can be fetched here."""
    if shutil.which("apt-get") is None or not KEYRING.exists():
        return "packages need Debian's apt-get and its keyring"
    return None


def download(
    folder: Path, packages: Sequence[str], *, architecture: str = "amd64", suite: str | None = None
) -> list[Path]:
    """Fetch packages and what they depend on into ``folder``, from a suite or the system's sources.

    Raises :class:`RuntimeError` with what apt said.
    """
    for each in ("state/lists/partial", "cache/archives/partial", "parts"):
        (folder / each).mkdir(parents=True)
    (folder / "state/status").touch()
    config = folder / "apt.conf"
    wanted = APT
    if suite is not None:
        (folder / "sources.list").write_text(SOURCE.format(suite=suite))
        wanted += ONLY_SUITE
    config.write_text(wanted.format(folder=folder, architecture=architecture))
    apt = ["env", f"APT_CONFIG={config}", "apt-get", "-qq"]
    run(*apt, "update")
    run(*apt, "install", "--yes", "--download-only", *packages)
    return sorted((folder / "cache/archives").glob("*.deb"))


def made_once(cache: Path, name: str, made_of: object, make: Callable[[Path], Path]) -> Path:
    """The folder that ``make`` makes in a temporary one, for the first process that asks.

    Another one is made where ``made_of`` differs.
    """
    digest = hashlib.sha256(repr((made_of, APT, ONLY_SUITE)).encode()).hexdigest()[:12]
    place = cache / f"{name}-{digest}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            with tempfile.TemporaryDirectory(dir=cache, prefix="making-") as folder:
                make(Path(folder)).rename(place)
    return place


def unpacked(root: Path, packages: Sequence[Path], *, shell: str) -> Path:
    """Unpack packages into a root folder whose ``/bin`` and ``/lib`` are those of ``/usr``."""
    (root / "usr/local").mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    unpack = (
        f'for each; do dpkg-deb --fsys-tarfile "$each" | tar -x --keep-directory-symlink -C {root}; '
        'rm "$each"; done'
    )
    run("bash", "-euo", "pipefail", "-c", unpack, "bash", *map(str, packages))
    if not (root / "usr/bin/sh").exists():
        (root / "usr/bin/sh").symlink_to(shell)
    return root


def run(*command: str) -> None:
    """Run a command. Raises :class:`RuntimeError` with what it said if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
    if done.returncode:
        said = (done.stdout + done.stderr).strip()[-4000:]
        raise RuntimeError(f"{' '.join(command)[-300:]}: {said}")
