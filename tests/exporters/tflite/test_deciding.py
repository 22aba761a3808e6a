"""Integers that decide how much is computed are told from those that are only looked up."""

from __future__ import annotations

from pathlib import Path

import pytest

from latbench.api import ExportSpec
from latbench_exporters.tflite.deciding import deciding_inputs
from latbench_exporters.tflite.exporter import exporter
from latbench_exporters.tflite.file import Graph, Operator, Tensor, parse_all
from support.tflite_files import adder, filler

ADD, FULLY_CONNECTED, RESHAPE, GATHER, TILE, FILL = 0, 9, 22, 36, 69, 94
LESS, SHAPE, IF, WHILE = 58, 77, 118, 119


def op(code: int, inputs: tuple[int, ...], *outputs: int, calls: tuple[int, ...] = ()) -> Operator:
    return Operator(code=code, custom=None, inputs=inputs, outputs=outputs, calls=calls)


def graph(
    *operators: Operator,
    inputs: tuple[int, ...] = (0, 1),
    outputs: tuple[int, ...] = (3,),
    dtype: str = "int32",
    shape: tuple[int, ...] = (1,),
    quantized: bool = False,
) -> Graph:
    """Tensor 0 is the integer input ``n``, tensor 1 the input ``x`` of floats."""
    plain = {"shape": (4,), "constant": False}
    return Graph(
        tensors=(
            Tensor(name="n", shape=shape, dtype=dtype, constant=False, quantized=quantized),
            *(Tensor(name="x", dtype="float32", quantized=False, **plain) for _ in range(5)),
        ),
        operators=operators,
        inputs=inputs,
        outputs=outputs,
        subgraphs=1,
    )


@pytest.mark.parametrize(
    ("operators", "found"),
    [
        ((op(RESHAPE, (1, 0), 3),), ("n",)),
        ((op(FILL, (0, 1), 3),), ("n",)),
        ((op(ADD, (0, 2), 4), op(TILE, (1, 4), 3)), ("n",)),
        ((op(RESHAPE, (0, 1), 3),), ()),
        # The shape of an input is no value of it.
        ((op(SHAPE, (0,), 4), op(FILL, (4, 1), 3)), ()),
        # What an embedding makes of integers are the numbers of a network.
        ((op(GATHER, (1, 0), 4), op(FULLY_CONNECTED, (4, 2), 5), op(TILE, (1, 5), 3)), ()),
        ((op(IF, (0, 1), 3, calls=(1, 2)),), ("n",)),
    ],
)
def test_operators(operators: tuple[Operator, ...], found: tuple[str, ...]) -> None:
    assert deciding_inputs([graph(*operators)]) == found


@pytest.mark.parametrize(
    "changes", [{"shape": (1, 8, 8)}, {"dtype": "float32"}, {"quantized": True}]
)
def test_numbers_of_a_network_decide_nothing(changes: dict[str, object]) -> None:
    assert deciding_inputs([graph(op(FILL, (0, 1), 3), **changes)]) == ()  # type: ignore[arg-type]


def test_a_loop_whose_condition_compares_the_input() -> None:
    loop = graph(op(WHILE, (1, 0), 3, 4, calls=(1, 2)))
    condition = graph(op(LESS, (0, 1), 3))
    body = graph(outputs=(0, 1))
    assert deciding_inputs([loop, condition, body]) == ("n",)
    other = graph(op(LESS, (0, 2), 3))
    assert deciding_inputs([loop, other, body]) == ()
    # The body copies the variable to the one that is compared.
    assert deciding_inputs([loop, other, graph(outputs=(1, 1))]) == ("n",)
    # A size in the body.
    assert deciding_inputs([loop, other, graph(op(FILL, (1, 2), 3), outputs=(0, 1))]) == ("n",)


def test_a_size_in_a_branch() -> None:
    branch, plain = graph(op(FILL, (1, 2), 3)), graph(op(ADD, (0, 1), 3))
    calling = graph(op(IF, (2, 1, 0), 3, calls=(1, 2)))
    assert deciding_inputs([calling, plain, branch]) == ("n",)
    assert deciding_inputs([calling, plain, plain]) == ()
    after = graph(op(IF, (2, 1, 0), 4, calls=(1, 1)), op(FILL, (4, 1), 3))
    assert deciding_inputs([after, plain]) == ("n",)


def test_damaged_files_end() -> None:
    itself = graph(op(IF, (2, 0), 3, calls=(0, 9)), op(WHILE, (0,), 3, calls=(-1, 0)))
    assert deciding_inputs([itself]) == ()
    deep = [graph(*(op(WHILE, (0,), 3, calls=(i + 1, i + 1)) for _ in range(9))) for i in range(40)]
    assert deciding_inputs(deep) == ("n",)


def test_a_file_whose_work_depends_on_a_value(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert.interpreter", reason="needs the `tflite` extra")
    path = filler(tmp_path / "fill.tflite")
    assert deciding_inputs(parse_all(path.read_bytes())) == ("n",)
    found = exporter().adopt(path, ExportSpec(), tmp_path / "out.tflite")
    assert found.details["decided_by"] == "n"
    content = exporter().inspect(path)  # type: ignore[attr-defined]
    assert [each.decides for each in content.inputs] == [True]
    plain = adder(tmp_path / "add.tflite")
    assert "decided_by" not in exporter().adopt(plain, ExportSpec(), tmp_path / "o.tflite").details
