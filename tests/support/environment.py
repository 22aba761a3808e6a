"""Paths in the checkout, and the environment of programs that tests start."""

from __future__ import annotations

import os
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
GOLDEN = TESTS / "golden"
TINY = f"{TESTS / 'support' / 'models.py'}:factory"
"""A user's own model, as ``--model`` takes it."""


def python_path(*first: Path | str) -> str:
    """A PYTHONPATH with ``first``, this folder of tests, and then what is already on it.

    Keeping what is there lets a child process import the same checkout of latbench as its parent.
    """
    here = [str(place) for place in (*first, TESTS)]
    return os.pathsep.join([*here, *filter(None, [os.environ.get("PYTHONPATH")])])


def child_environment(**changes: str) -> dict[str, str]:
    """This process's environment with the tests' helpers importable, and ``changes``."""
    return {**os.environ, "PYTHONPATH": python_path(), **changes}
