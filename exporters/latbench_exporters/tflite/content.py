"""Describe a TFLite file as it is: open axes, operators, description. Nothing is executed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from latbench.api import FileContent, OpenTensor, StageError
from latbench_exporters.tflite.adopt import find_deciding
from latbench_exporters.tflite.file import contents, count, parse, precision_of, read
from latbench_exporters.tflite.flatbuffer import Table

SUBGRAPHS, DESCRIPTION, TENSORS, OPEN_SHAPE = 2, 3, 0, 7
"""Field numbers of the schema."""


def inspect_file(path: Path) -> FileContent:
    """The content of the file at ``path``. Raises :class:`StageError`."""
    content = contents(path)
    graph = parse(content, path.name)
    model = Table.root(content)
    deciding = find_deciding(content, path.name)
    stated = [tensor.numbers(OPEN_SHAPE) for tensor in model.tables(SUBGRAPHS)[0].tables(TENSORS)]

    def tensor(i: int) -> OpenTensor:
        sizes = stated[i] if len(stated[i]) == len(graph.tensors[i].shape) else ()
        return OpenTensor(
            name=graph.tensors[i].name,
            shape=tuple(None if size < 0 else size for size in sizes or graph.tensors[i].shape),
            dtype=graph.tensors[i].dtype,
            decides=graph.tensors[i].name in deciding,
        )

    counts, names = count(graph), _operator_names()
    try:
        read(path)
        problem = None
    except StageError as error:
        problem = error.message
    return FileContent(
        inputs=tuple(map(tensor, graph.inputs)),
        outputs=tuple(map(tensor, graph.outputs)),
        operators=Counter(
            operator.custom or names.get(operator.code, f"operator {operator.code}")
            for operator in graph.operators
        ),
        details={
            name: value
            for name, value in (
                ("description", model.text(DESCRIPTION)),
                ("subgraphs", str(graph.subgraphs) if graph.subgraphs > 1 else ""),
            )
            if value
        },
        parameters=None if counts is None else counts.parameters,
        parameter_bytes=None if counts is None else counts.parameter_bytes,
        macs=None if counts is None else counts.macs,
        precision=precision_of(graph),
        problem=problem,
    )


def _operator_names() -> Mapping[int, str]:
    """Names of the built-in operators by number, from the runtime's own schema if installed."""
    try:
        from ai_edge_litert import schema_py_generated as schema
    except ImportError:
        return {}
    return {
        number: name
        for name, number in vars(schema.BuiltinOperator).items()
        if isinstance(number, int)
    }
