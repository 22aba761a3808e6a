"""Arrays of inputs in files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from latbench.errors import UsageError
from latbench.schema.request import make_request
from latbench.zoo.given_inputs import load_inputs


def test_an_archive_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, x=np.zeros(120_000_000, dtype=np.uint8))
    assert path.stat().st_size < 1_000_000
    with pytest.raises(UsageError, match="unpacks to 120,000,"):
        load_inputs(make_request("m.onnx", inputs={"x": str(path)}))


def test_a_compressed_archive_of_usual_size_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, x=np.zeros(1_000_000, dtype=np.uint8))
    assert load_inputs(make_request("m.onnx", inputs={"x": str(path)})).arrays["x"].size == 10**6
