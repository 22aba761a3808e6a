"""Workers of each language keep to the protocol: `latbench check-worker` with each of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from latbench.errors import StageError
from latbench.worker.native import build_native, native_libraries
from support.mac.facts import mac_environment

PYTHON = (sys.executable, "-P", "-m", "latbench.worker.inference")
PERL = ("perl", str(Path(__file__).with_name("identity_worker.pl")))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="some checks look into /proc"),
]


def checked(
    command: Sequence[str], *options: str, variables: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The report of the command line, whose checks have all passed."""
    done = subprocess.run(
        [sys.executable, "-m", "latbench", "check-worker", "--json", *options, "--", *command],
        env={**os.environ, **(variables or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode in (0, 1), done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert [each for each in report["checks"] if each["outcome"] == "failed"] == []
    assert report["passed"]
    assert done.returncode == 0
    return report


def skipped(report: dict[str, Any]) -> set[str]:
    """The checks that said nothing, without those of scripts."""
    names = {each["name"] for each in report["checks"] if each["outcome"] == "skipped"}
    return {name for name in names if not name.startswith("script")}


def test_the_python_worker_and_its_scripts() -> None:
    """Without a word about backends the first one that the worker has is checked."""
    report = checked(PYTHON, "--script", f"{sys.executable} -P -m latbench.worker.script")
    assert report["backend"] == "onnxruntime"
    assert {each["outcome"] for each in report["checks"]} == {"ok"}


def test_the_python_worker_with_tflite() -> None:
    pytest.importorskip("ai_edge_litert", reason="needs the `tflite` extra")
    assert skipped(checked(PYTHON, "--backend", "tflite")) == set()


def test_the_python_worker_with_core_ml(tmp_path: Path) -> None:
    pytest.importorskip("coremltools", reason="needs the `coreml` extra")
    report = checked(PYTHON, "--backend", "coreml", variables=mac_environment(tmp_path))
    assert skipped(report) <= {"operators", "end-of-input-in-a-block"}


@pytest.mark.parametrize("backend", ["onnxruntime", "tflite"])
def test_the_native_worker(backend: str) -> None:
    try:
        program = build_native()
    except StageError as error:
        pytest.skip(error.message)
    report = checked([str(program)], "--backend", backend, variables=native_libraries())
    assert skipped(report) == {"operators"}


def test_a_worker_that_was_written_from_the_page(tmp_path: Path) -> None:
    if subprocess.run(["perl", "-MJSON::PP", "-e", "1"], check=False).returncode:
        pytest.skip("perl with JSON::PP is required")
    artifact = tmp_path / "pass.identity"
    artifact.write_text('{"identity": 4}')
    inputs = ("a=2x3:float32", "b=4:float64", "c=3:int64", "d=5:bool")
    options = [part for text in inputs for part in ("--input", text)]
    script = f"{' '.join(PERL)} script"
    report = checked(
        *(PERL, "--backend", "identity", "--artifact", str(artifact), *options),
        *("--script", script),
    )
    assert skipped(report) == {"stoppable", "readings", "pinned", "operators"}
    assert all(each["outcome"] == "ok" for each in report["checks"] if "script" in each["name"])
