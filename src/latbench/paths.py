"""Locations of the cache, the registry and the user's own files."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from latbench.errors import LatbenchError
from latbench.file_names import shown_name


def cache_folder() -> Path:
    """``LATBENCH_CACHE``, else the user's cache folder. Raises :class:`LatbenchError`.

    Its path is UTF-8, whatever the names of the files that are measured: runtimes open it.
    """
    if named := os.environ.get("LATBENCH_CACHE"):
        folder = Path(named)
    else:
        folder = _of_user("Library/Caches/latbench", "LOCALAPPDATA", "XDG_CACHE_HOME", ".cache")
        folder = folder / "cache" if sys.platform == "win32" else folder
    absolute = str(folder.absolute())
    if shown_name(absolute) != absolute:
        raise LatbenchError(
            f"the path of the artifact cache is not UTF-8: {absolute}",
            hint="set LATBENCH_CACHE to another folder",
        )
    return folder


def data_folder() -> Path:
    """The folder of the registry. Raises :class:`LatbenchError`."""
    own = "Library/Application Support/latbench"
    return _of_user(own, "LOCALAPPDATA", "XDG_DATA_HOME", ".local/share")


def config_folder() -> Path:
    """The folder of the user's own devices and claims. Raises :class:`LatbenchError`."""
    own = "Library/Application Support/latbench"
    return _of_user(own, "APPDATA", "XDG_CONFIG_HOME", ".config")


def _of_user(macos: str, windows: str, xdg: str, below_home: str) -> Path:
    if sys.platform == "darwin":
        return _home() / macos
    named = os.environ.get(windows if sys.platform == "win32" else xdg)
    if named:
        return Path(named) / "latbench"
    return (_home() if sys.platform == "win32" else _home() / below_home) / "latbench"


def _home() -> Path:
    try:
        home = Path.home()
    except RuntimeError:
        home = Path()
    # Python takes an empty HOME for the root.
    if home.is_absolute() and os.environ.get("HOME") != "":
        return home
    raise LatbenchError(
        "this user has no home folder",
        hint="set HOME, or LATBENCH_CACHE, LATBENCH_REGISTRY and XDG_CONFIG_HOME",
    )
