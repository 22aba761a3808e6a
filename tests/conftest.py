"""Shared by all tests: nothing of the user's is touched."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(scope="session", autouse=True)
def _apart_from_the_user(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Registry, devices and cache below a folder of this test run; a cache may be kept by name."""
    home = tmp_path_factory.mktemp("home")
    os.environ["LATBENCH_REGISTRY"] = str(home / "registry.db")
    os.environ["XDG_CONFIG_HOME"] = str(home / "config")
    os.environ["XDG_DATA_HOME"] = str(home / "data")
    os.environ["LATBENCH_CACHE"] = os.environ.get("LATBENCH_TEST_CACHE") or str(home / "cache")
    os.environ.pop("LATBENCH_DEVICES", None)
