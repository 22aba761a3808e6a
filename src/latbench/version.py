"""The version of the installed latbench, which `pyproject.toml` states once."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def latbench_version() -> str:
    """The installed version, from the package metadata; ``0+unknown`` in a tree that is not
    installed."""
    try:
        return version("latbench")
    except PackageNotFoundError:
        return "0+unknown"
