"""Every benchmark runs: with tiny sizes, and without a word about how fast it was."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.environment import ROOT, child_environment

SCRIPTS = sorted((ROOT / "benchmarks").rglob("*.py"))


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_benchmark_runs(script: Path, tmp_path: Path) -> None:
    """A new script needs a ``--smoke`` mode that ends within seconds."""
    done = subprocess.run(
        [sys.executable, str(script), "--smoke"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=child_environment(LATBENCH_REGISTRY=str(tmp_path / "registry.db")),
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
