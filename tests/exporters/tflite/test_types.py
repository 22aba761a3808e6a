"""TFLite files whose inputs or outputs are not, or not only, numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from latbench.api import ExportSpec, StageError
from latbench.schema.artifact import TensorSpec
from latbench.schema.seeded_inputs import make_inputs
from latbench_exporters.tflite.exporter import exporter
from support import tflite_files

pytest.importorskip("ai_edge_litert")


@pytest.mark.parametrize(
    ("content", "found"), [("text:red", [1, 0]), ("text:blue", [0, 1]), ("sha256:ab", [1, 1])]
)
def test_strings_reach_the_file(tmp_path: Path, content: str, found: list[int]) -> None:
    out = tmp_path / "out.tflite"
    exported = exporter().adopt(tflite_files.words(tmp_path / "w.tflite"), ExportSpec(), out)
    assert exported.inputs == (TensorSpec(name="t", shape=(2,), dtype="string"),)
    spec = TensorSpec(name="t", shape=(2,), dtype="string", content=content)
    given = make_inputs([spec], 0, {"t": np.array(["red", "blue"])} if ":ab" in content else None)
    outputs = exporter().evaluate(out, given)
    assert outputs is not None
    assert outputs[0].tolist() == found


def test_outputs_of_strings_are_named_and_not_compared(tmp_path: Path) -> None:
    path, out = tflite_files.words(tmp_path / "w.tflite", echo=True), tmp_path / "out.tflite"
    exported = exporter().adopt(path, ExportSpec(), out)
    assert [each.name for each in exported.outputs] == ["y"]
    assert exported.details["not_compared"] == "t (string)"
    outputs = exporter().evaluate(out, [np.array(["red", "red"])])
    assert outputs is not None
    assert [each.tolist() for each in outputs] == [[1, 0]]


@pytest.mark.parametrize("kind", ["INT4", "COMPLEX64", "RESOURCE", "BFLOAT16"])
def test_other_inputs_are_refused_in_words(tmp_path: Path, kind: str) -> None:
    path = tflite_files.narrow(tmp_path / "n.tflite", kind)
    with pytest.raises(StageError, match=f"elements of type {kind.lower()}; only numbers"):
        exporter().adopt(path, ExportSpec(), tmp_path / "out.tflite")


@pytest.mark.parametrize("kind", ["UINT16", "UINT32", "INT16", "BOOL"])
def test_integers_of_every_width(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out.tflite"
    exported = exporter().adopt(tflite_files.narrow(tmp_path / "n.tflite", kind), ExportSpec(), out)
    inputs = make_inputs(exported.inputs, 0)
    outputs = exporter().evaluate(out, inputs)
    assert outputs is not None
    assert outputs[0].tolist() == inputs[0].astype(np.float32).tolist()
