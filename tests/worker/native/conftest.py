"""The native worker and a probe of its parts, each compiled once.

With ``LATBENCH_TEST_SANITIZE=1`` the whole worker is compiled with the sanitizers too, and the
conversations and the runtimes run under them.
"""

from __future__ import annotations

import hashlib
import os
import struct
import subprocess
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest

from latbench.errors import StageError
from latbench.paths import cache_folder
from latbench.version import latbench_version
from latbench.worker.native import SOURCES, build_native, native_libraries

SANITIZED = (
    *("-std=c++17", "-O1", "-g", "-pthread", "-ffp-contract=off"),
    *("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"),
)
PARTS = (
    *("android", "counters", "digest", "inputs", "json", "machine", "npz", "sensors", "sysfs"),
    *("tensor", "text"),
)
"""Sources that need no runtime."""


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


@pytest.fixture(autouse=True)
def _native_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runtimes of the installed packages."""
    for name, value in native_libraries().items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session")
def probe_program(_apart_from_the_user: None) -> Path:
    """``probe.cpp`` with the parts of the worker, under the address and undefined sanitizers."""
    return sanitized(
        [Path(__file__).with_name("probe.cpp"), *(SOURCES / f"{part}.cpp" for part in PARTS)]
    )


Probe = Callable[[str, Iterable[bytes]], list[str]]


@pytest.fixture
def probe(probe_program: Path) -> Probe:
    """Answers of the probe to documents; a finding of a sanitizer fails the test."""

    def ask(what: str, documents: Iterable[bytes]) -> list[str]:
        given = b"".join(struct.pack("<I", len(each)) + each for each in documents)
        done = subprocess.run([probe_program, what], input=given, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode(errors="replace")[-3000:]
        return done.stdout.decode(errors="replace").split("\n")[:-1]

    return ask
