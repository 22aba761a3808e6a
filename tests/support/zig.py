"""The compiler for other targets than this machine, from PyPI's package of it."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

PACKAGE = "ziglang>=0.17,<0.18"


def use_zig(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make it importable, here and in programs that are started; skip where it cannot be had."""
    if find_spec("ziglang") is not None:
        return
    cache = Path(f"{os.environ['LATBENCH_CACHE']}-devices")
    place = cache / "zig"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "zig.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "done").exists():
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
            done = subprocess.run(
                [*command, "--target", str(place), PACKAGE],
                capture_output=True,
                text=True,
                check=False,
                timeout=600,
            )
            if done.returncode:
                pytest.skip(f"ziglang cannot be had: {done.stderr.strip()[-300:]}")
            (place / "done").touch()
    monkeypatch.syspath_prepend(str(place))
    before = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(place), before))))
