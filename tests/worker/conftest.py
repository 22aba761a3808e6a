"""The native worker, compiled once.

With ``LATBENCH_TEST_SANITIZE=1`` it is compiled with the sanitizers, and the conversations, the
scripts and the runtimes run under them.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from latbench.errors import StageError
from latbench.worker.native import SOURCES, build_native
from support.native_build import sanitized


@pytest.fixture(scope="session")
def native_program(_apart_from_the_user: None) -> Path:
    """The worker for this machine; its tests are skipped without a compiler."""
    if os.environ.get("LATBENCH_TEST_SANITIZE"):
        return sanitized(sorted(SOURCES.glob("*.cpp")))
    try:
        return build_native()
    except StageError as error:
        if error.kind != "unavailable":
            raise
        pytest.skip(error.message)
