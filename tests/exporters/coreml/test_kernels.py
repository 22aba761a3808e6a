"""Kernels against values worked out by hand, from the reference's own examples, or by torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from latbench_exporters.coreml.kernels import kernels

torch = pytest.importorskip("torch", reason="the kernels are torch's")

pytestmark = pytest.mark.torch


class Given:
    """The inputs of one operation by name: tensors, or plain values."""

    def __init__(self, **inputs: Any) -> None:
        self._inputs = inputs

    def tensor(self, name: str) -> Any:
        return self._inputs[name]

    def maybe(self, name: str) -> Any:
        return self._inputs.get(name)

    def tensors(self, name: str) -> Any:
        return self._inputs[name]

    def value(self, name: str, default: Any = None) -> Any:
        return self._inputs.get(name, default)


def compute(operation: str, **inputs: Any) -> Any:
    return kernels()[operation](Given(**inputs))


def image(*shape: int) -> Any:
    return torch.from_numpy(np.random.default_rng(0).standard_normal(shape).astype(np.float32))


def near(actual: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("sampling", "size", "expected"),
    [
        ("UNALIGN_CORNERS", 5, [0.0, 0.1, 0.5, 0.9, 1.0]),
        ("STRICT_ALIGN_CORNERS", 5, [0.0, 0.25, 0.5, 0.75, 1.0]),
        ("DEFAULT", 5, [0.0, 0.4, 0.8, 1.0, 1.0]),
        ("OFFSET_CORNERS", 5, [0.1, 0.3, 0.5, 0.7, 0.9]),
        ("UNALIGN_CORNERS", 6, [0.0, 0.0, 1 / 3, 2 / 3, 1.0, 1.0]),
        ("ALIGN_CORNERS", 1, [0.5]),
    ],
)
def test_resizes_as_the_reference_shows(sampling: str, size: int, expected: list[float]) -> None:
    """The examples of MIL's `resize_bilinear`: two pixels, 0 and 1."""
    x = torch.tensor([[[[0.0, 1.0]]]])
    found = compute(
        "resize_bilinear",
        x=x,
        target_size_height=1,
        target_size_width=size,
        sampling_mode=sampling,
    )
    near(found.flatten(), expected)


@pytest.mark.parametrize("corners", [True, False])
def test_upsamples_as_torch_does(corners: bool) -> None:
    x = image(1, 2, 5, 7)
    found = compute(
        "upsample_bilinear",
        x=x,
        scale_factor_height=2,
        scale_factor_width=2.0,
        align_corners=corners,
    )
    near(
        found,
        torch.nn.functional.interpolate(x, size=(10, 14), mode="bilinear", align_corners=corners),
    )
    nearest = compute("upsample_nearest_neighbor", x=x, scale_factor_height=2, scale_factor_width=3)
    near(nearest, torch.nn.functional.interpolate(x, scale_factor=(2, 3), mode="nearest"))


def test_pads_for_same_where_the_reference_says() -> None:
    """Of an odd number of pixels `same` puts the greater part behind, `same_lower` before."""
    x = torch.ones(1, 1, 1, 4)
    weight = torch.tensor([[[[1.0, 2.0, 4.0, 8.0]]]])
    same = compute("conv", x=x, weight=weight, pad_type="same", strides=[1, 1])
    lower = compute("conv", x=x, weight=weight, pad_type="same_lower", strides=[1, 1])
    near(same.flatten(), [14, 15, 7, 3])
    near(lower.flatten(), [12, 14, 15, 7])


def test_custom_padding_is_before_and_after_each_axis() -> None:
    x, weight = image(1, 3, 6, 5), image(4, 3, 3, 3)
    found = compute("conv", x=x, weight=weight, pad_type="custom", pad=[1, 0, 0, 2], strides=[2, 1])
    padded = torch.nn.functional.pad(x, (0, 2, 1, 0))
    near(found, torch.nn.functional.conv2d(padded, weight, stride=(2, 1)))


@pytest.mark.parametrize("extra", [0, 1])
def test_transposed_convolution(extra: int) -> None:
    x, weight, bias = image(2, 4, 5, 5), image(4, 3, 3, 3), image(3)
    expected = torch.nn.functional.conv_transpose2d(
        x, weight, bias, stride=2, padding=1, output_padding=extra
    )
    found = compute(
        "conv_transpose",
        x=x,
        weight=weight,
        bias=bias,
        strides=[2, 2],
        pad_type="custom",
        pad=[1, 1, 1, 1],
        output_shape=list(expected.shape),
    )
    near(found, expected)


@pytest.mark.parametrize("exclude", [True, False])
def test_average_pooling_counts_padding_or_not(exclude: bool) -> None:
    x = image(2, 3, 7, 7)
    found = compute(
        "avg_pool",
        x=x,
        kernel_sizes=[3, 3],
        strides=[2, 2],
        pad_type="custom",
        pad=[1, 1, 1, 1],
        exclude_padding_from_average=exclude,
    )
    near(found, torch.nn.functional.avg_pool2d(x, 3, 2, padding=1, count_include_pad=not exclude))


def test_max_pooling_pads_with_what_never_wins() -> None:
    x = -image(1, 2, 6, 6).abs() - 1
    found = compute(
        "max_pool", x=x, kernel_sizes=[3, 3], strides=[2, 2], pad_type="custom", pad=[1, 1, 1, 1]
    )
    near(found, torch.nn.functional.max_pool2d(x, 3, 2, padding=1))


def test_slices_with_masks_negative_strides_and_squeezed_axes() -> None:
    x = torch.arange(24.0).reshape(2, 3, 4)
    found = compute(
        "slice_by_index",
        x=x,
        begin=[1, 0, -1],
        end=[2, 2, 0],
        stride=[1, 1, -2],
        squeeze_mask=[True, False, False],
        end_mask=[False, False, True],
    )
    near(found, x.numpy()[1, 0:2, ::-2])
    near(compute("slice_by_size", x=x, begin=[0, 1, 0], size=[1, 2, -1]), x[0:1, 1:3, :])


def test_writes_into_a_slice() -> None:
    x = torch.zeros(2, 3)
    update = torch.tensor([[5.0, 6.0]])
    found = compute("slice_update", x=x, update=update, begin=[1, 1], end=[2, 3])
    near(found, [[0, 0, 0], [0, 5, 6]])


def test_pads_the_last_axes_in_their_order() -> None:
    x = torch.ones(1, 2, 2)
    found = compute("pad", x=x, pad=[0, 0, 1, 0, 0, 3], mode="constant", constant_val=7.0)
    assert found.shape == (1, 3, 5)
    near(found[0, 0], [7] * 5)
    near(found[0, 1], [1, 1, 7, 7, 7])


def test_moves_elements() -> None:
    a, b = torch.zeros(1, 2), torch.ones(1, 2)
    near(compute("concat", values=[a, b], axis=1, interleave=True), [[0, 1, 0, 1]])
    near(compute("concat", values=[a, b], axis=1), [[0, 0, 1, 1]])
    near(compute("concat", values=[torch.tensor(2), torch.tensor([3, 4])], axis=0), [2, 3, 4])
    x = torch.arange(6.0).reshape(2, 3)
    near(compute("gather", x=x, indices=torch.tensor([[-1, 0]]), axis=1), [[[2, 0]], [[5, 3]]])
    near(compute("gather_nd", x=x, indices=torch.tensor([[1, 2], [0, 0]])), [5, 0])
    near(compute("reshape", x=x, shape=[0, -1, 1]), x.unsqueeze(-1))
    assert compute("expand_dims", x=x, axes=[0, -1]).shape == (1, 2, 3, 1)
    assert [part.shape[1] for part in compute("split", x=x, split_sizes=[1, 2], axis=1)] == [1, 2]
    assert [part.shape[1] for part in compute("split", x=x, num_splits=3, axis=1)] == [1, 1, 1]


def test_normalises_over_any_axes() -> None:
    x, gamma, beta = image(2, 3, 4), image(3), image(3)
    found = compute("layer_norm", x=x, axes=[1], gamma=gamma, beta=beta, epsilon=1e-5)
    moved = torch.nn.functional.layer_norm(x.transpose(1, 2), (3,), gamma, beta).transpose(1, 2)
    near(found, moved)


def test_activations() -> None:
    x = torch.linspace(-4, 4, 9)
    functional = torch.nn.functional
    near(compute("gelu", x=x, mode="EXACT"), functional.gelu(x))
    near(compute("gelu", x=x, mode="TANH_APPROXIMATION"), functional.gelu(x, approximate="tanh"))
    near(compute("sigmoid_hard", x=x, alpha=1 / 6, beta=0.5), functional.hardsigmoid(x))
    near(compute("clip", x=x, alpha=0.0, beta=6.0), functional.relu6(x))
    near(compute("cumsum", x=x, axis=0, exclusive=True), np.cumsum(x.numpy()) - x.numpy())
    near(compute("cumsum", x=x, axis=0, reverse=True), np.cumsum(x.numpy()[::-1])[::-1])


def test_quantises_and_back() -> None:
    x = torch.tensor([[-1.0, 0.26], [100.0, -100.0]])
    scale, zero = torch.tensor([0.5, 1.0]), torch.tensor([0, 10])
    stored = compute("quantize", input=x, scale=scale, zero_point=zero, axis=0, output_dtype="int8")
    near(stored, [[-2, 1], [110, -90]])
    back = compute("dequantize", input=stored, scale=scale, zero_point=zero, axis=0)
    near(back, [[-1, 0.5], [100, -100]])


def test_attends() -> None:
    q, k, v = image(1, 2, 5, 4), image(1, 2, 6, 4), image(1, 2, 6, 3)
    found = compute("scaled_dot_product_attention", query=q, key=k, value=v)
    near(found, torch.softmax(q @ k.transpose(-1, -2) / 2, -1) @ v)
    near(compute("matmul", x=k, y=v, transpose_x=True), k.transpose(-1, -2) @ v)


@pytest.mark.parametrize("sampling", ["bilinear", "nearest"])
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize(
    ("padding", "torchs"), [("constant", "zeros"), ("border", "border"), ("reflection", None)]
)
def test_samples_as_torch_does(
    sampling: str, aligned: bool, padding: str, torchs: str | None
) -> None:
    """coremltools writes torch's reflection as `symmetric` unless corners are aligned."""
    x, grid = image(2, 3, 5, 7), 1.3 * image(2, 4, 6, 2)
    mode = padding if torchs or aligned else "symmetric"
    found = compute(
        "resample",
        x=x,
        coordinates=grid,
        sampling_mode=sampling,
        padding_mode=mode,
        padding_value=0.0,
        coordinates_mode="normalized_minus_one_to_one",
        align_corners=aligned,
    )
    expected = torch.nn.functional.grid_sample(
        x, grid, mode=sampling, padding_mode=torchs or padding, align_corners=aligned
    )
    near(found, expected)


@pytest.mark.parametrize(
    ("mode", "aligned", "points"),
    [
        ("unnormalized", True, [-1.0, 0.0, 0.5, 2.0, 3.0]),
        ("unnormalized", False, [-1.0, 0.0, 0.5, 2.0, 3.0]),
        ("normalized_zero_to_one", True, [-0.5, 0.0, 0.25, 1.0, 1.5]),
        ("normalized_zero_to_one", False, [-1 / 6, 1 / 6, 1 / 3, 5 / 6, 7 / 6]),
        ("normalized_minus_one_to_one", True, [-2.0, -1.0, -0.5, 1.0, 2.0]),
        ("normalized_minus_one_to_one", False, [-4 / 3, -2 / 3, -1 / 3, 2 / 3, 4 / 3]),
    ],
)
@pytest.mark.parametrize(
    ("padding", "expected"),
    [
        ("constant", [9, 1, 1.5, 3, 9]),
        ("border", [1, 1, 1.5, 3, 3]),
        ("reflection", [2, 1, 1.5, 3, 2]),
        ("symmetric", [1, 1, 1.5, 3, 3]),
    ],
)
def test_samples_as_the_reference_describes(
    mode: str, aligned: bool, points: list[float], padding: str, expected: list[float]
) -> None:
    """One row of the pixels 1, 2, 3, read at -1, 0, 0.5, 2 and 3."""
    middle = 0.0 if mode != "normalized_zero_to_one" else 0.5
    x = torch.tensor([1.0, 2.0, 3.0]).reshape(1, 1, 1, 3)
    grid = torch.tensor([[point, middle] for point in points]).reshape(1, 1, 5, 2)
    found = compute(
        "resample",
        x=x,
        coordinates=grid,
        sampling_mode="bilinear",
        padding_mode=padding,
        padding_value=9.0,
        coordinates_mode=mode,
        align_corners=aligned,
    )
    near(found.flatten(), expected)


def test_scatters() -> None:
    data, indices = torch.ones(2, 3), torch.tensor([[0, 1], [-1, 2]])
    near(
        compute("scatter_nd", data=data, indices=indices, updates=torch.tensor([5.0, 6.0])),
        [[1, 6, 1], [1, 1, 7]],
    )
    along = torch.tensor([[2], [-3]])
    updates = torch.tensor([[5.0], [6.0]])
    for mode, expected in (
        ("update", [[1, 1, 5], [6, 1, 1]]),
        ("sub", [[1, 1, -4], [-5, 1, 1]]),
        ("max", [[1, 1, 5], [6, 1, 1]]),
    ):
        found = compute(
            "scatter_along_axis", data=data, indices=along, updates=updates, axis=1, mode=mode
        )
        near(found, expected)
    with pytest.raises(NotImplementedError):
        compute("scatter_nd", data=data, indices=indices, updates=updates, mode="max")


def test_makes_ranges_bands_and_vectors() -> None:
    near(compute("range_1d", start=1, end=7, step=2), [1, 3, 5])
    near(
        compute("band_part", x=torch.ones(3, 3), lower=0, upper=1),
        [[1, 1, 0], [0, 1, 1], [0, 0, 1]],
    )
    near(
        compute("one_hot", indices=torch.tensor([2, 0]), one_hot_vector_size=3, on_value=4.0),
        [[0, 0, 4], [4, 0, 0]],
    )
    x = torch.tensor([[3.0, 0.0, 2.0]])
    near(compute("argsort", x=x), [[0, 2, 1]])
    near(compute("argsort", x=x, ascending=True), [[1, 2, 0]])
    near(compute("non_zero", x=x), [[0, 0], [0, 2]])
    near(compute("reduce_prod", x=x + 1, axes=[-1, 0], keep_dims=False), 12)
    near(compute("thresholded_relu", x=x, alpha=2.5), [[3, 0, 0]])
    near(compute("clamped_relu", x=x - 2, alpha=0.5, beta=0.5), [[0.5, -1, 0]])


def test_probabilities_are_in_the_order_of_the_labels() -> None:
    found = torch.tensor([[0.2, 0.7, 0.1]])
    label, sorted_ = compute("classify", probabilities=found, classes=[10, 9, 2])
    assert int(label) == 1
    near(sorted_, [0.1, 0.7, 0.2])
    with pytest.raises(NotImplementedError, match="twice"):
        compute("classify", probabilities=found, classes=["a", "b", "a"])
