"""Exact rewrites of a traced graph where the TFLite converter fails.

Each computes the same values as before; the exporter's parity check covers the result.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch.fx import GraphModule, Node


def rewritten(
    module: torch.nn.Module, arguments: tuple[torch.Tensor, ...]
) -> tuple[torch.nn.Module, tuple[str, ...]]:
    """Trace ``module`` and rewrite what can be rewritten; return it with the rewrites' names."""
    import torch

    with torch.no_grad():
        program = torch.export.export(module, arguments)
    graph_module: GraphModule = program.module()
    applied = []
    for rewrite in (
        plain_broadcasts,
        nearest_by_index,
        products_as_convolutions,
        averages_without_edge,
    ):
        if rewrite(graph_module):
            applied.append(rewrite.__name__)
    graph_module.graph.lint()
    graph_module.recompile()
    return graph_module, tuple(applied)


def plain_broadcasts(graph_module: Any) -> int:
    """Remove an ``expand`` before arithmetic that broadcasts anyway.

    The converter lowers the two together into a product with incompatible operands (MobileViTv2's
    ``relu(v) * context.expand_as(v)``).
    """
    import torch

    aten = torch.ops.aten
    arithmetic = {
        *(aten.mul.Tensor, aten.add.Tensor, aten.sub.Tensor, aten.div.Tensor),
        *(operator.mul, operator.add, operator.sub, operator.truediv),
    }
    removed = 0
    for node in list(graph_module.graph.nodes):
        if node.target not in (aten.expand.default, aten.expand_as.default):
            continue
        source = node.args[0]
        if _shape(source) is None or len(_shape(source) or ()) != len(_shape(node) or ()):
            continue
        for user in list(node.users):
            others = [arg for arg in user.all_input_nodes if arg is not node]
            # Another operand must have the full shape; otherwise the expansion determines it.
            if user.target in arithmetic and any(_shape(arg) == _shape(node) for arg in others):
                user.replace_input_with(node, source)
                removed += 1
        if not node.users:
            graph_module.graph.erase_node(node)
    return removed


def nearest_by_index(graph_module: Any) -> int:
    """Replace nearest-neighbor upsampling with a fractional ratio by row and column selection.

    The converter's resize selects other pixels then: 3 -> 7 pixels (GhostNetV2) gave outputs that
    were off by 7 %, without an error.
    """
    import torch

    aten = torch.ops.aten
    found = 0
    for node in list(graph_module.graph.nodes):
        if node.target is not aten.upsample_nearest2d.vec:
            continue
        source, before, after = node.args[0], _shape(node.args[0]), _shape(node)
        if before is None or after is None or _whole(before[2:], after[2:]):
            continue
        value = source
        with graph_module.graph.inserting_before(node):
            for axis in (2, 3):
                name = f"nearest_{before[axis]}_{after[axis]}"
                if not hasattr(graph_module, name):
                    graph_module.register_buffer(name, _picked(before[axis], after[axis]))
                index = graph_module.graph.get_attr(name)
                value = graph_module.graph.call_function(
                    aten.index_select.default, (value, axis, index)
                )
        node.replace_all_uses_with(value)
        graph_module.graph.erase_node(node)
        found += 1
    return found


def products_as_convolutions(graph_module: Any) -> int:
    """Replace a linear layer over the pixels of an image by a 1x1 convolution.

    The converter moves a later reshape up through sums, norms and products, and if another user
    needs the original shape, it computes all of them twice (Swin's patch merging). It does not
    move a reshape through a convolution.
    """
    import torch

    aten = torch.ops.aten
    found = 0
    for node in list(graph_module.graph.nodes):
        if node.target is not aten.linear.default or len(_shape(node.args[0]) or ()) != 4:
            continue
        source, weight, *bias = node.args
        graph = graph_module.graph
        with graph.inserting_before(node):
            image = graph.call_function(aten.permute.default, (source, [0, 3, 1, 2]))
            rows, columns = _shape(weight) or (0, 0)
            kernel = graph.call_function(aten.reshape.default, (weight, [rows, columns, 1, 1]))
            product = graph.call_function(aten.conv2d.default, (image, kernel, *bias))
            back = graph.call_function(aten.permute.default, (product, [0, 2, 3, 1]))
        node.replace_all_uses_with(back)
        graph.erase_node(node)
        found += 1
    return found


def averages_without_edge(graph_module: Any) -> int:
    """Replace strided average pooling that excludes padding by pooling over zero padding, scaled
    by the share of pixels that count.

    The converter keeps the first as a subgraph for which no runtime has a kernel (NASNet's
    reductions); at stride 1 it has an operator.
    """
    import torch

    aten = torch.ops.aten
    found = 0
    for node in list(graph_module.graph.nodes):
        if node.target is not aten.avg_pool2d.default:
            continue
        source, kernel, stride, padding, ceil, edge_counts = _pooling(node)
        before = _shape(source)
        if edge_counts or ceil or max(padding) == 0 or max(stride) == 1 or before is None:
            continue
        edge = (padding[1], padding[1], padding[0], padding[0])
        inside = torch.nn.functional.pad(torch.ones(1, 1, *before[2:]), edge)
        share = 1 / torch.nn.functional.avg_pool2d(inside, kernel, stride)
        name = f"inside_{found}"
        graph_module.register_buffer(name, share)
        with graph_module.graph.inserting_before(node):
            wide = graph_module.graph.call_function(
                aten.constant_pad_nd.default, (source, list(edge))
            )
            mean = graph_module.graph.call_function(
                aten.avg_pool2d.default, (wide, list(kernel), list(stride))
            )
            factor = graph_module.graph.get_attr(name)
            value = graph_module.graph.call_function(aten.mul.Tensor, (mean, factor))
        node.replace_all_uses_with(value)
        graph_module.graph.erase_node(node)
        found += 1
    return found


def misconverted(module: torch.nn.Module, arguments: tuple[torch.Tensor, ...]) -> bool:
    """Whether the network contains an operation that the converter silently converts wrongly."""
    import torch
    from torch.overrides import TorchFunctionMode

    seen: list[bool] = []

    class Watching(TorchFunctionMode):
        """Records every nearest-neighbor resize."""

        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            result = func(*args, **(kwargs or {}))
            if func is torch.nn.functional.interpolate and args[0].ndim == 4:
                mode = (kwargs or {}).get("mode", "nearest")
                sizes = tuple(args[0].shape[2:]), tuple(result.shape[2:])
                seen.append(mode == "nearest" and not _whole(*sizes))
            return result

    with torch.no_grad(), Watching():
        module(*arguments)
    return any(seen)


def _pooling(node: Node) -> tuple[Any, ...]:
    """Input, kernel, stride, padding, ceil mode, and whether padding counts, with defaults filled
    in. A divisor override is treated as counting the padding: it is not a mean of pixels."""
    names = ("input", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")
    defaults = {"stride": (), "padding": (0, 0), "ceil_mode": False, "count_include_pad": True}
    given = {**defaults, **dict(zip(names, node.args, strict=False)), **node.kwargs}
    own = node.kwargs.get("divisor_override") is not None or len(node.args) > len(names)
    kernel = _two(given["kernel_size"])
    return (
        given["input"],
        kernel,
        _two(given["stride"]) or kernel,
        _two(given["padding"]),
        given["ceil_mode"],
        given["count_include_pad"] or own,
    )


def _two(value: Any) -> tuple[int, ...]:
    """Height and width, from one number or a list as accepted by PyTorch."""
    numbers = tuple(value) if isinstance(value, list | tuple) else (value,)
    return numbers * 2 if len(numbers) == 1 else numbers


def _whole(before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    return all(new % old == 0 for old, new in zip(before, after, strict=True))


def _picked(before: int, after: int) -> torch.Tensor:
    """Source index that PyTorch uses for each new pixel."""
    import torch

    line = torch.arange(before, dtype=torch.float64).reshape(1, 1, -1)
    return torch.nn.functional.interpolate(line, size=after, mode="nearest").flatten().long()


def _shape(node: Node) -> tuple[int, ...] | None:
    """Shape of a node with one tensor as output."""
    shape = getattr(node.meta.get("val"), "shape", None)
    return None if shape is None else tuple(shape)
