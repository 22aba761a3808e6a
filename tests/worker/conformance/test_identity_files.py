"""The models of the conformance suite are what the functions that made them still make."""

from __future__ import annotations

from pathlib import Path

import pytest

from latbench.worker import conformance
from support import identity_files

COMMITTED = Path(conformance.__file__).parent / "identity"


def test_the_onnx_file(tmp_path: Path) -> None:
    made = identity_files.onnx_file(tmp_path / "identity.onnx")
    assert made.read_bytes() == (COMMITTED / "identity.onnx").read_bytes()


def test_the_tflite_file(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    made = identity_files.tflite_file(tmp_path / "identity.tflite")
    assert made.read_bytes() == (COMMITTED / "identity.tflite").read_bytes()
