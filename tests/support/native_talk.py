"""A plain conversation with a worker, line by line."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

MARK = "LATBENCH_WORKER"


class Talk:
    """One program with pipes to it, in a session and with a mark of its own."""

    def __init__(self, command: Sequence[str | Path], mark: str = "m", **variables: str) -> None:
        self.process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, MARK: f"{mark}-{os.getpid()}-{time.monotonic_ns()}", **variables},
            start_new_session=True,
        )
        self.hello = self.line()

    def __enter__(self) -> Talk:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()

    def send(self, line: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        text = self.process.stdout.readline()
        assert text, self.process.stderr and self.process.stderr.read().decode()[-2000:]
        found: dict[str, Any] = json.loads(text)
        return found

    def ask(self, type: str, **fields: Any) -> dict[str, Any]:
        self.send(json.dumps({"type": type, **fields}).encode())
        return self.line()

    def hang_up(self) -> None:
        """End the program's input."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.stdin = None

    def ended(self, within_s: float = 20) -> int:
        """The status with which the program ends by itself."""
        return self.process.wait(timeout=within_s)


def spec(
    name: str, *shape: int, dtype: str = "float32", content: str | None = None
) -> dict[str, Any]:
    more = {} if content is None else {"content": content}
    return {"name": name, "shape": list(shape), "dtype": dtype, **more}


def open_fields(
    path: Path | str,
    inputs: list[dict[str, Any]],
    outputs: list[dict[str, Any]],
    /,
    **changes: Any,
) -> dict[str, Any]:
    """The fields of ``open`` for a file; ``precision`` and ``format`` belong to the artifact."""
    artifact = {
        **{"sha256": "0" * 64, "size_bytes": 1, "inputs": inputs, "outputs": outputs},
        "format": changes.pop("format", "onnx"),
        "precision": changes.pop("precision", "fp32"),
        **dict.fromkeys(("counts", "model_counts", "trained_parameters", "parity")),
        **{"details": {}, "toolchain": {}},
    }
    return {
        **{"backend": "onnxruntime", "artifact": artifact, "path": str(path), "threads": 1},
        **{"seed": 0, "process": 0, "extra": {}},
        **changes,
    }


def given(answer: dict[str, Any]) -> list[np.ndarray[Any, Any]]:
    assert answer["type"] == "outputs_given", answer
    return [
        np.frombuffer(base64.b64decode(t["data"]), t["dtype"]).reshape(t["shape"])
        for t in answer["tensors"]
    ]
