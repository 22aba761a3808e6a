"""The product through its own command line, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parent.parent
COMMAND = [sys.executable, "-m", "latbench"]
QUICK = ("--processes", "2", "--warmup", "3", "--blocks", "2", "--block-calls", "5")


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Latbench = Callable[..., Ended]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A registry and a data folder of the test's own; the cache is shared by all tests."""
    return {
        **os.environ,
        "LATBENCH_REGISTRY": str(tmp_path / "registry.db"),
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "PYTHONPATH": str(TESTS),
        "COLUMNS": "100",
    }


@pytest.fixture
def latbench(environment: dict[str, str], tmp_path: Path) -> Latbench:
    """Run a command in ``tmp_path``; no expected error may show a traceback."""

    def call(*arguments: str | Path, **changes: str) -> Ended:
        done = subprocess.run(
            [*COMMAND, *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env={**environment, **changes},
            timeout=300,
        )
        ended = Ended(status=done.returncode, out=done.stdout, err=done.stderr)
        assert "Traceback" not in ended.err, ended.err
        assert ended.status in (0, 1, 2, 3, 4), ended
        return ended

    return call
