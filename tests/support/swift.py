"""Debian's Swift compiler, unpacked from packages of Debian 13 into a root folder of its own."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from latbench.worker.apple import APPLE_SOURCES, PROGRAM
from support import debian

ASKED = "LATBENCH_SWIFT"
"""Variable that is 1 where the compiler may be downloaded."""
CACHE = "LATBENCH_SWIFT_CACHE"
"""Variable that names the folder in which the compiler is kept."""
COST = "514 MB from Debian once, 2.4 GB on disk, about two minutes"
PACKAGES = ("swiftlang", "libc6-dev", "libstdc++-14-dev", "bash", "coreutils")
STAND_IN = Path(__file__).parents[1] / "worker/apple/standin"


def why_unavailable() -> str | None:
    """Why Swift cannot be had here, or ``None``."""
    if os.environ.get(ASKED) != "1":
        return f"compiling the Swift worker costs {COST}; set {ASKED}=1 to run it"
    if (reason := debian.why_unavailable()) is not None:
        return reason
    if os.uname().machine != "x86_64":
        return "the Swift compiler is unpacked for x86-64 only"
    if os.geteuid() != 0:
        return "the Swift compiler runs in a root folder of its own, which needs root"
    return None


def swift_root() -> Path:
    """The root folder with ``swiftc``, made once in the cache folder that :data:`CACHE` names."""
    cache = Path(os.environ.get(CACHE) or Path.home() / ".cache/latbench-swift")
    return debian.made_once(cache, "trixie", PACKAGES, _make)


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
    debian.run("unshare", "--mount", "bash", "-euc", script, "bash", *places, *command)


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
    packages = debian.download(folder, PACKAGES, suite="trixie")
    root = debian.unpacked(folder / "root", packages, shell="bash")
    for name in ("proc", "tmp", "dev"):
        (root / name).mkdir(exist_ok=True)
    return root
