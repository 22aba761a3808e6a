"""``latbench verify``: what a file is, and whether it is a certain model."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pytest

from support.command_line import Latbench
from support.environment import TINY

pytestmark = [
    pytest.mark.torch,
    pytest.mark.slow,
]
pytest.importorskip("torch", reason="needs the `export` extra")


@pytest.fixture
def exported(latbench: Latbench, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.onnx"
    done = latbench("export", "--model", TINY, "--output", path)
    assert done.status == 0, done.err
    return path


def test_a_file_alone_is_executed_and_counted(latbench: Latbench, exported: Path) -> None:
    done = latbench("verify", exported)
    assert done.status == 0, done.err
    assert "1 conv, 1 linear" in done.out
    assert "image 1x3x32x32 float32" in done.out
    assert "verdict" not in done.out


def test_the_model_is_found_equal(latbench: Latbench, exported: Path) -> None:
    done = latbench("verify", exported, "--model", TINY, "--json")
    assert done.status == 0, done.out + done.err
    assert done.json["equal"] is True
    assert done.json["against"]["parity"]["max_rel_error"] < 1e-5
    assert done.json["against"]["counts"]["macs"] == done.json["artifact"]["counts"]["macs"]


def test_other_weights_differ(latbench: Latbench, exported: Path) -> None:
    done = latbench("verify", exported, "--model", TINY, "--seed", "1")
    assert done.status == 1
    assert "it differs" in done.out
    assert "relative error" in done.out


def test_another_network_differs_in_all_that_is_compared(
    latbench: Latbench, exported: Path, tmp_path: Path
) -> None:
    (tmp_path / "other.py").write_text(
        "from torch import nn\n"
        "def factory():\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())\n"
    )
    done = latbench("verify", exported, "--model", "other.py:factory", "--resolution", "32")
    assert done.status == 1
    assert "operators:" in done.out
    assert "outputs:" in done.out


def test_another_input_shape_is_told(latbench: Latbench, exported: Path, tmp_path: Path) -> None:
    (tmp_path / "large.py").write_text(
        "from support.models import factory as small\n"
        "def factory():\n"
        "    network = small()\n"
        "    network.input_shape = (3, 64, 64)\n"
        "    return network\n"
    )
    done = latbench("verify", exported, "--model", "large.py:factory")
    assert done.status == 1
    assert "inputs: 1x3x64x64 in the model, 1x3x32x32 in the file" in done.out


def test_a_file_that_cannot_be_counted_is_no_other_network(
    latbench: Latbench, exported: Path
) -> None:
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(exported)
    graph = model.graph
    (output,) = graph.output
    for node in graph.node:
        node.output[:] = ["inner" if name == output.name else name for name in node.output]
    one = numpy_helper.from_array(np.eye(10, dtype=np.float32), "one")
    graph.initializer.append(one)
    # A product of three is not counted; of two identities it changes nothing.
    product = helper.make_node(
        "Einsum", ["inner", "one", "one"], [output.name], equation="bc,cd,de->be"
    )
    graph.node.append(product)
    onnx.save(model, exported)
    told = latbench("verify", exported, "--model", TINY)
    assert told.status == 4, told.out + told.err
    assert "inconclusive" in told.out
    assert "not compared: operators" in told.out
    done = latbench("verify", exported, "--model", TINY, "--json")
    assert done.json["equal"] is None
    assert done.json["against"]["differences"] == []
    other = latbench("verify", exported, "--model", TINY, "--seed", "1")
    assert other.status == 1, "outputs that differ say enough"


def narrowed(path: Path, kind: int, names: Collection[str] | None = None) -> None:
    """Store weights (all, or those) in another type, widened when they are used."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(path)
    graph = model.graph
    for tensor in list(graph.initializer):
        if tensor.data_type == onnx.TensorProto.FLOAT and (names is None or tensor.name in names):
            values = numpy_helper.to_array(tensor).ravel().tolist()
            stored = helper.make_tensor(f"{tensor.name}_stored", kind, tensor.dims, values)
            widen = helper.make_node("Cast", [stored.name], [tensor.name], to=tensor.data_type)
            graph.initializer.remove(tensor)
            graph.initializer.append(stored)
            graph.node.insert(0, widen)
    onnx.save(model, path)


def test_weights_in_bf16_are_the_model(latbench: Latbench, exported: Path) -> None:
    import onnx

    narrowed(exported, onnx.TensorProto.BFLOAT16)
    done = latbench("verify", exported, "--model", TINY, "--json")
    assert done.status == 0, done.out + done.err
    assert done.json["artifact"]["precision"] == "bf16"


def test_one_tensor_in_fp16_makes_no_other_network(latbench: Latbench, exported: Path) -> None:
    import onnx

    biases = [t.name for t in onnx.load(exported).graph.initializer if list(t.dims) == [8]]
    assert len(biases) == 1
    narrowed(exported, onnx.TensorProto.FLOAT16, biases)
    done = latbench("verify", exported, "--model", TINY, "--json")
    assert done.status == 4, done.out + done.err
    assert done.json["artifact"]["precision"] == "fp16"
    assert done.json["against"]["differences"] == []
    (what,) = done.json["against"]["not_compared"]
    assert "most of the file is not in" in what


def test_a_file_of_unknown_precision(latbench: Latbench, tmp_path: Path) -> None:
    ct = pytest.importorskip("coremltools", reason="needs the `coreml` extra")
    from coremltools.optimize import coreml as cto

    path, other = tmp_path / "tiny.mlpackage", tmp_path / "table.mlpackage"
    made = latbench("export", "--model", TINY, "--format", "coreml", "--output", path)
    assert made.status == 0, made.err
    config = cto.OpPalettizerConfig(mode="uniform", nbits=4, weight_threshold=0)
    model = ct.models.MLModel(str(path), skip_model_load=True)
    cto.palettize_weights(model, cto.OptimizationConfig(global_config=config)).save(str(other))
    done = latbench("verify", other, "--model", TINY, "--json")
    assert done.status == 4, done.out + done.err
    assert done.json["artifact"]["precision"] == "unknown"
    assert any("relative error" in what for what in done.json["against"]["not_compared"])


def test_requests_that_make_no_sense(latbench: Latbench, exported: Path, tmp_path: Path) -> None:
    (tmp_path / "x.strange").write_bytes(b"strange")
    for arguments, message in (
        ((TINY,), "is not a pre-exported file"),
        ((tmp_path / "missing.onnx",), "cannot read the model file"),
        ((tmp_path / "y.strange",), "is not a pre-exported file"),
        ((tmp_path / "x.strange",), "no format reads pre-exported .strange files"),
        ((exported, "--model", exported), "is a pre-exported file"),
        ((exported, "--weights", exported), "--weights requires --model"),
        ((exported, "--format", "coreml"), "cannot read pre-exported .onnx files"),
        ((exported, "--model", "mobilevig_xx"), "mobilevig"),
        ((exported, "--resolution", "64"), "--resolution requests 64"),
    ):
        done = latbench("verify", *arguments)
        assert done.status == 2, (arguments, done)
        assert message in done.err, (arguments, done.err)


def test_a_damaged_file_cannot_be_executed(latbench: Latbench, tmp_path: Path) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(b"\x00" * 64)
    done = latbench("verify", path)
    assert done.status == 3
    assert "bad.onnx" in done.err


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_core_ml_package(latbench: Latbench, tmp_path: Path, precision: str) -> None:
    pytest.importorskip("coremltools", reason="needs the `coreml` extra")
    path = tmp_path / "tiny.mlpackage"
    made = latbench(
        *("export", "--model", TINY, "--format", "coreml"),
        *("--precision", precision, "--output", path),
    )
    assert made.status == 0, made.err
    done = latbench("verify", path, "--model", TINY, "--json")
    assert done.status == 0, done.out + done.err
    assert done.json["artifact"]["precision"] == precision
    assert done.json["against"]["differences"] == []
    shutil.rmtree(path / "Data/com.apple.CoreML/weights", ignore_errors=True)
    (path / "Data/com.apple.CoreML/model.mlmodel").write_bytes(b"")
    assert latbench("verify", path).status == 3
