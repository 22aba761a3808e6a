"""TFLite files with open axes and several signatures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latbench.api import Exported, ExportSpec, StageError, UsageError, make_inputs
from latbench_exporters.tflite.exporter import exporter
from latbench_exporters.tflite.file import read

pytestmark = pytest.mark.torch

Edit = Callable[[Callable[[Any], None]], Path]


def open_axes(*sizes: int) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        graph = model.subgraphs[0]
        graph.tensors[graph.inputs[0]].shapeSignature = np.array(sizes, dtype=np.int32)

    return change


def adopted(path: Path, out: Path, **spec: Any) -> Exported:
    return exporter().adopt(path, ExportSpec(**spec), out)


def test_open_axes_get_sizes_and_the_work_of_these_sizes(
    tiny: tuple[Path, Exported], edited: Edit, tmp_path: Path
) -> None:
    path, out = edited(open_axes(-1, 3, -1, -1)), tmp_path / "out.tflite"
    before = tiny[1].counts
    assert before is not None
    for spec, batch, pixels in (
        ({"resolution": (64, 64)}, 2, 4),
        ({"shapes": {"": (4, 3, 64, 32)}}, 4, 2),
        ({"batch": 1, "resolution": (32, 32)}, 1, 1),
    ):
        found = adopted(path, out, **spec)
        assert found.inputs[0].shape[0] == batch
        assert found.counts is not None
        conv, linear = 8 * 27 * 16 * 16, 8 * 10
        assert before.macs == 2 * (conv + linear)
        assert found.counts.macs == batch * (conv * pixels + linear)
        outputs = exporter().evaluate(out, make_inputs(found.inputs, 0))
        assert outputs is not None
        assert outputs[0].shape == (batch, 10) == found.outputs[0].shape


def test_a_resized_file_computes_what_the_runtime_computes_resized(
    edited: Edit, tmp_path: Path
) -> None:
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    path, out = edited(open_axes(-1, 3, -1, -1)), tmp_path / "out.tflite"
    found = adopted(path, out, shapes={"": (1, 3, 48, 40)})
    (image,) = make_inputs(found.inputs, 0)
    resized = interpreter.Interpreter(str(path))
    (detail,) = resized.get_input_details()
    resized.resize_tensor_input(detail["index"], image.shape)
    resized.allocate_tensors()
    resized.set_tensor(detail["index"], image)
    resized.invoke()
    expected = resized.get_tensor(resized.get_output_details()[0]["index"])
    outputs = exporter().evaluate(out, (image,))
    assert outputs is not None
    np.testing.assert_allclose(outputs[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({}, "no size given for the open axes"),
        ({"shapes": {"": (2, 4, 32, 32)}}, "axis 1 of input .* is fixed at 3"),
        ({"shapes": {"": (2, 3, 32)}}, "has 4 axes"),
        ({"shapes": {"": (2, 3, 32, 32)}, "batch": 1}, "two requested sizes"),
        ({"dims": {"seq": 3}}, "no axis named seq"),
        ({"signature": "other"}, "no signature 'other'"),
    ],
)
def test_what_does_not_fit_is_refused(
    edited: Edit, tmp_path: Path, spec: dict[str, Any], words: str
) -> None:
    path = edited(open_axes(-1, 3, -1, -1))
    with pytest.raises(UsageError, match=words):
        adopted(path, tmp_path / "out.tflite", **spec)


@pytest.fixture(scope="module")
def signatures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with two networks: `small` for 8 pixels, `large` for 16."""
    litert_torch = pytest.importorskip("litert_torch", reason="needs the `tflite-export` extra")
    import torch
    from torch import nn

    path = tmp_path_factory.mktemp("signatures") / "two.tflite"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        small, large = nn.Conv2d(3, 4, 3).eval(), nn.Conv2d(3, 32, 3).eval()
    litert_torch.signature("small", small, (torch.zeros(1, 3, 8, 8),)).signature(
        "large", large, (torch.zeros(1, 3, 16, 16),)
    ).convert().export(str(path))
    return path


@pytest.mark.parametrize(("name", "channels", "side"), [("small", 4, 8), ("large", 32, 16)])
def test_signatures(signatures: Path, tmp_path: Path, name: str, channels: int, side: int) -> None:
    out = tmp_path / "out.tflite"
    found = adopted(signatures, out, signature=name)
    assert found.details["signature"] == name
    assert found.inputs[0].shape == (1, 3, side, side)
    assert found.counts is not None
    assert found.counts.macs == channels * 27 * (side - 2) ** 2
    outputs = exporter().evaluate(out, make_inputs(found.inputs, 0))
    assert outputs is not None
    assert outputs[0].shape == (1, channels, side - 2, side - 2)


def test_without_a_choice_the_first_signature_runs_and_the_others_are_named(
    signatures: Path, tmp_path: Path
) -> None:
    found = adopted(signatures, tmp_path / "out.tflite")
    assert found.details["signature"] == "small"
    assert found.details["signatures"] == "small, large"
    assert read(signatures).signatures == {"small": 0, "large": 1}


def test_a_damaged_file_is_refused_in_words(edited: Edit, tmp_path: Path) -> None:
    path = edited(open_axes(-1, 3, -1, -1))
    content = path.read_bytes()
    for size in range(0, len(content), max(1, len(content) // 200)):
        path.write_bytes(content[:size])
        try:
            adopted(path, tmp_path / "out.tflite", shapes={"": (1, 3, 8, 8)})
        except (StageError, UsageError):
            continue
