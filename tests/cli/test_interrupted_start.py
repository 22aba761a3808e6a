"""Ctrl-C while the command line is still being loaded."""

from __future__ import annotations

import subprocess
import sys

from support.environment import child_environment

START = """
import sys
class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == "latbench.cli":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupts())
from latbench.__main__ import main
main()
"""


def test_it_ends_in_words() -> None:
    done = subprocess.run(
        [sys.executable, "-c", START],
        env=child_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "latbench: interrupted\n")
