"""Change a TFLite file in place: the sizes of its inputs, and the signature that it runs.

The numbers that are changed keep their places, so no offset moves. Runtimes compute the shapes of
all other tensors from those of the inputs.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from latbench.api import StageError
from latbench_exporters.tflite.flatbuffer import Table

CALLS = (31, 118, 119, 129, 200, 206, 209)
"""Operators that call other subgraphs: CALL, IF, WHILE, CALL_ONCE and those of StableHLO."""


def set_shapes(content: bytearray, shapes: Mapping[int, Sequence[int]]) -> None:
    """Store ``shapes`` for tensors of the first graph, by index; the number of axes stays.

    Raises :class:`StageError` if the file stores the sizes of several tensors in one place.
    """
    tensors = Table.root(bytes(content)).tables(2)[0].tables(0)
    places = [tensor.place(0)[0] for tensor in tensors]
    for index, shape in shapes.items():
        place = places[index]
        shared = [i for i, other in enumerate(places) if other == place and i not in shapes]
        if shared:
            raise StageError(
                "export",
                f"input {tensors[index].text(3)!r} shares its stored shape with "
                f"{tensors[shared[0]].text(3)!r}, so it cannot be resized",
                hint="convert the model again with the size that you need",
            )
        struct.pack_into(f"<{len(shape)}i", content, place, *shape)


def select_graph(content: bytearray, index: int) -> None:
    """Make graph ``index`` the first one, which runtimes execute, and drop the signatures.

    Raises :class:`StageError` if an operator calls another graph by its index.
    """
    model = Table.root(bytes(content))
    codes = [max(code.number(0, "b"), code.number(3, "i")) for code in model.tables(1)]
    if any(code in CALLS for code in codes):
        raise StageError(
            "export",
            "a signature cannot be selected in a file with control flow, whose operators refer to "
            "graphs by their order",
            hint="convert the model again with this signature alone",
        )
    start, _ = model.place(2)
    first, other = start, start + 4 * index
    (to_first,) = struct.unpack_from("<I", content, first)
    (to_other,) = struct.unpack_from("<I", content, other)
    struct.pack_into("<I", content, first, other + to_other - first)
    distance = first + to_first - other
    if distance < 0:
        # Offsets are unsigned: the graph that was first is no longer needed.
        distance = to_other
    struct.pack_into("<I", content, other, distance)
    signatures, _ = model.place(7)
    if signatures:
        struct.pack_into("<I", content, signatures - 4, 0)
