"""The predecessor of LiteRT, in an environment of its own: it needs numpy 1."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from latbench.api import ExportSpec
from support.environment import ROOT

OLD = ROOT / ".venv/tflite-runtime/bin/latbench"
QUICK = ("--protocol", "latbench-fixed@1", "--processes", "1", "--warmup", "2", "--calls", "5")


@pytest.mark.torch
@pytest.mark.skipif(not OLD.exists(), reason="`make .venv/tflite-runtime.stamp` makes it")
def test_the_same_runner_times_both(tmp_path: Path) -> None:
    pytest.importorskip("litert_torch")
    from latbench_exporters.tflite.exporter import exporter
    from support.models import TinyModel

    path = tmp_path / "tiny.tflite"
    exporter().export(TinyModel(), ExportSpec(), path)
    found = {}
    for name, command in {
        "tflite-runtime": [str(OLD)],
        "ai-edge-litert": [sys.executable, "-m", "latbench"],
    }.items():
        done = subprocess.run(
            [*command, "run", "--model", str(path), "--backend", "tflite", *QUICK, "--json"],
            capture_output=True,
            text=True,
            check=False,
            env={
                **os.environ,
                "LATBENCH_REGISTRY": str(tmp_path / f"{name}.db"),
                "LATBENCH_CACHE": str(tmp_path / name),
            },
        )
        assert done.returncode == 0, done.stdout + done.stderr
        found[name] = json.loads(done.stdout)["record"]
    for name, record in found.items():
        assert record["backend"] == "tflite"
        assert record["runtime"]["settings"]["runtime"] == name
        assert record["outcome"]["checks"][0]["max_rel_error"] <= 1e-5
    old, new = found["tflite-runtime"], found["ai-edge-litert"]
    assert old["artifact"]["sha256"] == new["artifact"]["sha256"]
    assert old["runtime"]["version"].startswith("2.14")
    assert old["runtime"]["settings"]["runtime_version"] == "2.14.0"
