"""Programs that latbench starts show no credentials to other users."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.command_line import COMMAND, QUICK, wait_for_workers
from support.onnx_files import classifier


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_worker_knows_no_registry(environment: dict[str, str], tmp_path: Path) -> None:
    classifier(tmp_path / "model.onnx")
    secret = str(tmp_path / "secret.db")
    started = subprocess.Popen(
        [*COMMAND, "run", *QUICK, "--processes", "5", "model.onnx"],
        cwd=tmp_path,
        env={**environment, "LATBENCH_REGISTRY": secret},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        (worker, *_) = wait_for_workers(started.pid, 1)
        for what in ("cmdline", "environ"):
            assert b"secret" not in Path(f"/proc/{worker}/{what}").read_bytes()
    finally:
        started.kill()
        started.wait()
