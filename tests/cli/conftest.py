"""The command line with a registry and a data folder of each test's own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from support.command_line import COMMAND, Ended, Latbench
from support.environment import child_environment


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A registry and a data folder of the test's own; the cache is shared by all tests."""
    return child_environment(
        LATBENCH_REGISTRY=str(tmp_path / "registry.db"),
        XDG_DATA_HOME=str(tmp_path / "data"),
        COLUMNS="100",
    )


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
