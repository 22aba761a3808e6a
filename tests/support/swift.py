"""Debian's Swift compiler, unpacked from packages of Debian 13 into a root folder of its own."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from latbench.worker.apple import APPLE_SOURCES, PROGRAM

ASKED = "LATBENCH_SWIFT"
"""Variable that is 1 where the compiler may be downloaded."""
CACHE = "LATBENCH_SWIFT_CACHE"
"""Variable that names the folder in which the compiler is kept."""
COST = "514 MB from Debian once, 2.4 GB on disk, about two minutes"
PACKAGES = ("swiftlang", "libc6-dev", "libstdc++-14-dev", "bash", "coreutils")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
STAND_IN = Path(__file__).parents[1] / "worker/apple/standin"
SOURCE = f"deb [signed-by={KEYRING}] http://deb.debian.org/debian trixie main\n"
APT = """\
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Dir::State "{folder}/state";
Dir::State::status "{folder}/state/status";
Dir::Cache "{folder}/cache";
Dir::Etc::sourcelist "{folder}/sources.list";
Dir::Etc::sourceparts "{folder}/parts";
"""


def why_unavailable() -> str | None:
    """Why Swift cannot be had here, or ``None``."""
    if os.environ.get(ASKED) != "1":
        return f"compiling the Swift worker costs {COST}; set {ASKED}=1 to run it"
    if shutil.which("apt-get") is None or not KEYRING.exists():
        return "the Swift compiler comes from Debian's packages"
    if os.uname().machine != "x86_64":
        return "the Swift compiler is unpacked for x86-64 only"
    if os.geteuid() != 0:
        return "the Swift compiler runs in a root folder of its own, which needs root"
    return None


def swift_root() -> Path:
    """The root folder with ``swiftc``, made once in the cache folder that :data:`CACHE` names."""
    cache = Path(os.environ.get(CACHE) or Path.home() / ".cache/latbench-swift")
    digest = hashlib.sha256(repr((PACKAGES, APT)).encode()).hexdigest()[:12]
    root = cache / f"trixie-{digest}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            with tempfile.TemporaryDirectory(dir=cache, prefix="making-") as folder:
                _make(Path(folder)).rename(root)
    return root


def in_root(root: Path, folder: Path, command: Sequence[str]) -> None:
    """Run a command of the root in ``folder``, a path that is the same there and here.

    Raises :class:`RuntimeError` with what it said if it fails.
    """
    inside = root / folder.relative_to("/")
    inside.mkdir(parents=True, exist_ok=True)
    script = """
        mount --bind "$1" "$2"
        mount -t proc proc "$3/proc"
        exec chroot "$3" env PATH=/usr/bin sh -c 'cd "$1"; shift; exec "$@"' sh "$1" "${@:4}"
    """
    places = (str(folder), str(inside), str(root))
    _run("unshare", "--mount", "bash", "-euc", script, "bash", *places, *command)


def loader(root: Path, folder: Path) -> tuple[str, ...]:
    """The words before a program that was compiled in ``folder``: this system has an older C
    library, and neither Swift's nor those of the folder."""
    places = (folder, root / "usr/lib/x86_64-linux-gnu", root / "usr/libexec/swift/lib/swift/linux")
    return (
        str(root / "lib64/ld-linux-x86-64.so.2"),
        *("--library-path", ":".join(map(str, places))),
    )


def compiled_worker(version: str = "5") -> tuple[str, ...]:
    """The command of the worker for Apple devices, compiled in a language mode of Swift against the
    stand-in of Core ML, and kept beside the compiler."""
    digest = hashlib.sha256(version.encode())
    sources = [*sorted(APPLE_SOURCES.rglob("*.swift")), *sorted(STAND_IN.glob("*.swift"))]
    for path in sources:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    root = swift_root()
    folder = root.parent / f"worker-{digest.hexdigest()[:12]}"
    with (root.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / PROGRAM).exists():
            _compile(root, folder, version)
    return (*loader(root, folder), str(folder / PROGRAM))


def _compile(root: Path, folder: Path, version: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(APPLE_SOURCES, folder / "worker")
    shutil.copytree(STAND_IN, folder / "standin")
    mode = ("swiftc", "-swift-version", version, "-I.", "-L.")
    module = (*mode, "-parse-as-library", "-emit-module", "-emit-library", "-module-name")
    in_root(root, folder, [*module, "CoreVideo", "standin/CoreVideo.swift"])
    in_root(root, folder, [*module, "CoreML", "-lCoreVideo", "standin/CoreML.swift"])
    parts = sorted((folder / "worker/Sources/LatbenchWorker").glob("*.swift"))
    names = [str(part.relative_to(folder)) for part in parts]
    in_root(root, folder, [*module, "LatbenchWorker", "-lCoreML", "-lCoreVideo", *names])
    linked = ("-lLatbenchWorker", "-lCoreML", "-lCoreVideo")
    main = f"worker/Sources/{PROGRAM}/main.swift"
    # Only its syntax: the frameworks of an app are on Macs.
    app = "worker/App/LatbenchWorker/LatbenchApp.swift"
    in_root(root, folder, ["swiftc", "-frontend", "-parse", app])
    in_root(root, folder, [*mode, *linked, main, "-o", PROGRAM])


def _make(folder: Path) -> Path:
    for each in ("state/lists/partial", "cache/archives/partial", "parts"):
        (folder / each).mkdir(parents=True)
    (folder / "state/status").touch()
    (folder / "sources.list").write_text(SOURCE)
    config = folder / "apt.conf"
    config.write_text(APT.format(folder=folder))
    apt = ["env", f"APT_CONFIG={config}", "apt-get", "-qq"]
    _run(*apt, "update")
    _run(*apt, "install", "--yes", "--download-only", *PACKAGES)
    root = folder / "root"
    for name in ("proc", "tmp", "dev"):
        (root / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    unpack = (
        f'for each; do dpkg-deb --fsys-tarfile "$each" | tar -x --keep-directory-symlink -C {root}; '
        'rm "$each"; done'
    )
    packages = sorted((folder / "cache/archives").glob("*.deb"))
    _run("bash", "-euo", "pipefail", "-c", unpack, "bash", *map(str, packages))
    if not (root / "usr/bin/sh").exists():
        (root / "usr/bin/sh").symlink_to("bash")
    return root


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1800)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)[-300:]}: {(done.stdout + done.stderr)[-4000:]}")
