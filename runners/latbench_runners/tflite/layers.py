"""Names of layers for the operators of a profile.

The profiler names kinds only: operators of TFLite with their place in the file, those of XNNPACK
with their place among XNNPACK's own. XNNPACK executes nodes in the order of the file, but fuses
some and adds others. So the k-th convolution that was executed is the k-th of the file where there
are as many of both, and an operator whose kind was fused or added somewhere stays without a name.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

CONVOLUTIONS = "convolution"
"""XNNPACK computes 1x1 convolutions as fully connected layers, so these are one kind."""
KINDS = {
    **dict.fromkeys(
        ("conv_2d", "depthwise_conv_2d", "fully_connected", "fully connected", CONVOLUTIONS),
        CONVOLUTIONS,
    ),
    "dynamic fully connected": CONVOLUTIONS,
    "transpose_conv": "deconvolution",
    "batch_matmul": "batch matrix multiply",
    "mul": "multiply",
    "sub": "subtract",
    "div": "divide",
    "strided_slice": "slice",
    "reshape": "static reshape",
    "pad": "constant pad",
    "max_pool_2d": "max pooling",
    "average_pool_2d": "average pooling",
    "logistic": "sigmoid",
    "hard_swish": "hardswish",
    "resize_bilinear": "resize bilinear",
    "depth_to_space": "depth to space",
}
"""Names of TFLite and XNNPACK, in lower case, for kinds that have several."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """One operator in the file."""

    operator: str
    layer: str
    """The name of its first output."""


@dataclass(frozen=True, kw_only=True)
class Executed:
    """One operator that was executed."""

    tag: str
    node: int | None
    """Its place in the file; ``None`` if a delegate executed it."""


def layers_of(nodes: Sequence[Node], executed: Sequence[Executed]) -> list[str | None]:
    """The name of the layer of each executed operator, ``None`` where it is not certain."""
    names: list[str | None] = [None] * len(executed)
    own = {each.node: at for at, each in enumerate(executed) if each.node is not None}
    in_file: dict[str, list[int]] = defaultdict(list)
    in_run: dict[str, list[int]] = defaultdict(list)
    for i, listed_node in enumerate(nodes):
        in_file[_kind(listed_node.operator)].append(i)
    for at, each in enumerate(executed):
        in_run[_kind(each.tag)].append(at)
    for kind, places in in_run.items():
        listed = in_file[kind]
        # Where TFLite itself executes nodes in between, a delegated node may have moved before one
        # of them; then more of its kind come before that node than in the file.
        moved = any(
            sum(place < at for place in places) != sum(i < node for i in listed)
            for node, at in own.items()
        )
        if len(listed) == len(places) and not moved:
            for place, i in zip(places, listed, strict=True):
                names[place] = nodes[i].layer
    for node, at in own.items():
        names[at] = nodes[node].layer if node < len(nodes) else None
    return names


def _kind(name: str) -> str:
    plain = name.partition(" (")[0].lower()
    return KINDS.get(plain, plain)
