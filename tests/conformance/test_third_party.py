"""A backend of somebody else's, installed beside latbench, with nothing of latbench changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.environment import ROOT, TESTS, python_path

EXAMPLE = ROOT / "examples/toy-backend"
QUICK = ("--protocol", "latbench-fixed@1", "--processes", "1", "--warmup", "2", "--calls", "3")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The toy package, really built and installed, on the path of child processes only."""
    pytest.importorskip("hatchling", reason="building the toy package needs hatchling")
    site = tmp_path_factory.mktemp("site")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"),
            *("--no-build-isolation", "--disable-pip-version-check"),
            *("--target", str(site), str(EXAMPLE)),
        ],
        check=True,
    )
    return {
        **os.environ,
        "PYTHONPATH": python_path(site),
        "LATBENCH_REGISTRY": str(site / "registry.db"),
    }


def latbench(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "latbench", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


def test_it_is_listed(environment: dict[str, str]) -> None:
    listed = json.loads(latbench(environment, "backends", "--json").stdout)
    assert {"toy", "onnxruntime"} <= {backend["name"] for backend in listed}


@pytest.mark.torch
def test_it_measures_a_users_model(environment: dict[str, str], tmp_path: Path) -> None:
    model = tmp_path / "chain.py"
    model.write_text(
        "from torch import nn\n"
        "def factory():\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.GELU(),\n"
        "                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))\n"
    )
    done = latbench(
        environment,
        *("run", "--model", f"{model}:factory", "--backend", "toy"),
        *("--resolution", "16", *QUICK, "--json"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads(done.stdout)["record"]
    assert record["backend"] == record["request"]["backend"] == "toy"
    assert record["artifact"]["counts"] == record["artifact"]["model_counts"]
    assert record["runtime"]["placement"]["units"] == {"numpy": 5}
    strange = tmp_path / "strange.py"
    strange.write_text(
        "from torch import nn\ndef factory(): return nn.Sequential(nn.Conv2d(3, 4, 1), nn.Tanh())\n"
    )
    done = latbench(environment, "run", "--model", f"{strange}:factory", "--backend", "toy", *QUICK)
    assert done.returncode == 3
    assert "does not support layer Tanh" in done.stdout


@pytest.mark.slow
@pytest.mark.torch
def test_it_passes_the_conformance_suites(environment: dict[str, str]) -> None:
    suites = [str(TESTS / f"conformance/test_{what}.py") for what in ("exporters", "runners")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-k", "toy", "-p", "no:cacheprovider", *suites],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
    assert "toy" in latbench(environment, "backends").stdout
