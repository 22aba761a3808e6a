"""ONNX files that others made: whose work can be counted, and in what they compute."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from latbench.api import ExportSpec, UsageError, make_inputs
from latbench_exporters.onnx import external
from latbench_exporters.onnx.counts import count
from latbench_exporters.onnx.exporter import _require_opset, exporter
from latbench_exporters.onnx.graph import read
from latbench_exporters.onnx.int8 import quantize
from latbench_exporters.onnx.precision import precision_of
from support import onnx_files
from support.models import TinyModel

F32, F16, BF16 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16
I8, U8 = TensorProto.INT8, TensorProto.UINT8


def graph_of(
    nodes: Sequence[NodeProto],
    *,
    given: tuple[int, Sequence[int]],
    taken: tuple[int, Sequence[int]],
    constants: Sequence[TensorProto] = (),
) -> onnx.ModelProto:
    """``x`` to ``y``."""
    return helper.make_model(
        helper.make_graph(
            nodes,
            "made",
            [helper.make_tensor_value_info("x", *given)],
            [helper.make_tensor_value_info("y", *taken)],
            constants,
        ),
        opset_imports=[helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)],
    )


def constant(name: str, kind: int, shape: Sequence[int]) -> TensorProto:
    size = int(np.prod(shape))
    return helper.make_tensor(name, kind, shape, [1] * size)


def scales(*names: str) -> list[TensorProto]:
    return [constant(name, F32, []) for name in names]


def test_quantised_operators_have_their_factors_elsewhere() -> None:
    zero = constant("z", U8, [])
    conv = helper.make_node(
        "QLinearConv", ["x", "s", "z", "w", "ws", "wz", "s", "z", "b"], ["c"], pads=[1, 1, 1, 1]
    )
    product = helper.make_node("QLinearMatMul", ["c", "s", "z", "m", "s", "z", "s", "z"], ["y"])
    model = graph_of(
        [conv, product],
        given=(U8, [1, 3, 8, 8]),
        taken=(U8, [1, 4, 8, 5]),
        constants=[
            *scales("s"),
            zero,
            constant("w", I8, [4, 3, 3, 3]),
            constant("ws", F32, [4]),
            constant("wz", I8, [4]),
            constant("b", TensorProto.INT32, [4]),
            constant("m", U8, [8, 5]),
        ],
    )
    counts, _ = count(model)
    assert counts is not None
    assert counts.operators == {"conv": 1, "linear": 1}
    assert counts.macs == 8 * 8 * 4 * 27 + 4 * 8 * 8 * 5
    assert (counts.parameters, counts.parameter_bytes) == (108 + 4 + 40, 108 + 16 + 40)
    assert precision_of(model) == "int8"


def test_weights_in_constant_nodes_are_weights() -> None:
    held = helper.make_node("Constant", [], ["w"], value=constant("", F16, [4, 5]))
    model = graph_of(
        [held, helper.make_node("MatMul", ["x", "w"], ["y"])],
        given=(F16, [2, 4]),
        taken=(F16, [2, 5]),
    )
    counts, _ = count(model)
    assert counts is not None
    assert (counts.macs, counts.parameters, counts.parameter_bytes) == (40, 20, 40)
    assert precision_of(model) == "fp16"


@pytest.mark.parametrize(
    ("kind", "name"),
    [(F32, "fp32"), (F16, "fp16"), (BF16, "bf16"), (TensorProto.DOUBLE, "unknown")],
)
@pytest.mark.parametrize("initializer", [True, False])
def test_precision_follows_the_weights(kind: int, name: str, initializer: bool) -> None:
    weight = constant("w", kind, [4, 5])
    held = [] if initializer else [helper.make_node("Constant", [], ["w"], value=weight)]
    model = graph_of(
        [*held, helper.make_node("MatMul", ["x", "w"], ["y"])],
        given=(kind, [2, 4]),
        taken=(kind, [2, 5]),
        constants=[weight] if initializer else [],
    )
    assert precision_of(model) == name


@pytest.mark.parametrize(("kind", "name"), [(F16, "fp16"), (BF16, "bf16"), (F32, "fp32")])
def test_precision_follows_casts_of_the_weights(kind: int, name: str) -> None:
    model = graph_of(
        [
            helper.make_node("Cast", ["x"], ["a"], to=kind),
            helper.make_node("Cast", ["w"], ["b"], to=kind),
            helper.make_node("MatMul", ["a", "b"], ["c"]),
            helper.make_node("Cast", ["c"], ["y"], to=F32),
        ],
        given=(F32, [2, 4]),
        taken=(F32, [2, 5]),
        constants=[constant("w", F32, [4, 5])],
    )
    assert precision_of(model) == name


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_trained_form_keeps_its_norms_when_it_is_quantised(
    tmp_path: Path, symmetric: bool
) -> None:
    path = tmp_path / "norm.onnx"
    model = graph_of(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], kernel_shape=[3, 3]),
            helper.make_node("BatchNormalization", ["c", "s", "b", "m", "v"], ["n"]),
            helper.make_node("Relu", ["n"], ["y"]),
        ],
        given=(F32, [1, 3, 8, 8]),
        taken=(F32, [1, 4, 6, 6]),
        constants=[constant("w", F32, [4, 3, 3, 3]), *(constant(n, F32, [4]) for n in "sbmv")],
    )
    model.ir_version = 10
    onnx.save(model, path)
    inputs = [(np.ones((1, 3, 8, 8), np.float32),)]
    quantize(path, inputs, ["x"], symmetric=symmetric, trained=True)
    kinds = [node.op_type for node in onnx.load(path).graph.node]
    assert kinds.count("BatchNormalization") == 1
    assert "QuantizeLinear" in kinds


def test_another_opset_than_was_asked_for_is_a_failure(tmp_path: Path) -> None:
    """torch.export's route cannot bring everything down to 17, and says nothing."""
    path = tmp_path / "made.onnx"
    onnx_files.classifier(path)
    made = onnx.load(path).opset_import[0].version
    _require_opset(path, made)
    with pytest.raises(ValueError, match="instead of 17"):
        _require_opset(path, 17)


@pytest.mark.torch
def test_lack_of_memory_is_no_failure_of_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")

    def starve(*arguments: object, **named: object) -> None:
        raise MemoryError

    monkeypatch.setattr(torch.onnx, "export", starve)
    with pytest.raises(MemoryError):
        exporter().export(TinyModel(), ExportSpec(), tmp_path / "out.onnx")


@pytest.mark.torch
def test_details_are_those_of_the_quantised_file(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    path = tmp_path / "int8.onnx"
    sets = tuple(make_inputs(TinyModel().inputs(), seed) for seed in range(2))
    spec = ExportSpec(precision="int8", calibration=sets)
    details = exporter().export(TinyModel(), spec, path).details
    assert details["nodes"] == str(len(onnx.load(path).graph.node))
    assert details["calibration_sets"] == "2"


def test_arrays_of_the_file_stay_as_they_were(tmp_path: Path) -> None:
    """Counting names and changes nothing."""
    model = read(onnx_files.classifier(tmp_path / "model.onnx"))
    before = model.SerializeToString(deterministic=True)
    count(model)
    precision_of(model)
    assert model.SerializeToString(deterministic=True) == before
    assert numpy_helper.to_array(model.graph.initializer[0]).shape == (4, 3, 3, 3)


def adopted(path: Path, **spec: Any) -> tuple[int, ...]:
    """The shape of the only input."""
    exported = exporter().adopt(path, ExportSpec(**spec), path.with_name("out.onnx"))
    return exported.inputs[0].shape


def test_sizes_that_no_input_has_are_refused(tmp_path: Path) -> None:
    path = onnx_files.identity(tmp_path / "vector.onnx")
    assert adopted(path, batch=4) == (4,)
    with pytest.raises(UsageError, match="no input of the file has a resolution"):
        adopted(path, resolution=(8, 8))
    scalar = graph_of(
        [helper.make_node("Identity", ["x"], ["y"])], given=(F32, []), taken=(F32, [])
    )
    onnx.save(scalar, path)
    assert adopted(path) == ()
    with pytest.raises(UsageError, match="no input of the file has a batch"):
        adopted(path, batch=1)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"batch": 4, "dims": {"N": 2, "S": 8}}, r"axis 0 \(N\) .* 2 by --dim, 4 by --batch"),
        ({"resolution": (8, 9), "dims": {"N": 2, "S": 8}}, r"axis 3 \(S\) .* 9 by --resolution"),
    ],
)
def test_two_sizes_for_one_axis_are_refused(
    tmp_path: Path, spec: dict[str, Any], words: str
) -> None:
    path = onnx_files.classifier(tmp_path / "open.onnx", batch="N", side="S")
    with pytest.raises(UsageError, match=words):
        adopted(path, **spec)
    agreeing = {"batch": 2, "resolution": (8, 8), "dims": {"N": 2, "S": 8}}
    assert adopted(path, **agreeing) == (2, 3, 8, 8)


@pytest.mark.torch
def test_a_network_over_the_limit_of_a_file_becomes_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")

    class Wide(TinyModel):
        def module(self) -> Any:
            layer = torch.nn.Linear(3 * 32 * 32, 8)
            return torch.nn.Sequential(torch.nn.Flatten(), layer).eval()

    monkeypatch.setattr(external, "LIMIT_BYTES", 20_000)
    out = tmp_path / "wide.onnx"
    exported = exporter().export(Wide(), ExportSpec(), out)
    assert [path.name for path in tmp_path.iterdir()] == ["wide.onnx"]
    assert sorted(path.name for path in out.iterdir()) == [external.DATA, external.GRAPH]
    assert exporter().evaluate(out, make_inputs(exported.inputs, 0))
