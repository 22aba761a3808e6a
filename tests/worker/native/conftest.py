"""The native worker and a probe of its parts, each compiled once."""

from __future__ import annotations

import hashlib
import os
import struct
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from latbench.errors import StageError
from latbench.paths import cache_folder
from latbench.worker.native import SOURCES, build_native, native_libraries

SANITIZED = ("-std=c++17", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
PARTS = ("counters", "digest", "inputs", "json", "machine", "npz", "sysfs", "tensor", "text")
"""Sources that need no runtime."""


@pytest.fixture(scope="session")
def native_program(_apart_from_the_user: None) -> Path:
    """The worker for this machine; its tests are skipped without a compiler."""
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
    own = Path(__file__).with_name("probe.cpp")
    sources = [own, *(SOURCES / f"{part}.cpp" for part in PARTS)]
    digest = hashlib.sha256()
    for path in (*sources, *SOURCES.glob("*.h")):
        digest.update(path.read_bytes())
    place = cache_folder() / "native-probe" / digest.hexdigest()[:32]
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        compiler = os.environ.get("CXX", "g++")
        command = [compiler, *SANITIZED, "-ffp-contract=off", f"-I{SOURCES}", *map(str, sources)]
        beside = place.with_suffix(f".{os.getpid()}")
        try:
            subprocess.run([*command, "-o", str(beside)], check=True, capture_output=True)
        except FileNotFoundError:
            pytest.skip("a C++ compiler is required")
        beside.rename(place)
    return place


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
