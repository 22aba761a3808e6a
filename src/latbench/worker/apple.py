"""The app for iPhones and iPads: where its sources are, and how a Mac builds it."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

_PACKAGED = Path(__file__).parent / "apple_worker"
SOURCES = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).parents[3] / "runners/apple-worker"
"""The folder of the sources: in the installed package, or in a checkout."""
SCHEME = "LatbenchWorker"
APP = f"{SCHEME}.app"
BACKENDS = ("coreml",)
"""What the app runs."""


def bundle_of(team: str) -> str:
    """The identifier of the app that a team signs: each belongs to one team."""
    return f"dev.latbench.worker.{team.lower()}"


@cache
def sources_sha256() -> str:
    """Digest of the sources."""
    digest = hashlib.sha256()
    for path in app_sources():
        name = path.relative_to(SOURCES).as_posix()
        digest.update(name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def app_sources() -> tuple[Path, ...]:
    """The files that the app is built from, in a fixed order."""
    found = (each for each in SOURCES.rglob("*") if each.is_file())
    return tuple(sorted(each for each in found if ".build" not in each.parts))


def build_command(team: str, udid: str, folder: str) -> tuple[str, ...]:
    """The command line that builds and signs the app in ``folder`` on a Mac."""
    return (
        *("xcodebuild", "-project", f"{folder}/sources/{SCHEME}.xcodeproj", "-scheme", SCHEME),
        *("-configuration", "Release", "-destination", f"id={udid}"),
        *("-derivedDataPath", f"{folder}/build", "-allowProvisioningUpdates"),
        *(f"DEVELOPMENT_TEAM={team}", f"PRODUCT_BUNDLE_IDENTIFIER={bundle_of(team)}"),
        *("CODE_SIGN_STYLE=Automatic", f"LATBENCH_SOURCES={sources_sha256()}", "build"),
    )


def built_app(folder: str) -> str:
    """Path of what :func:`build_command` builds."""
    return f"{folder}/build/Build/Products/Release-iphoneos/{APP}"
