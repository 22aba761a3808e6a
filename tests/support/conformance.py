"""`latbench check-worker` with workers that keep to the protocol."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any


def checked(
    command: Sequence[str], *options: str, variables: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The report of the command line, whose checks have all passed."""
    done = subprocess.run(
        [sys.executable, "-m", "latbench", "check-worker", "--json", *options, "--", *command],
        env={**os.environ, **(variables or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode in (0, 1), done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert [each for each in report["checks"] if each["outcome"] == "failed"] == []
    assert report["passed"]
    assert done.returncode == 0
    return report


def skipped(report: dict[str, Any]) -> set[str]:
    """The checks that said nothing, without those of scripts."""
    names = {each["name"] for each in report["checks"] if each["outcome"] == "skipped"}
    return {name for name in names if not name.startswith("script")}
