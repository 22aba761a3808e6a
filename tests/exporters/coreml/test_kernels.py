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
