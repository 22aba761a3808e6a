"""Folders of the user."""

from __future__ import annotations

import sys

import pytest

from latbench.errors import LatbenchError
from latbench.paths import cache_folder, config_folder, data_folder

XDG = ("XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "LATBENCH_CACHE")


@pytest.mark.skipif(sys.platform == "win32", reason="HOME is not used there")
@pytest.mark.parametrize("home", ["", "relative"])
def test_a_home_that_is_none(monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    """The registry must not be in the root or the working directory."""
    for name in XDG:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", home)
    for folder in (cache_folder, data_folder, config_folder):
        with pytest.raises(LatbenchError, match="no home folder"):
            folder()
