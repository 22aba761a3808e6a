"""The command line with a registry and a data folder of each test's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.command_line import Ended, Latbench, in_process, in_subprocess
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
    """Run a command in ``tmp_path``; no expected error may show a traceback.

    A changed PYTHONPATH changes what can be imported, so that command is a program of its own.
    """

    def call(*arguments: str | Path, **changes: str) -> Ended:
        start = in_subprocess if "PYTHONPATH" in changes else in_process
        ended = start([str(each) for each in arguments], {**environment, **changes}, tmp_path)
        assert "Traceback" not in ended.err, ended.err
        assert ended.status in (0, 1, 2, 3, 4), ended
        return ended

    return call
