"""Workers of each language keep to the protocol: `latbench check-worker` with each of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.conformance import checked, skipped
from support.mac.facts import mac_environment

PYTHON = (sys.executable, "-P", "-m", "latbench.worker.inference")
PERL = ("perl", str(Path(__file__).with_name("identity_worker.pl")))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="some checks look into /proc"),
]


def test_the_python_worker_and_its_scripts() -> None:
    """Without a word about backends the first one that the worker has is checked."""
    report = checked(PYTHON, "--script", f"{sys.executable} -P -m latbench.worker.script")
    assert report["backend"] == "onnxruntime"
    assert skipped(report) <= {"cpus"}
    assert all(each["outcome"] == "ok" for each in report["checks"] if "script" in each["name"])


def test_the_python_worker_with_tflite() -> None:
    pytest.importorskip("ai_edge_litert", reason="needs the `tflite` extra")
    assert skipped(checked(PYTHON, "--backend", "tflite")) <= {"cpus"}


def test_the_python_worker_with_core_ml(tmp_path: Path) -> None:
    """Without the checks that start it again: coremltools takes seconds, a minute under load."""
    pytest.importorskip("coremltools", reason="needs the `coreml` extra")
    names = ("capabilities", "broken-file", "period", "readings", "peak-memory", "failed-open")
    names += ("inputs-values", "inputs-range", "inputs-random", "inputs-file", "open-again")
    only = [part for name in (*names, "only-responses") for part in ("--only", name)]
    only += ["--timeout", "240"]
    report = checked(PYTHON, "--backend", "coreml", *only, variables=mac_environment(tmp_path))
    assert skipped(report) == set()


def test_a_worker_that_was_written_from_the_page(tmp_path: Path) -> None:
    if subprocess.run(["perl", "-MJSON::PP", "-e", "1"], check=False).returncode:
        pytest.skip("perl with JSON::PP is required")
    artifact = tmp_path / "pass.identity"
    artifact.write_text('{"identity": 4}')
    inputs = ("a=2x3:float32", "b=4:float64", "c=3:int64", "d=5:bool")
    options = [part for text in inputs for part in ("--shape", text)]
    script = f"{' '.join(PERL)} script"
    report = checked(
        *(PERL, "--backend", "identity", "--artifact", str(artifact), *options),
        *("--script", script),
    )
    assert skipped(report) == {"stoppable", "readings", "pinned", "cpus", "operators"}
    assert all(each["outcome"] == "ok" for each in report["checks"] if "script" in each["name"])
