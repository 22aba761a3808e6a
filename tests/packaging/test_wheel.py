"""The wheel, built and installed alone into a fresh environment: no torch, no extras."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from latbench.worker import apple
from support import onnx_files
from support.environment import ROOT

PACKAGES = {"latbench", "latbench_exporters", "latbench_runners"}
NEED_TORCH = "latbench.zoo.nets."
"""Modules of networks: they are torch classes, and are imported by building one only."""

pytestmark = pytest.mark.slow

IMPORT_ALL = f"""
import importlib, pkgutil, sys
failed = []
for package in {sorted(PACKAGES)!r}:
    for info in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        if info.name.endswith(("__main__", "migrations.env")):
            continue
        try:
            importlib.import_module(info.name)
        except ModuleNotFoundError as error:
            if not (info.name.startswith({NEED_TORCH!r}) and error.name == "torch"):
                failed.append((info.name, str(error)))
print(failed, sorted({{"torch", "timm", "onnx", "onnxruntime", "numpy"}} & set(sys.modules)))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
    subprocess.run([*command, str(ROOT)], check=True, capture_output=True)
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def alone(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment that holds the wheel and what it requires, no more."""
    place = tmp_path_factory.mktemp("alone")
    subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
    pip = [str(place / "bin/python"), "-m", "pip", "install", "--quiet"]
    constraints = ["--constraint", str(ROOT / "constraints.txt")]
    subprocess.run([*pip, "--disable-pip-version-check", *constraints, str(wheel)], check=True)
    return place / "bin"


def run(alone: Path, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {
        "LATBENCH_REGISTRY": str(folder / "registry.db"),
        "LATBENCH_CACHE": str(folder / "cache"),
    }
    program = [str(alone / command[0]), *command[1:]]
    return subprocess.run(
        program, capture_output=True, text=True, check=False, cwd=folder, env=environment
    )


def test_it_holds_exactly_the_three_packages(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        devices = archive.read("latbench/devices/devices.yaml")
        claims = archive.read("latbench/data/claims.yaml")
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == PACKAGES
    assert devices == (ROOT / "devices.yaml").read_bytes()
    assert claims == (ROOT / "claims.yaml").read_bytes()
    for package in PACKAGES:
        assert f"{package}/py.typed" in names
    assert "latbench/store/migrations/versions/0001_records.py" in names
    sources = {path.name for path in (ROOT / "runners/native-worker").iterdir()}
    assert {f"latbench/worker/native_worker/{name}" for name in sources} <= set(names)
    swift = {path.relative_to(apple.APPLE_SOURCES).as_posix() for path in apple.app_sources()}
    assert {f"latbench/worker/apple_worker/{name}" for name in swift} <= set(names)
    assert not [name for name in names if "__pycache__" in name or "tests" in name]


def test_every_module_imports_without_extras(alone: Path, tmp_path: Path) -> None:
    done = run(alone, tmp_path, "python", "-c", IMPORT_ALL)
    assert done.stdout.strip() == "[] []", done.stdout + done.stderr


def test_a_ready_file_runs_and_is_read_back(alone: Path, tmp_path: Path) -> None:
    assert run(alone, tmp_path, "python", "-c", "import torch").returncode != 0
    onnx_files.classifier(tmp_path / "c.onnx")
    quick = ("--protocol", "latbench-fixed@1", "--processes", "1", "--warmup", "2", "--calls", "3")
    ran = run(alone, tmp_path, "latbench", "run", "--model", "c.onnx", *quick)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    shown = run(alone, tmp_path, "latbench", "show")
    assert "c.onnx" in shown.stdout
    for command in (("models",), ("backends",), ("devices",), ("doctor",)):
        assert run(alone, tmp_path, "latbench", *command).returncode == 0


def test_what_is_missing_is_told(alone: Path, tmp_path: Path) -> None:
    for model, extra in (("mobilevig_ti", "export"), ("timm:resnet18", "export")):
        done = run(alone, tmp_path, "latbench", "run", "--model", model)
        assert done.returncode == 3
        assert f"pip install 'latbench[{extra}]'" in done.stdout
        assert "Traceback" not in done.stderr
    done = run(alone, tmp_path, "latbench", "show", "--registry", "postgresql://x/y")
    assert done.returncode == 3
    assert "pip install 'latbench[postgresql]'" in done.stderr
