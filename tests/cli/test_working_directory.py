"""Programs that a command starts import nothing from the working directory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from latbench.cli import COMMANDS
from support.command_line import QUICK
from support.environment import TINY
from support.onnx_files import classifier

MODULES = (
    *("types", "json", "re", "signal", "sitecustomize", "usercustomize", "queue", "numpy"),
    *("torch", "onnx", "onnxruntime", "timm", "msgspec", "psutil", "latbench_runners"),
)
STARTING: dict[str, tuple[tuple[str, ...], ...]] = {
    "run": (("run", *QUICK, "model.onnx", "--profile"),),
    "compare": (("compare", *QUICK, "model.onnx", "model.onnx,threads=1"),),
    "plan": (("plan", "model.onnx"),),
    "export": (("export", TINY, "--no-cache"),),
    "verify": (("verify", "model.onnx"),),
    "claims": (("claims", "check", "ghostnetv2-100-macs"),),
    "backends": (("backends",),),
    "doctor": (("doctor",),),
    "inspect": (("inspect", "model.onnx"),),
}
"""Commands that start programs or ask foreign packages, by name."""
QUIET = {
    *("show", "table", "history", "profile", "plot", "bundle", "devices", "models"),
    *("protocols", "import", "completion", "collect"),
    # Of the programs that these start, the user names each.
    *("check-worker", "reported"),
    "papers",  # counts networks by the same program as `claims check`, of all papers
}
"""Commands that start none of their own."""


def test_every_command_is_considered() -> None:
    assert set(STARTING) | QUIET == set(COMMANDS)


@pytest.mark.torch
@pytest.mark.parametrize("name", STARTING)
def test_a_program_imports_nothing_from_the_working_directory(
    environment: dict[str, str], tmp_path: Path, name: str
) -> None:
    here, marker = tmp_path / "here", tmp_path / "imported"
    here.mkdir()
    classifier(here / "model.onnx")
    for module in MODULES:
        note = f"with open({str(marker)!r}, 'a') as file:\n    file.write({module!r} + ' ')\n"
        (here / f"{module}.py").write_text(note)
        (here / module).mkdir()
        (here / module / "__init__.py").write_text(note)
    # What a developer's PYTHONPATH holds must not be the working directory either.
    path = [each for each in environment.get("PYTHONPATH", "").split(os.pathsep) if each]
    for arguments in STARTING[name]:
        ended = subprocess.run(
            [sys.executable, "-P", "-m", "latbench", *arguments],
            cwd=here,
            env={
                **environment,
                "PYTHONPATH": os.pathsep.join(path),
                "XDG_CACHE_HOME": str(tmp_path / "cache"),
                "LATBENCH_CACHE": str(tmp_path / "cache"),
            },
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert not marker.exists(), marker.read_text()
        assert ended.returncode in (0, 1, 4), ended
