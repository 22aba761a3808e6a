"""Kernels of MIL operations on torch tensors.

Written from the descriptions of the operations in the MIL reference of coremltools. Kernels receive
fp32 where the package has fp16; :mod:`latbench_exporters.coreml.mil` rounds their results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from latbench_exporters.coreml.calls import Call, Kernel
from latbench_exporters.coreml.layers import layers
from latbench_exporters.coreml.sampling import sampling
from latbench_exporters.coreml.shapes import shapes

if TYPE_CHECKING:
    import torch


def kernels() -> dict[str, Kernel]:
    """Operation name -> kernel."""
    return {
        **_elementwise(),
        **_reductions(),
        **layers(),
        **sampling(),
        **shapes(),
        "read_state": lambda c: c.tensor("input"),
        "coreml_update_state": lambda c: c.tensor("value"),
        "classify": _classify,
    }


def _elementwise() -> dict[str, Kernel]:
    import torch
    from torch.nn import functional

    one: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
        **{name: getattr(torch, name) for name in _SAME_AS_TORCH},
        "identity": lambda x: x,
        # The interpreter converts the result to the type that the package declares.
        "cast": lambda x: x,
        "square": lambda x: x * x,
        "relu6": functional.relu6,
        "silu": functional.silu,
        "softplus": functional.softplus,
        "softsign": functional.softsign,
    }
    two: Mapping[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
        "add": torch.add,
        "sub": torch.sub,
        "mul": torch.mul,
        "real_div": torch.div,
        "floor_div": lambda x, y: torch.div(x, y, rounding_mode="floor"),
        "mod": torch.remainder,
        "pow": torch.pow,
        "maximum": torch.maximum,
        "minimum": torch.minimum,
        "equal": torch.eq,
        "not_equal": torch.ne,
        "less": torch.lt,
        "less_equal": torch.le,
        "greater": torch.gt,
        "greater_equal": torch.ge,
        "logical_and": torch.logical_and,
        "logical_or": torch.logical_or,
        "logical_xor": torch.logical_xor,
    }
    return {
        **{name: _unary(function) for name, function in one.items()},
        **{name: _binary(function) for name, function in two.items()},
        "inverse": lambda c: 1 / (c.tensor("x") + c.value("epsilon", 1e-4)),
        "log": lambda c: torch.log(c.tensor("x") + c.value("epsilon", 1e-45)),
        "rsqrt": lambda c: torch.rsqrt(c.tensor("x") + c.value("epsilon", 1e-12)),
        "clip": lambda c: c.tensor("x").clamp(c.value("alpha"), c.value("beta")),
        "clamped_relu": lambda c: functional.leaky_relu(c.tensor("x"), c.value("alpha")).clamp(
            max=c.value("beta")
        ),
        "thresholded_relu": lambda c: functional.threshold(c.tensor("x"), c.value("alpha"), 0.0),
        "threshold": lambda c: c.tensor("x").clamp(min=c.value("alpha")),
        "elu": lambda c: functional.elu(c.tensor("x"), c.value("alpha")),
        "leaky_relu": lambda c: functional.leaky_relu(c.tensor("x"), c.value("alpha")),
        "prelu": lambda c: functional.prelu(c.tensor("x"), c.tensor("alpha")),
        "gelu": _gelu,
        "sigmoid_hard": lambda c: _linear_activation(c).clamp(0, 1),
        "linear_activation": _linear_activation,
        "scaled_tanh": lambda c: c.value("alpha") * torch.tanh(c.value("beta") * c.tensor("x")),
        "softmax": lambda c: torch.softmax(c.tensor("x"), c.value("axis", -1)),
        "select": lambda c: torch.where(c.tensor("cond").bool(), c.tensor("a"), c.tensor("b")),
        "cumsum": _cumsum,
        "quantize": _quantize,
        "dequantize": _dequantize,
    }


_SAME_AS_TORCH = (
    *("abs", "acos", "asin", "atan", "atanh", "ceil", "cos", "cosh", "erf", "exp", "exp2", "floor"),
    *("logical_not", "relu", "round", "sigmoid", "sign", "sin", "sinh", "sqrt", "tan", "tanh"),
)


def _unary(function: Callable[[torch.Tensor], torch.Tensor]) -> Kernel:
    return lambda c: function(c.tensor("x"))


def _binary(function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Kernel:
    return lambda c: function(c.tensor("x"), c.tensor("y"))


def _linear_activation(c: Call) -> torch.Tensor:
    result: torch.Tensor = c.tensor("x") * c.value("alpha") + c.value("beta")
    return result


def _gelu(c: Call) -> torch.Tensor:
    import torch
    from torch.nn import functional

    x, mode = c.tensor("x"), c.value("mode", "EXACT")
    if mode == "SIGMOID_APPROXIMATION":
        return x * torch.sigmoid(1.702 * x)
    return functional.gelu(x, approximate="none" if mode == "EXACT" else "tanh")


def _cumsum(c: Call) -> torch.Tensor:
    x, axis = c.tensor("x"), c.value("axis", 0)
    backwards = c.value("reverse", False)
    summed = (x.flip(axis) if backwards else x).cumsum(axis)
    if c.value("exclusive", False):
        summed = summed - (x.flip(axis) if backwards else x)
    return summed.flip(axis) if backwards else summed


def _classify(c: Call) -> Sequence[torch.Tensor]:
    """The index of the label, and the probabilities in the order of the sorted labels: Core ML
    returns them as a dictionary, which has no order."""
    import torch

    found, classes = c.tensor("probabilities").flatten(), list(c.value("classes"))
    if len(set(classes)) < len(classes):
        raise NotImplementedError("a label that occurs twice")
    order = sorted(range(len(classes)), key=lambda index: classes[index])
    return found.argmax(), found[torch.tensor(order)]


def _quantize(c: Call) -> torch.Tensor:
    x = c.tensor("input")
    low, high = (-128, 127) if c.value("output_dtype") == "int8" else (0, 255)
    shifted = (x / _along(c, "scale", x)).round() + _along(c, "zero_point", x)
    return shifted.clamp(low, high)


def _dequantize(c: Call) -> torch.Tensor:
    x = c.tensor("input").float()
    return (x - _along(c, "zero_point", x)) * _along(c, "scale", x)


def _along(c: Call, name: str, x: torch.Tensor) -> torch.Tensor | float:
    """A scalar, or one value per slice along ``axis``; 0 for a missing zero point."""
    found = c.maybe(name)
    if found is None:
        return 0.0
    shape = [1] * x.ndim
    if found.ndim:
        shape[c.value("axis")] = -1
    return found.float().reshape(shape)


def _reductions() -> dict[str, Kernel]:
    import torch

    many: Mapping[str, Callable[[torch.Tensor, tuple[int, ...], bool], torch.Tensor]] = {
        "reduce_mean": lambda x, axes, keep: x.mean(axes, keepdim=keep),
        "reduce_sum": lambda x, axes, keep: x.sum(axes, keepdim=keep),
        "reduce_max": lambda x, axes, keep: x.amax(axes, keepdim=keep),
        "reduce_min": lambda x, axes, keep: x.amin(axes, keepdim=keep),
        "reduce_l1_norm": lambda x, axes, keep: x.abs().sum(axes, keepdim=keep),
        "reduce_l2_norm": lambda x, axes, keep: (x * x).sum(axes, keepdim=keep).sqrt(),
        "reduce_sum_square": lambda x, axes, keep: (x * x).sum(axes, keepdim=keep),
        "reduce_log_sum": lambda x, axes, keep: x.sum(axes, keepdim=keep).log(),
        "reduce_prod": _product,
        "reduce_log_sum_exp": lambda x, axes, keep: torch.logsumexp(x, axes, keepdim=keep),
    }
    return {
        **{name: _reduction(function) for name, function in many.items()},
        "reduce_argmax": lambda c: c.tensor("x").argmax(c.value("axis"), c.value("keep_dims")),
        "reduce_argmin": lambda c: c.tensor("x").argmin(c.value("axis"), c.value("keep_dims")),
    }


def _product(x: torch.Tensor, axes: tuple[int, ...], keep: bool) -> torch.Tensor:
    """torch multiplies along one axis at a time."""
    for axis in sorted((axis % x.ndim for axis in axes), reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


def _reduction(
    function: Callable[[torch.Tensor, tuple[int, ...], bool], torch.Tensor],
) -> Kernel:
    def kernel(c: Call) -> torch.Tensor:
        x = c.tensor("x")
        axes = c.value("axes")
        return function(x, tuple(range(x.ndim) if axes is None else axes), c.value("keep_dims"))

    return kernel
