"""The worker for Apple devices, compiled for Linux against a stand-in of Core ML.

The stand-in is in ``standin/``: the declarations of Core ML that the worker uses, and a program that
executes models with the kernels of ``latbench verify``. It shows that the sources compile and that
the worker keeps to the protocol, not what Core ML does.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.environment import python_path
from support.mac.facts import FOLDER
from support.swift import compiled_worker, why_unavailable

KERNELS = "LATBENCH_STANDIN_KERNELS"
STAND_IN = Path(__file__).parent / "standin"


@pytest.fixture(scope="session")
def apple_program() -> tuple[str, ...]:
    """The command of the worker."""
    if (reason := why_unavailable()) is not None:
        pytest.skip(reason)
    return compiled_worker()


@pytest.fixture(scope="session")
def kernels(
    apple_program: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The socket of the program that executes models for the stand-in."""
    pytest.importorskip("coremltools", reason="needs the `coreml` extra")
    pytest.importorskip("torch", reason="needs the `export` extra")
    folder = tmp_path_factory.mktemp("kernels")
    with (
        (folder / "errors.txt").open("w") as errors,
        subprocess.Popen(
            [sys.executable, str(STAND_IN / "kernels.py"), str(folder / "socket")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, "PYTHONPATH": python_path(FOLDER), "TMPDIR": str(folder)},
            text=True,
        ) as program,
    ):
        assert program.stdout is not None
        assert program.stdout.readline(), (folder / "errors.txt").read_text()[-3000:]
        yield str(folder / "socket")
        program.kill()


@pytest.fixture
def apple(
    apple_program: tuple[str, ...], kernels: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, ...]:
    """The command of the worker, which finds the stand-in's kernels."""
    monkeypatch.setenv(KERNELS, kernels)
    return apple_program
