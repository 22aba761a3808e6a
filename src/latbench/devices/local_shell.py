"""This machine as something that runs commands and takes files, as a device does."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from latbench.devices.transport import Completed
from latbench.errors import StageError


class LocalShell:
    """This machine."""

    kind = "local"

    def run(self, command: Sequence[str], *, timeout_s: float, stdin: bytes = b"") -> Completed:
        """Run a command to its end. Raises :class:`StageError`."""
        try:
            done = subprocess.run(
                command, input=stdin, capture_output=True, timeout=timeout_s, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise StageError(
                "probe", f"{command[0]} did not end within {timeout_s:g} s", kind="timeout"
            ) from error
        except OSError as error:  # Windows has no sh, Linux no xcrun.
            raise StageError(
                "probe", f"cannot start {command[0]}: {error.strerror}", kind="unavailable"
            ) from error
        return Completed(status=done.returncode, stdout=done.stdout, stderr=done.stderr)

    def push(self, source: Path, target: str) -> None:
        """Copy a file."""
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)

    def close(self) -> None:
        """Nothing has to end."""
