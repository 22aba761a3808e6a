"""Which packages shape a file, and what to say where one is missing."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from latbench.api import StageError


def installed(*packages: str) -> Mapping[str, str]:
    """Versions of those that are installed; imports none of them."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def require(package: str, what: str, extra: str) -> None:
    """Raise :class:`StageError` unless ``package`` is installed; ``what`` needs it."""
    if not installed(package):
        raise StageError(
            "export",
            f"{what} needs {package}, which is not installed",
            hint=f"pip install 'latbench[{extra}]'",
            kind="unavailable",
        )
