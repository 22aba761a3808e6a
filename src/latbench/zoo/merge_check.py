"""Apply a method that claims to cost nothing at inference, merge it, and compare the graphs.

The merged network is compared with the plain one operator by operator.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest
from math import isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

from latbench.errors import StageError
from latbench.schema.graph import GraphSize, MergedGraphs, Method
from latbench.zoo.builder import (
    build_trained,
    deployed,
    summary,
)
from latbench.zoo.foreign_code import tensors_in
from latbench.zoo.macs import count
from latbench.zoo.model import ResolvedModel
from latbench.zoo.resolver import resolve

if TYPE_CHECKING:
    import torch
    from torch import nn

    Inputs = tuple[torch.Tensor, ...]

TRAININGS = 2
"""Number of trained networks to average: graphs and costs are the same for any number."""


@dataclass(frozen=True, kw_only=True)
class Plain:
    """A network without the method: as trained, in float64, and its deployed graph."""

    model: ResolvedModel
    module: nn.Module
    inputs: Inputs
    graph: list[Node]
    size: GraphSize


def check_merge(method: Method, host: str) -> MergedGraphs:
    """Apply ``method`` to the network ``host`` and merge it. Raises :class:`LatbenchError`."""
    plain = _plain(host)
    from latbench.zoo.nets import methods

    with summary(f"{method} cannot be applied to {host}"):
        if method == "averaged-weights":
            parts = methods.trainings(plain.module, TRAININGS)
            return compare_graphs(
                plain, methods.Together(parts), methods.averaged(parts), same=False
            )
        applied = methods.with_scale_and_shift(plain.module, methods.places(plain.module))
        return compare_graphs(plain, applied, methods.merged(applied), same=True)


@lru_cache(maxsize=4)
def _plain(host: str) -> Plain:
    """The plain network, kept for the next method on the same host."""
    model = resolve(host, weights=None, batch=None, resolution=None, seed=0)
    if model.path is not None:
        raise StageError("build", "a method cannot be applied to a pre-exported file")
    trained = build_trained(model)
    module, inputs = trained.module.double(), tuple(tensor.double() for tensor in trained.inputs)
    with summary(f"{host} cannot be exported in float64"):
        form = deployed(model, module, inputs)
        nodes = graph(form, inputs)
        size = _size(form, nodes, inputs)
    return Plain(model=model, module=module, inputs=inputs, graph=nodes, size=size)


def compare_graphs(
    plain: Plain, applied: nn.Module, merged: nn.Module, *, same: bool
) -> MergedGraphs:
    """Compare graphs; ``same``: whether ``merged`` must compute the same as ``applied``."""
    import torch

    inputs, apart = plain.inputs, None
    if same:
        with torch.no_grad():
            apart = _apart(tensors_in(applied(*inputs)), tensors_in(merged(*inputs)))
    before = graph(deployed(plain.model, applied, inputs), inputs)
    form = deployed(plain.model, merged, inputs)
    after = graph(form, inputs)
    return MergedGraphs(
        plain=plain.size,
        merged=_size(form, after, inputs),
        unmerged_operators=_operators(before),
        difference=difference(plain.graph, after),
        apart=apart,
    )


def _apart(wanted: list[torch.Tensor], found: list[torch.Tensor]) -> float:
    scale = max(float(one.abs().max()) for one in wanted)
    furthest = max(float((a - b).abs().max()) for a, b in zip(wanted, found, strict=True))
    if not (isfinite(furthest) and scale > 0):
        raise StageError("build", "its outputs are all zero, or not finite")
    return furthest / scale


class Node(NamedTuple):
    """An input, a weight or an operator of an exported graph."""

    what: str
    takes: str
    """The numbers of earlier nodes, and constants."""
    gives: str
    """Shape and type."""

    @property
    def is_operator(self) -> bool:
        """Whether it is neither an input nor a weight nor the output."""
        return self.what not in ("placeholder", "get_attr", "output")


def graph(module: nn.Module, inputs: Inputs) -> list[Node]:
    """The exported nodes in order. Weights have no names, because these depend on the module
    structure; order and shape identify them."""
    import torch

    program = torch.export.export(module, inputs, strict=False)
    numbers: dict[Any, str] = {}
    nodes = []
    for node in program.graph.nodes:
        numbers[node] = f"%{len(numbers)}"
        takes = torch.fx.node.map_arg((node.args, dict(node.kwargs)), numbers.__getitem__)
        what = str(node.target) if node.op == "call_function" else node.op
        values = tensors_in(node.meta.get("val"))
        gives = ", ".join(f"{tuple(value.shape)} {value.dtype}" for value in values)
        nodes.append(Node(what=what, takes=str(takes), gives=gives))
    return nodes


def difference(plain: list[Node], merged: list[Node]) -> str | None:
    """The first difference, in operators before connections; ``None`` if there is none."""
    if plain == merged:
        return None
    operators = [[(n.what, n.gives) for n in each if n.is_operator] for each in (plain, merged)]
    for wanted, found in zip_longest(*operators, fillvalue=("nothing more", "")):
        if wanted != found:
            return f"{' '.join(found)} where the plain one has {' '.join(wanted)}"
    for one, other in zip_longest(plain, merged):
        if one != other:
            return f"{other} where the plain one has {one}"
    return None


def _size(module: nn.Module, nodes: list[Node], inputs: Inputs) -> GraphSize:
    # A copy, because the move to `meta` loses the values.
    shapes = copy.deepcopy(module).to("meta")
    counts = count(shapes, tuple(tensor.to("meta") for tensor in inputs))
    return GraphSize(operators=_operators(nodes), parameters=counts.parameters, macs=counts.macs)


def _operators(nodes: list[Node]) -> int:
    return sum(node.is_operator for node in nodes)
