"""Readings of macOS. The Objective-C runtime is a library that the test compiles."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from latbench_runners.coreml import system

RUNTIME = """
#include <string.h>
static const char process[] = "a process";
void *objc_getClass(const char *name) { return strcmp(name, "NSProcessInfo") ? 0 : (void *)name; }
const char *sel_registerName(const char *name) { return name; }
void *objc_msgSend(void *object, const char *selector) {
    if (!strcmp(selector, "processInfo")) return object ? (void *)process : 0;
    return object == process && !strcmp(selector, "thermalState") ? (void *)STATE : (void *)-1;
}
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
@pytest.mark.parametrize(
    ("state", "expected"), [(0, "nominal"), (2, "serious"), (3, "critical"), (7, "state 7")]
)
def test_the_thermal_state_is_that_of_process_info(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: int, expected: str
) -> None:
    source, library = tmp_path / "objc.c", tmp_path / f"libobjc{state}.so"
    source.write_text(RUNTIME)
    command = ("cc", "-w", "-shared", "-fPIC", f"-DSTATE={state}L", source, "-o", library)
    subprocess.run(command, check=True)
    monkeypatch.setattr(system, "RUNTIME", str(library))
    monkeypatch.setattr(system, "FOUNDATION", str(library))
    assert system.thermal_state() == expected


def test_elsewhere_readings_are_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RUNTIME", "FOUNDATION"):
        monkeypatch.setattr(system, name, "/nowhere/lib.dylib")
    monkeypatch.setenv("PATH", "/nowhere")
    assert system.thermal_state() is None
    assert system.build() is None
    monkeypatch.setattr(system, "RUNTIME", None)
    monkeypatch.setattr(system, "FOUNDATION", None)
    assert system.thermal_state() is None, "this program has no Objective-C"


def test_the_build_is_what_sw_vers_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "sw_vers"
    program.write_text('#!/bin/sh\n[ "$1" = -buildVersion ] && echo 24F74\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert system.build() == "24F74"
