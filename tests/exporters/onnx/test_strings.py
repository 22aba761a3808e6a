"""Inputs of strings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from latbench.errors import UsageError
from latbench.schema.artifact import TensorSpec
from latbench.schema.seeded_inputs import make_inputs
from latbench_exporters.onnx.exporter import exporter
from support import onnx_files


@pytest.mark.parametrize(
    ("content", "found"),
    [("text:red", [3, 5, 7]), ("text:blue", [6, 10, 14]), ("text:a, b: c", [-3, -5, -7])],
)
def test_a_text_is_in_every_element(tmp_path: Path, content: str, found: list[int]) -> None:
    spec = TensorSpec(name="t", shape=(1, 2), dtype="string", content=content)
    outputs = exporter().evaluate(onnx_files.words(tmp_path / "w.onnx"), make_inputs([spec], 0))
    assert outputs is not None
    assert outputs[0].tolist() == [found]


def test_an_array_of_strings_is_taken_as_it_is(tmp_path: Path) -> None:
    spec = TensorSpec(name="t", shape=(1, 2), dtype="string", content="sha256:ab")
    inputs = make_inputs([spec], 0, {"t": np.array([["blue", "red"]])})
    outputs = exporter().evaluate(onnx_files.words(tmp_path / "w.onnx"), inputs)
    assert outputs is not None
    assert outputs[0].tolist() == [[3, 6, 9]]


def test_strings_are_never_made_up() -> None:
    with pytest.raises(UsageError, match="holds strings, and none is given"):
        make_inputs([TensorSpec(name="t", shape=(1,), dtype="string")], 0)
