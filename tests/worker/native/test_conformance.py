"""The native worker keeps to the protocol."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.conformance import checked, skipped


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["onnxruntime", "tflite"])
def test_the_native_worker(native_program: Path, backend: str) -> None:
    """Its runtimes cannot time operators."""
    report = checked([str(native_program)], "--backend", backend)
    assert skipped(report) <= {"operators", "cpus"}
