"""Command lines mean the same in every login shell, whatever the shell prints first."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from latbench.devices.login_shell import after_greeting, login_shell_line
from support import debian

ODD = "a 'b' \"c\" $HOME `id` ; & | \\ \\\\ \\0 * ~ ! !! {x} <y> # % ^ \t ü\nline\n"
COMMAND = ("printf", "%s|", ODD, "")


def printed(*shell: str) -> None:
    """Check what the line prints in a shell."""
    line = login_shell_line(COMMAND, {"NAME": ODD})
    done = subprocess.run([*shell, line], capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert after_greeting(done.stdout) == f"{ODD}||".encode()


@pytest.mark.parametrize("shell", ["sh", "bash", "ksh", "mksh", "zsh"])
def test_shells_that_are_installed(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    printed(shell, "-c")


PACKAGES = ("tcsh", "fish", "dash", "coreutils")


def unpacked(folder: Path) -> Path:
    return debian.unpacked(
        folder / "root", debian.download(folder / "packages", PACKAGES), shell="dash"
    )


@pytest.mark.slow
def test_csh_and_fish() -> None:
    if os.getuid() != 0 or debian.why_unavailable():
        pytest.skip("another root folder needs root and Debian's packages")
    cache = Path(f"{os.environ['LATBENCH_CACHE']}-devices")
    try:
        root = debian.made_once(cache, "shells", PACKAGES, unpacked)
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"the shells cannot be fetched: {error}")
    for shell in ("/bin/tcsh", "/usr/bin/fish"):
        printed("chroot", str(root), shell, "-c")


@pytest.mark.parametrize("greeting", [b"", b"welcome\n", b"no line break", b'{"type": "hello"}\n'])
def test_greetings_are_dropped(greeting: bytes) -> None:
    line = login_shell_line(("echo", "result"), {})
    done = subprocess.run(["sh", "-c", line], capture_output=True, check=True, timeout=60)
    assert after_greeting(greeting + done.stdout) == b"result\n"
    assert after_greeting(greeting) is None
