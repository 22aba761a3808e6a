"""Which backend measures a request that names none."""

from __future__ import annotations

from pathlib import Path

import pytest

from latbench.bench.prepare import read_request, resolve_request
from latbench.defaults import FALLBACK
from latbench.devices.local import LocalDevice
from latbench.plugins import backend_for
from latbench.schema.protocol_options import named_protocol


@pytest.mark.parametrize(
    ("extension", "backend"),
    [(None, FALLBACK), (".onnx", FALLBACK), (".tflite", "tflite"), (".mlpackage", "coreml")],
)
def test_the_file_extension_chooses_the_backend(extension: str | None, backend: str) -> None:
    assert backend_for(extension) == backend


def test_an_unknown_extension_is_left_to_the_fallback_backend() -> None:
    assert backend_for(".txt") == FALLBACK


def test_the_record_names_the_chosen_backend(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(b"anything: only its name counts here")
    request = read_request(str(path), named_protocol("latbench-quick"))
    assert request.backend == ""
    assert resolve_request(request, LocalDevice()).request.backend == "tflite"
