"""Walk ONNX graphs with their subgraphs, and put their nodes in order."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and all its subgraphs. Iterative, since the file determines the depth."""
    pending = [graph]
    while pending:
        found = pending.pop()
        yield found
        pending.extend(part for node in found.node for part in subgraphs(node))


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All nodes, including those of subgraphs."""
    for part in graphs(graph):
        yield from part.node


def subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The graphs that a node executes: branches of an If, the body of a Loop."""
    return [
        part
        for attribute in node.attribute
        for part in (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs)
    ]


def sort_nodes(graph: onnx.GraphProto) -> None:
    """Put the nodes into an order in which each follows those that it reads, close to the order
    that they have. Raises :class:`ValueError` if they form a cycle."""
    made_by = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    needs = [
        {made_by[name] for name in _read(node) if name in made_by and made_by[name] != i}
        for i, node in enumerate(graph.node)
    ]
    if all(before < i for i, before_it in enumerate(needs) for before in before_it):
        return
    users: dict[int, list[int]] = {}
    for i, before_it in enumerate(needs):
        for before in before_it:
            users.setdefault(before, []).append(i)
    ready, order = [i for i, before_it in enumerate(needs) if not before_it], []
    heapq.heapify(ready)
    while ready:
        done = heapq.heappop(ready)
        order.append(done)
        for user in users.get(done, ()):
            needs[user].discard(done)
            if not needs[user]:
                heapq.heappush(ready, user)
    if len(order) < len(graph.node):
        raise ValueError("its nodes form a cycle")
    in_order = [graph.node[i] for i in order]
    ordered = type(graph)()
    ordered.node.extend(in_order)
    del graph.node[:]
    graph.node.extend(ordered.node)


def _read(node: onnx.NodeProto) -> Iterator[str]:
    """Names that a node reads, also by its subgraphs."""
    yield from node.input
    for part in subgraphs(node):
        for inner in graphs(part):
            yield from (name for each in inner.node for name in each.input)
            yield from (value.name for value in inner.output)
