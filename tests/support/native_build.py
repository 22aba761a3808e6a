"""The native worker's sources, compiled with sanitizers."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from latbench.paths import cache_folder
from latbench.version import latbench_version
from latbench.worker.native import SOURCES

SANITIZED = (
    *("-std=c++17", "-O1", "-g", "-pthread", "-ffp-contract=off"),
    *("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"),
)


def sanitized(sources: Sequence[Path]) -> Path:
    """The program of ``sources``, compiled with sanitizers and kept in the cache folder."""
    digest = hashlib.sha256(repr((SANITIZED, latbench_version())).encode())
    for path in (*sources, *sorted(SOURCES.glob("*.h"))):
        digest.update(path.read_bytes())
    place = cache_folder() / "native-sanitized" / digest.hexdigest()[:32]
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
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
