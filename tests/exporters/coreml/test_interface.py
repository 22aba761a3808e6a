"""Packages that are not just arrays of one shape: flexible ones, images, labels, states, functions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latbench.api import Array, Exported, ExportSpec, UsageError, make_inputs
from latbench.files import content_sha256
from latbench_exporters.coreml.exporter import exporter
from latbench_exporters.coreml.package import read
from support.coreml import (
    convolution,
    filters,
    write_classifier,
    write_functions,
    write_image_program,
    write_program,
    write_stateful,
)

ct = pytest.importorskip("coremltools", reason="needs the `coreml` extra")
torch = pytest.importorskip("torch", reason="needs the `export` extra")

pytestmark = pytest.mark.torch


def adopted(path: Path, **spec: Any) -> tuple[Exported, tuple[Array, ...], tuple[Array, ...]]:
    """Description, inputs and outputs."""
    out = path.parent / f"{path.stem}-ready.mlpackage"
    import shutil

    shutil.rmtree(out, ignore_errors=True)
    found = exporter().adopt(path, ExportSpec(**spec), out)
    inputs = make_inputs(found.inputs, 0)
    outputs = exporter().evaluate(out, inputs)
    assert outputs is not None
    return found, inputs, outputs


def convolved(x: Array) -> Any:
    return torch.conv2d(torch.from_numpy(x), torch.from_numpy(filters())).numpy()


@pytest.fixture
def flexible(tmp_path: Path) -> Callable[[Any], Path]:
    def make(shape: Any) -> Path:
        from coremltools.converters.mil.mil import get_new_symbol

        open_shape = (get_new_symbol(), 3, get_new_symbol(), 8)
        inputs = [ct.TensorType(name="x", shape=shape)]
        return write_program(
            convolution, tmp_path / "flexible.mlpackage", open_shape, inputs=inputs
        )

    return make


def test_a_range_is_kept_and_counted_at_the_chosen_size(flexible: Callable[[Any], Path]) -> None:
    path = flexible(ct.Shape((ct.RangeDim(1, 4, default=2), 3, ct.RangeDim(4, 9, default=8), 8)))
    found, inputs, outputs = adopted(path)
    assert found.inputs[0].shape == (2, 3, 8, 8), "the default"
    assert found.details["flexible"] == "x 1..4x3x4..9x8"
    assert content_sha256(path) == content_sha256(path.parent / "flexible-ready.mlpackage")
    np.testing.assert_allclose(outputs[0], convolved(inputs[0]), atol=1e-5)
    for spec in ({"shapes": {"x": (3, 3, 5, 8)}}, {"batch": 3, "resolution": (5, 8)}):
        found, inputs, outputs = adopted(path, **spec)
        assert found.inputs[0].shape == (3, 3, 5, 8)
        assert found.counts is not None
        assert found.counts.macs == 3 * 4 * 3 * 6 * 27
        np.testing.assert_allclose(outputs[0], convolved(inputs[0]), atol=1e-5)
    for refused, message in (
        ({"batch": 5}, r"accepts 1..4x3x4..9x8, not 5x3x8x8"),
        ({"resolution": (8, 9)}, "not 2x3x8x9"),
        ({"shapes": {"x": (1, 3, 8)}}, "has 4 axes"),
        ({"shapes": {"x": (1, 3, 8, 8)}, "batch": 2}, "two requested sizes"),
        ({"dims": {"n": 1}}, "no axis named n"),
        ({"signature": "f"}, "just one function"),
    ):
        with pytest.raises(UsageError, match=message):
            adopted(path, **refused)


def test_of_listed_shapes_the_only_one_that_fits_is_taken(flexible: Callable[[Any], Path]) -> None:
    path = flexible(ct.EnumeratedShapes([(1, 3, 8, 8), (2, 3, 6, 8), (1, 3, 4, 8)]))
    assert adopted(path)[0].inputs[0].shape == (1, 3, 8, 8)
    assert adopted(path, resolution=(6, 8))[0].inputs[0].shape == (2, 3, 6, 8)
    found, inputs, outputs = adopted(path, resolution=(4, 8))
    assert found.details["flexible"] == "x 1x3x8x8 or 2x3x6x8 or 1x3x4x8"
    np.testing.assert_allclose(outputs[0], convolved(inputs[0]), atol=1e-5)
    with pytest.raises(UsageError, match="1x3x8x8 or 2x3x6x8 or 1x3x4x8, not 1x3x5x8"):
        adopted(path, resolution=(5, 8))


def test_a_range_without_a_limit() -> None:
    from latbench_exporters.coreml.sizes import array_sizes

    value = ct.proto.FeatureTypes_pb2.ArrayFeatureType()
    value.shapeRange.sizeRanges.add(lowerBound=1, upperBound=-1)
    value.shapeRange.sizeRanges.add(lowerBound=3, upperBound=3)
    sizes = array_sizes(value)
    assert str(sizes) == "1..infx3"
    assert sizes is not None
    assert sizes.nearest((10**6, 3), {}) == (10**6, 3)
    assert sizes.nearest((0, 3), {}) is None
    value.shapeRange.sizeRanges[0].upperBound = 1
    assert array_sizes(value) is None, "fixed in fact"


@pytest.mark.parametrize("space", ["BGR", "RGB"])
def test_images_in_and_out(tmp_path: Path, space: str) -> None:
    path = write_image_program(tmp_path / "image.mlpackage", space)
    found, inputs, outputs = adopted(path)
    assert found.details["image_outputs"] == "y"
    assert found.details.get("color_spaces") == (None if space == "RGB" else "x BGR, y BGR")
    scale, bias = float(found.details["image_scale"]), found.details["image_bias"].split(",")
    pixels = (inputs[0] - np.array(bias, np.float64).reshape(1, 3, 1, 1)) / scale
    np.testing.assert_allclose(outputs[0], np.clip(2 * pixels, 0, 255), atol=1e-3)
    assert outputs[0].max() == 255


def test_gray_images_of_floats_hold_halves(tmp_path: Path) -> None:
    path = write_image_program(tmp_path / "image.mlpackage", "GRAYSCALE_FLOAT16")
    found, inputs, outputs = adopted(path)
    bias = float(found.details["image_bias"].split(",")[0])
    pixels = (inputs[0].astype(np.float64) - bias) / float(found.details["image_scale"])
    assert (pixels.astype(np.float16) != pixels).any()
    assert outputs[0].dtype == np.float32
    np.testing.assert_array_equal(outputs[0], 2 * pixels.astype(np.float32).astype(np.float16))
    assert found.details["output_bits"] == "16"


def test_an_image_of_several_sizes(tmp_path: Path) -> None:
    path = write_program(
        convolution,
        tmp_path / "image.mlpackage",
        (1, 3, 8, 8),
        inputs=[ct.ImageType(name="x", shape=(1, 3, 8, 8))],
    )
    spec = read(path).spec
    sizes = spec.description.input[0].type.imageType.imageSizeRange
    sizes.heightRange.lowerBound, sizes.heightRange.upperBound = 4, 16
    sizes.widthRange.lowerBound, sizes.widthRange.upperBound = 8, -1
    from latbench_exporters.coreml.interface import interface

    found = interface(spec)
    assert str(found.sizes["x"]) == "1x3x4..16x8..inf"


def test_probabilities_are_compared_and_the_label_is_not(tmp_path: Path) -> None:
    path = write_classifier(tmp_path / "classes.mlpackage", ["b", "c", "a"])
    found, inputs, outputs = adopted(path)
    assert [spec.name for spec in found.outputs] == ["classLabel_probs"]
    assert found.details["not_compared"] == "label classLabel"
    expected = torch.softmax(torch.from_numpy(inputs[0]), -1).numpy()[0]
    np.testing.assert_allclose(outputs[0], expected[[2, 0, 1]], rtol=1e-5)


def test_a_state_starts_at_zero(tmp_path: Path) -> None:
    found, inputs, outputs = adopted(write_stateful(tmp_path / "s.mlpackage"))
    assert found.details["states"] == "total"
    for _ in range(2):
        np.testing.assert_allclose(outputs[0], 2 * inputs[0], atol=1e-2)
        again = exporter().evaluate(tmp_path / "s-ready.mlpackage", inputs)
        assert again is not None
        np.testing.assert_array_equal(again[0], outputs[0])


def test_one_of_several_functions_is_run(tmp_path: Path) -> None:
    path = write_functions(tmp_path / "both.mlpackage")
    found, _, _ = adopted(path)
    assert found.inputs[0].shape == (1, 3, 8, 8)
    assert (found.details["signature"], found.details["signatures"]) == ("small", "small, large")
    found, inputs, outputs = adopted(path, signature="large")
    assert found.inputs[0].shape == (2, 3, 5, 5)
    assert found.details["signature"] == "large"
    np.testing.assert_allclose(outputs[0], convolved(inputs[0]), atol=1e-5)
    with pytest.raises(UsageError, match="no function 'huge'") as caught:
        adopted(path, signature="huge")
    assert "small" in (caught.value.hint or "")
