"""A probe of the native worker's parts, compiled once, and the libraries of the runtimes."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from latbench.worker.native import SOURCES, native_libraries
from support.native_build import sanitized

PARTS = (
    *("android", "counters", "digest", "inputs", "json", "machine", "npz", "sensors", "sysfs"),
    *("tensor", "text"),
)
"""Sources that need no runtime."""


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
