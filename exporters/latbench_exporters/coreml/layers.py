"""Kernels of MIL operations with weights or windows: products, pooling, normalization, resizing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from latbench_exporters.coreml.calls import Call, Kernel

if TYPE_CHECKING:
    import torch


def layers() -> dict[str, Kernel]:
    """Operation name -> kernel."""
    import torch
    from torch.nn import functional

    return {
        "conv": _conv,
        "conv_transpose": _conv_transpose,
        "linear": lambda c: functional.linear(c.tensor("x"), c.tensor("weight"), c.maybe("bias")),
        "matmul": _matmul,
        "einsum": lambda c: torch.einsum(c.value("equation"), *c.tensors("values")),
        "scaled_dot_product_attention": lambda c: functional.scaled_dot_product_attention(
            c.tensor("query"), c.tensor("key"), c.tensor("value"), c.maybe("attn_mask")
        ),
        "avg_pool": _avg_pool,
        "max_pool": _max_pool,
        "batch_norm": lambda c: functional.batch_norm(
            c.tensor("x"),
            c.tensor("mean"),
            c.tensor("variance"),
            c.maybe("gamma"),
            c.maybe("beta"),
            eps=c.value("epsilon", 1e-5),
        ),
        "instance_norm": lambda c: functional.instance_norm(
            c.tensor("x"),
            weight=c.maybe("gamma"),
            bias=c.maybe("beta"),
            eps=c.value("epsilon", 1e-5),
        ),
        "layer_norm": _layer_norm,
        "upsample_nearest_neighbor": lambda c: _resized(c, "NEAREST", ""),
        "resize_nearest_neighbor": lambda c: _resized(c, "NEAREST", ""),
        "upsample_bilinear": lambda c: _resized(c, "LINEAR", _alignment(c)),
        "resize_bilinear": lambda c: _resized(c, "LINEAR", c.value("sampling_mode", "DEFAULT")),
        "resize": lambda c: _resized(
            c, c.value("interpolation_mode", "LINEAR"), c.value("sampling_mode", "DEFAULT")
        ),
    }


def _conv(c: Call) -> torch.Tensor:
    import torch

    x, weight = c.tensor("x"), c.tensor("weight")
    n = x.ndim - 2
    strides, dilations = c.value("strides", [1] * n), c.value("dilations", [1] * n)
    kernel = [d * (k - 1) + 1 for d, k in zip(dilations, weight.shape[2:], strict=True)]
    functions: list[Any] = [torch.conv1d, torch.conv2d, torch.conv3d]
    padded = _padded(c, x, kernel, strides, 0.0)
    result: torch.Tensor = functions[n - 1](
        padded, weight, c.maybe("bias"), strides, 0, dilations, c.value("groups", 1)
    )
    return result


def _conv_transpose(c: Call) -> torch.Tensor:
    import torch
    from torch.nn import functional

    x, weight, bias = c.tensor("x"), c.tensor("weight"), c.maybe("bias")
    n = x.ndim - 2
    strides, dilations = c.value("strides", [1] * n), c.value("dilations", [1] * n)
    functions: list[Any] = [torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d]
    full = functions[n - 1](x, weight, None, strides, 0, 0, c.value("groups", 1), dilations)
    pads = c.value("pad", [0] * 2 * n) if c.value("pad_type", "valid") == "custom" else [0] * 2 * n
    wanted = c.value("output_shape")
    for i in range(n):
        size = full.shape[2 + i]
        out = wanted[-n:][i] if wanted is not None else size - pads[2 * i] - pads[2 * i + 1]
        if wanted is not None and c.value("pad_type") in ("same", "same_lower"):
            spare = size - out
            pads[2 * i] = spare // 2 if c.value("pad_type") == "same" else spare - spare // 2
        short = max(0, pads[2 * i] + out - size)
        full = functional.pad(full, [0, 0] * (n - 1 - i) + [0, short])
        full = full.narrow(2 + i, pads[2 * i], out)
    result: torch.Tensor = full if bias is None else full + bias.reshape(1, -1, *[1] * n)
    return result


def _matmul(c: Call) -> torch.Tensor:
    import torch

    x, y = c.tensor("x"), c.tensor("y")
    if c.value("transpose_x", False):
        x = x.transpose(-1, -2)
    if c.value("transpose_y", False):
        y = y.transpose(-1, -2)
    return torch.matmul(x, y)


def _padded(
    c: Call, x: torch.Tensor, kernel: Sequence[int], strides: Sequence[int], fill: float
) -> torch.Tensor:
    """``x`` with the padding of a convolution or pooling operation."""
    from torch.nn import functional

    kind, pairs = c.value("pad_type", "valid"), []
    for i, (size, window, stride) in enumerate(zip(x.shape[2:], kernel, strides, strict=True)):
        total = max(0, (math.ceil(size / stride) - 1) * stride + window - size)
        less, more = total // 2, total - total // 2
        pairs.append(
            {
                "valid": (0, 0),
                "same": (less, more),
                "same_lower": (more, less),
                "custom": tuple(c.value("pad", [0] * 2 * len(kernel))[2 * i : 2 * i + 2]),
            }[kind]
        )
    flat = [size for pair in reversed(pairs) for size in pair]
    return functional.pad(x, flat, value=fill) if any(flat) else x


def _pooling(c: Call) -> tuple[list[int], list[int], bool]:
    kernel = c.value("kernel_sizes")
    return kernel, c.value("strides", [1] * len(kernel)), c.value("ceil_mode", False)


def _avg_pool(c: Call) -> torch.Tensor:
    import torch
    from torch.nn import functional

    x, (kernel, strides, ceil) = c.tensor("x"), _pooling(c)
    functions: list[Any] = [functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d]

    def mean(values: torch.Tensor) -> torch.Tensor:
        padded = _padded(c, values, kernel, strides, 0.0)
        result: torch.Tensor = functions[len(kernel) - 1](padded, kernel, strides, 0, ceil)
        return result

    if not c.value("exclude_padding_from_average", False):
        return mean(x)
    return mean(x) / mean(torch.ones_like(x[:1, :1]))


def _max_pool(c: Call) -> torch.Tensor:
    from torch.nn import functional

    x, (kernel, strides, ceil) = c.tensor("x"), _pooling(c)
    functions: list[Any] = [functional.max_pool1d, functional.max_pool2d, functional.max_pool3d]
    padded = _padded(c, x, kernel, strides, -math.inf)
    result: torch.Tensor = functions[len(kernel) - 1](padded, kernel, strides, 0, 1, ceil)
    return result


def _layer_norm(c: Call) -> torch.Tensor:
    import torch

    x = c.tensor("x")
    axes = c.value("axes")
    axes = tuple(range(x.ndim)) if axes is None else tuple(axis % x.ndim for axis in axes)
    variance, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
    result = (x - mean) * torch.rsqrt(variance + c.value("epsilon", 1e-5))
    shape = [size if axis in axes else 1 for axis, size in enumerate(x.shape)]
    gamma, beta = c.maybe("gamma"), c.maybe("beta")
    result = result if gamma is None else result * gamma.reshape(shape)
    return result if beta is None else result + beta.reshape(shape)


def _alignment(c: Call) -> str:
    if c.value("align_corners", True):
        return "STRICT_ALIGN_CORNERS"
    return "UNALIGN_CORNERS" if c.value("half_pixel_centers", True) else "DEFAULT"


def _resized(c: Call, interpolation: str, sampling: str) -> torch.Tensor:
    """Resize along the last axes, one after the other, to target sizes or by factors."""
    x = c.tensor("x")
    if c.value("shape") is not None:
        asked = c.value("shape")[-int(c.value("resized_dims")) :]
        sizes = [size or old for size, old in zip(asked, x.shape[-len(asked) :], strict=True)]
    elif c.value("target_size_height") is not None:
        sizes = [c.value("target_size_height"), c.value("target_size_width")]
    else:
        factors = (c.value("scale_factor_height", 1), c.value("scale_factor_width", 1))
        sizes = [math.floor(s * f) for s, f in zip(x.shape[-2:], factors, strict=True)]
    for axis, size in zip(range(x.ndim - len(sizes), x.ndim), sizes, strict=True):
        x = _resampled(x, axis, int(size), interpolation, sampling)
    return x


def _resampled(
    x: torch.Tensor, axis: int, size: int, interpolation: str, sampling: str
) -> torch.Tensor:
    import torch

    old = x.shape[axis]
    i = torch.arange(size, dtype=torch.float64)
    if interpolation.startswith("NEAREST"):
        return x.index_select(axis, (i * old / size).floor().long().clamp(0, old - 1))
    if sampling == "UNALIGN_CORNERS":
        points = (i + 0.5) * old / size - 0.5
    elif sampling == "OFFSET_CORNERS":
        points = (i + 0.5) * max(1, old - 1) / size
    elif sampling == "DEFAULT":
        points = i * old / size
    elif sampling == "ALIGN_CORNERS" and size == 1:
        points = i + (old - 1) / 2
    else:
        points = i * (old - 1) / max(1, size - 1)
    points = points.clamp(0, old - 1)
    below = points.floor().long()
    above = (below + 1).clamp(max=old - 1)
    share = (points - below).to(x.dtype).reshape([-1, *[1] * (x.ndim - 1 - axis)])
    return x.index_select(axis, below) * (1 - share) + x.index_select(axis, above) * share
