"""`latbench completion`: the scripts, and what the shell is offered."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from latbench.cli import GROUPS, cli


def offered(*words: str, registry: str = "") -> list[str]:
    """What bash is offered for the last of ``words``."""
    line = " ".join(("latbench", *words))
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; sys.argv = ['latbench']; import latbench.cli as c; c.main()",
        ],
        env={
            **os.environ,
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words)),
            "_LATBENCH_COMPLETE": "bash_complete",
            **({"LATBENCH_REGISTRY": registry} if registry else {}),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    return [each.partition(",")[2] for each in done.stdout.splitlines()]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script(shell: str) -> None:
    done = CliRunner().invoke(cli, ["completion", shell])
    assert done.exit_code == 0
    assert "_LATBENCH_COMPLETE" in done.output


def test_names_are_offered() -> None:
    assert offered("com") == ["compare", "completion"]
    assert "mobilevig_ti" in offered("run", "mobilevig_")
    assert "onnxruntime" in offered("run", "--backend", "onn")
    assert "latbench-warm@1" in offered("run", "--protocol", "latbench-w")
    assert "local" in offered("run", "--device", "loc")
    assert offered("protocols", "latbench-warm") == ["latbench-warm@1"]


def test_the_help_lists_every_command_once_in_a_group() -> None:
    listed = [name for group in GROUPS.values() for name in group]
    assert len(listed) == len(set(listed))
    shown = CliRunner().invoke(cli, ["--help"]).output
    for title in GROUPS:
        assert f"\n{title}:\n" in shown
