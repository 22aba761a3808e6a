"""The worker for Apple devices: its sources, and how a Mac builds it.

The program and the app are described in ``docs/devices/apple-worker.md``. Their sources are part of
the package.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

_PACKAGED = Path(__file__).parent / "apple_worker"
APPLE_SOURCES = (
    _PACKAGED if _PACKAGED.is_dir() else Path(__file__).parents[3] / "runners/apple-worker"
)
"""The folder of the sources: in the installed package, or in a checkout."""
PROJECT = "App/LatbenchWorker.xcodeproj"
"""The project of the app, in the folder of the sources."""
SCHEME = "LatbenchWorker"
APP = f"{SCHEME}.app"
PROGRAM = "latbench-apple"
"""The program for Macs."""
APP_BACKENDS = ("coreml",)
"""What program and app run."""
LEFT_OUT = (".build", ".swiftpm", "xcuserdata", ".DS_Store")
"""Names of what Xcode and Swift leave in the folder."""


def bundle_of(team: str) -> str:
    """The identifier of the app that a team signs: each identifier belongs to one team."""
    return f"dev.latbench.worker.{team.lower()}"


def app_sources() -> tuple[Path, ...]:
    """The files that program and app are built from, in a fixed order."""
    found = (each for each in APPLE_SOURCES.rglob("*") if each.is_file())
    return tuple(sorted(each for each in found if not set(LEFT_OUT).intersection(each.parts)))


@cache
def sources_sha256() -> str:
    """Digest of the sources, which the app repeats."""
    digest = hashlib.sha256()
    for path in app_sources():
        name = path.relative_to(APPLE_SOURCES).as_posix()
        digest.update(name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def build_command(team: str, udid: str, folder: str) -> tuple[str, ...]:
    """The command line that builds and signs the app on a Mac.

    ``folder`` on the Mac holds the sources in ``sources``; ``udid`` is the device that the app is
    for, which Xcode adds to the team's devices.
    """
    return (
        *("xcodebuild", "-project", f"{folder}/sources/{PROJECT}", "-scheme", SCHEME),
        *("-configuration", "Release", "-destination", f"id={udid}"),
        *("-derivedDataPath", f"{folder}/build", "-allowProvisioningUpdates"),
        *(f"DEVELOPMENT_TEAM={team}", f"PRODUCT_BUNDLE_IDENTIFIER={bundle_of(team)}"),
        *("CODE_SIGN_STYLE=Automatic", f"LATBENCH_SOURCES={sources_sha256()}", "build"),
    )


def built_app(folder: str) -> str:
    """Path of what :func:`build_command` builds."""
    return f"{folder}/build/Build/Products/Release-iphoneos/{APP}"


def mac_build_command(folder: str) -> tuple[str, ...]:
    """The command line that builds the program for Macs from the sources in ``folder``."""
    return (
        *("swift", "build", "--configuration", "release", "--product", PROGRAM),
        *("--package-path", folder),
    )
