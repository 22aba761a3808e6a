"""Find the integer inputs whose values decide how much a graph computes.

Operators are numbered as in the TFLite schema, version 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from latbench_exporters.tflite.file import Graph, Operator

IF, WHILE = 118, 119
SIZES: Mapping[int, tuple[int, ...]] = {
    **{22: (1,), 94: (0,), 96: (0, 1, 2)},  # RESHAPE, FILL, RANGE
    **{65: (1, 2), 45: (1, 2, 3)},  # SLICE, STRIDED_SLICE
    **{34: (1,), 60: (1,), 100: (1,)},  # PAD, PADV2, MIRROR_PAD
    **{23: (1,), 97: (1,)},  # RESIZE_BILINEAR, RESIZE_NEAREST_NEIGHBOR
    **{69: (1,), 130: (1,), 48: (1,), 102: (1,)},  # TILE, BROADCAST_TO, TOPK_V2, SPLIT_V
    **{109: (0,), 103: (0,), 85: (1,)},  # WHERE, UNIQUE, ONE_HOT
    **{37: (1, 2), 38: (1, 2)},  # BATCH_TO_SPACE_ND, SPACE_TO_BATCH_ND
    **{67: (0,), 68: (1,), 122: (2,)},  # TRANSPOSE_CONV, SPARSE_TO_DENSE, SCATTER_ND
    **{146: (0,), 148: (0,)},  # RANDOM_STANDARD_NORMAL, RANDOM_UNIFORM
    **{120: (2,), 121: (2,)},  # NON_MAX_SUPPRESSION_V4 and V5
}
"""Operator -> positions of the inputs whose values decide the size of what it computes."""
ARITHMETIC = frozenset(
    (
        *(0, 41, 18, 42, 55, 57, 53),  # ADD, SUB, MUL, DIV, MAXIMUM, MINIMUM, CAST
        *(59, 101, 92, 8, 104, 116),  # NEG, ABS, SQUARE, FLOOR, CEIL, ROUND
        *(90, 95),  # FLOOR_DIV, FLOOR_MOD
        *(2, 83, 88, 43, 70, 22),  # CONCATENATION, PACK, UNPACK, SQUEEZE, EXPAND_DIMS, RESHAPE
        *(36, 107, 65, 45, 49, 102),  # GATHER, GATHER_ND, SLICE, STRIDED_SLICE, SPLIT, SPLIT_V
        *(71, 72, 61, 62, 58, 63),  # EQUAL, NOT_EQUAL, GREATER and LESS, each also with EQUAL
        *(86, 84, 87, 64, 123),  # LOGICAL_AND, LOGICAL_OR, LOGICAL_NOT, SELECT, SELECT_V2
        *(74, 81, 82, 89, 91, 140, 128),  # SUM, REDUCE_PROD, _MAX, _MIN, _ANY, _ALL, CUMSUM
    )
)
"""Operators that pass integers on as a program does. The others, from an embedding to a product,
make numbers of a network from them."""
LOOKUPS = frozenset((36, 107))
"""GATHER and GATHER_ND pass on what is looked up, the first input, and not the integers that
point."""


def deciding_inputs(graphs: Sequence[Graph]) -> tuple[str, ...]:
    """Names of the integer and boolean inputs of the first of a file's ``graphs`` that decide a
    size, a branch or a number of steps."""
    main, flow = graphs[0], _Flow(graphs)
    found = []
    for position, index in enumerate(main.inputs):
        tensor = main.tensors[index]
        counts = tensor.dtype == "bool" or ("int" in tensor.dtype and not tensor.quantized)
        # Images of 8 bits are integers too.
        if counts and len(tensor.shape) < 3 and flow.follow(0, frozenset({position})).decides:
            found.append(tensor.name)
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What depends on some of a graph's inputs."""

    decides: bool = False
    outputs: frozenset[int] = frozenset()
    """Positions of outputs."""


class _Flow:
    """Follows values through the graphs of a file."""

    def __init__(self, graphs: Sequence[Graph]) -> None:
        self._graphs = graphs
        self._known: dict[tuple[int, frozenset[int]], _Found] = {}

    def follow(self, index: int, given: frozenset[int]) -> _Found:
        """What the inputs at the positions ``given`` of a graph decide."""
        if not 0 <= index < len(self._graphs):
            return _Found()
        if (index, given) not in self._known:
            self._known[index, given] = _Found()  # for a damaged graph that executes itself
            self._known[index, given] = self._through(self._graphs[index], given)
        return self._known[index, given]

    def _through(self, graph: Graph, given: frozenset[int]) -> _Found:
        reached = {graph.inputs[at] for at in given if at < len(graph.inputs)}
        for operator in graph.operators:
            at = frozenset(i for i, tensor in enumerate(operator.inputs) if tensor in reached)
            if not at:
                continue
            found = self._operator(operator, at)
            if found.decides:
                return found
            reached.update(operator.outputs[i] for i in found.outputs if i < len(operator.outputs))
        outputs = (i for i, tensor in enumerate(graph.outputs) if tensor in reached)
        return _Found(outputs=frozenset(outputs))

    def _operator(self, operator: Operator, at: frozenset[int]) -> _Found:
        """What an operator's inputs ``at`` decide."""
        if operator.code == IF:
            return self._branches(operator, at)
        if operator.code == WHILE and len(operator.calls) == 2:
            return self._steps(*operator.calls, at)
        if at & set(SIZES.get(operator.code, ())):
            return _Found(decides=True)
        if operator.code in ARITHMETIC and (operator.code not in LOOKUPS or 0 in at):
            return _Found(outputs=frozenset(range(len(operator.outputs))))
        return _Found()

    def _branches(self, operator: Operator, at: frozenset[int]) -> _Found:
        passed = frozenset(i - 1 for i in at if i)
        branches = [self.follow(index, passed) for index in operator.calls]
        return _Found(
            decides=0 in at or any(each.decides for each in branches),
            outputs=frozenset().union(*(each.outputs for each in branches)),
        )

    def _steps(self, condition: int, body: int, at: frozenset[int]) -> _Found:
        carried, step = at, self.follow(body, at)
        while not step.outputs <= carried:
            # What one step makes of a variable is what the next one gets.
            carried |= step.outputs
            step = self.follow(body, carried)
        again = self.follow(condition, carried)
        decides = step.decides or again.decides or 0 in again.outputs
        return _Found(decides=decides, outputs=carried)
