"""A way to a device that is a command on this machine, such as one that enters a root folder."""

from __future__ import annotations

import shlex
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Literal

from latbench.devices.transport import Completed


class CommandTransport:
    """Programs start with ``prefix`` before them; ``variables`` are those of a shell there."""

    kind: Literal["ssh", "adb"] = "adb"

    def __init__(
        self,
        prefix: Sequence[str],
        variables: Mapping[str, str],
        device_lock: str = "/data/local/tmp/latbench-device.lock",
    ) -> None:
        self.device_lock = device_lock
        self._prefix = tuple(prefix)
        self._variables = dict(variables)
        self.started: list[tuple[str, ...]] = []
        """The command lines of the workers."""

    def run(self, command: Sequence[str], *, timeout_s: float, stdin: bytes = b"") -> Completed:
        done = subprocess.run(
            [*self._prefix, *command],
            input=stdin,
            capture_output=True,
            timeout=timeout_s,
            check=False,
            env=self._variables,
        )
        return Completed(status=done.returncode, stdout=done.stdout, stderr=done.stderr)

    def start(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        alive_every_s: float | None = None,
    ) -> CommandChannel:
        self.started.append(tuple(command))
        text = " ".join(f"export {name}={shlex.quote(environment[name])};" for name in environment)
        shell = ("sh", "-c", f"{text} exec {shlex.join(command)}")
        return CommandChannel(
            subprocess.Popen(
                [*self._prefix, *shell],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self._variables,
            ),
            alive_every_s,
        )

    def push(self, source: Path, target: str) -> None:
        place, part = shlex.quote(target), shlex.quote(f"{target}.part")
        folder = shlex.quote(str(PurePosixPath(target).parent))
        script = f"mkdir -p {folder} && cat > {part} && mv {part} {place}"
        with source.open("rb") as file:
            subprocess.run(
                [*self._prefix, "sh", "-c", script], stdin=file, check=True, env=self._variables
            )

    def close(self) -> None:
        pass


class CommandChannel:
    """The streams of a program that was started."""

    def __init__(self, process: subprocess.Popen[bytes], alive_every_s: float | None) -> None:
        self._process = process
        self._closed = threading.Event()
        self._lock = threading.Lock()
        if alive_every_s is not None:
            threading.Thread(target=self._stay_alive, args=(alive_every_s,), daemon=True).start()

    def write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        with self._lock, suppress(BrokenPipeError):
            if not self._closed.is_set():
                self._process.stdin.write(data)
                self._process.stdin.flush()

    def read_line(self, longest: int) -> bytes:
        assert self._process.stdout is not None
        return self._process.stdout.readline(longest)

    def status(self, timeout_s: float) -> int | None:
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def detail(self) -> str | None:
        assert self._process.stderr is not None
        ended = self._process.poll() is not None
        return self._process.stderr.read().decode(errors="replace")[-2000:] if ended else None

    def close(self) -> None:
        assert self._process.stdin is not None
        self._closed.set()
        with self._lock, suppress(BrokenPipeError):
            self._process.stdin.close()

    def _stay_alive(self, every_s: float) -> None:
        while not self._closed.wait(every_s):
            self.write(b"\n")
