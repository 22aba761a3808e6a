"""Fixtures of the test bed's own tests."""

from __future__ import annotations

import shutil

import pytest


@pytest.fixture
def compiler() -> str:
    """The C compiler that the wrong wall clock is built with."""
    found = shutil.which("cc")
    if found is None:
        pytest.skip("no C compiler")
    return found
