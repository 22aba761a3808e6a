"""Versions of installed packages, and the error for a missing one."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from latbench.api import StageError


def installed(*packages: str) -> Mapping[str, str]:
    """Versions of the installed ones among ``packages``, without importing any."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def require(package: str, what: str, extra: str) -> None:
    """Raise :class:`StageError` (kind ``unavailable``) unless ``package`` is installed.

    ``what`` is the operation that requires it, ``extra`` the extra of latbench that installs it.
    """
    if not installed(package):
        raise StageError(
            "export",
            f"{what} requires {package}, which is not installed",
            hint=f"pip install 'latbench[{extra}]'",
            kind="unavailable",
        )
