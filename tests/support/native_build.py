"""The native worker for this machine, compiled once.

With ``LATBENCH_TEST_SANITIZE=1`` it is compiled with sanitizers: the conversations, the scripts and
the runtimes then run under them.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from latbench.errors import StageError
from latbench.files import exclusive
from latbench.paths import cache_folder
from latbench.version import latbench_version
from latbench.worker.native import SOURCES, build_native

SANITIZED = (
    # Optimizing takes twice as long as all that the tests do with the program.
    *("-std=c++17", "-O0", "-g", "-pthread", "-ffp-contract=off"),
    *("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"),
)


def sanitized(sources: Sequence[Path]) -> Path:
    """The program of ``sources``, compiled with sanitizers and kept in the cache folder."""
    digest = hashlib.sha256(repr((SANITIZED, latbench_version())).encode())
    for path in (*sources, *sorted(SOURCES.glob("*.h"))):
        digest.update(path.read_bytes())
    place = cache_folder() / "native-sanitized" / digest.hexdigest()[:32]
    place.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(place.with_suffix(".lock")):
        if place.exists():
            return place
        stated = f'-DLATBENCH_VERSION="{latbench_version()}"'
        command = [os.environ.get("CXX", "g++"), *SANITIZED, stated, f"-I{SOURCES}"]
        beside = place.with_suffix(f".{os.getpid()}")
        try:
            parts = [*command, *map(str, sources), "-o", str(beside), "-ldl"]
            subprocess.run(parts, check=True, capture_output=True)
        except FileNotFoundError:
            pytest.skip("a C++ compiler is required")
        beside.rename(place)
    return place


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
