"""``latbench inspect``: what is in a file, and what to do with it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from support.command_line import Latbench

onnx = pytest.importorskip("onnx", reason="needs the `export` extra")
from onnx import TensorProto, helper  # noqa: E402

from support import onnx_files  # noqa: E402


def write_onnx(path: Path, shape: list[int | str | None], operator: str = "Conv") -> Path:
    weights = helper.make_tensor("w", TensorProto.FLOAT, [4, 3, 3, 3], [0.5] * 108)
    domain = "custom.ops" if operator != "Conv" else ""
    graph = helper.make_graph(
        [helper.make_node(operator, ["x", "w"], ["y"], domain=domain)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["a", 4, "b", "c"])],
        [weights],
    )
    opsets = [helper.make_opsetid(name, 17) for name in {"", domain}]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    helper.set_model_props(model, {"author": "someone\x1b[31m"})
    onnx.save(model, path)
    return path


def test_a_model_of_fixed_size(latbench: Latbench, tmp_path: Path) -> None:
    done = latbench("inspect", write_onnx(tmp_path / "m.onnx", [1, 3, 8, 8]))
    assert done.status == 0, done.err
    first, *rest = done.out.splitlines()
    assert first.endswith("m.onnx: onnx model, fp32, 1 operator, 708 B") or "onnx model" in first
    text = "\n".join(rest)
    assert "x 1x3x8x8 float32" in text
    assert "108 parameters in 432 B, 3,888 MACs" in text
    assert "opset 17, IR version 8" in text
    assert "latbench run" in rest[-1]
    assert "--shape" not in text
    assert "\x1b" not in done.out
    assert r"someone\x1b[31m" in text


@pytest.mark.parametrize(
    ("shape", "shown", "asked"),
    [
        (["N", 3, None, None], "x Nx3x?x? float32", "--shape x=1x3x224x224"),
        ([1, "length"], "x 1xlength float32", "--shape x=1x128"),
    ],
)
def test_open_sizes_are_asked_for(
    latbench: Latbench, tmp_path: Path, shape: Any, shown: str, asked: str
) -> None:
    done = latbench("inspect", write_onnx(tmp_path / "m.onnx", shape))
    assert shown in done.out
    assert "MACs depend on the open sizes" in done.out
    assert asked in done.out.splitlines()[-1]


def test_a_value_that_decides_the_work_is_asked_for(latbench: Latbench, tmp_path: Path) -> None:
    told = latbench("inspect", onnx_files.length(tmp_path / "l.onnx")).out
    assert "length 1 int64, decides how much is computed" in told
    assert "l.onnx --input length=VALUE" in told


def test_a_file_that_cannot_be_measured_is_described(latbench: Latbench, tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "m.onnx", [1, 3, 8, 8], operator="Magic")
    done = latbench("inspect", path)
    assert done.status == 0, done.err
    assert "1 custom.ops::Magic" in done.out
    assert "cannot be measured: m.onnx requires custom operators" in done.out


def test_json_has_the_same_facts(latbench: Latbench, tmp_path: Path) -> None:
    found = latbench("inspect", write_onnx(tmp_path / "m.onnx", ["N", 3, 8, 8]), "--json").json
    assert found["kind"] == "model"
    assert found["content"]["inputs"] == [
        {"name": "x", "shape": ["N", 3, 8, 8], "dtype": "float32", "decides": False}
    ]
    assert found["content"]["operators"] == {"Conv": 1}


def test_a_checkpoint(latbench: Latbench, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs the `export` extra")
    path = tmp_path / "my weights.pth"
    weights = {f"module.{i}.weight": torch.zeros(2, 3) for i in range(3)}
    moments = {i: {"exp_avg": torch.zeros(2, 3), "step": torch.tensor(1.0)} for i in range(3)}
    tree = {
        "model": weights,
        "model_ema": weights,
        "optimizer": {"state": moments},
        "args": argparse.Namespace(lr=0.1),
        "epoch": 3,
    }
    torch.save(tree, path)
    done = latbench("inspect", path)
    assert done.status == 0, done.err
    assert "torch checkpoint, 12 tensors under 3 keys" in done.out.splitlines()[0]
    assert "model: 3 tensors, 18 values, float32, 72 B, names begin with module." in done.out
    assert "optimizer.state: 6 tensors" in done.out
    assert "args argparse.Namespace" in done.out
    assert "epoch 3" in done.out
    assert done.out.splitlines()[-1].endswith(f"'{path}' --weights-key model_ema")
    assert "module.2.weight  2x3" in " ".join(latbench("inspect", path, "-v").out.split("\n"))
    found = latbench("inspect", path, "--json").json
    assert found["tensors"][0] == {
        "name": "model.module.0.weight",
        "shape": [2, 3],
        "dtype": "float32",
    }


def test_a_torchscript_program(latbench: Latbench, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs the `export` extra")
    torch.jit.script(torch.nn.Linear(2, 3)).save(tmp_path / "m.pt")
    done = latbench("inspect", "m.pt")
    assert done.status == 0, done.err
    assert "torchscript program, 2 tensors, 9 values" in done.out
    assert "torch.onnx.export" in done.out


@pytest.mark.parametrize(
    ("name", "content", "status", "words"),
    [
        ("m.onnx", b"\xff" * 90, 3, "not a valid ONNX file"),
        ("m.onnx", b"", 3, "not a valid ONNX file"),
        ("m.tflite", b"\x1c\x00\x00\x00TFL3", 3, "not a valid TFLite file"),
        ("m.pth", b"PK\x03\x04 no archive", 2, "damaged checkpoint"),
        ("m.safetensors", b"\xff" * 90, 2, "damaged checkpoint"),
        ("m.pt2", b"no archive", 3, "not a valid .pt2 file"),
        ("m.py", b"def net(): ...", 2, "Python code"),
        ("m.engine", b"anything", 2, "cannot be described"),
        ("m.unknown", b"anything", 2, "damaged checkpoint"),
    ],
)
def test_other_files_are_refused_with_a_hint(
    latbench: Latbench, tmp_path: Path, name: str, content: bytes, status: int, words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    done = latbench("inspect", name)
    assert done.status == status, done.err
    assert words in done.err.splitlines()[0]
    assert "hint: " in done.err


def test_a_missing_file_is_reported(latbench: Latbench) -> None:
    done = latbench("inspect", "nothing.onnx")
    assert done.status == 2
    assert "nothing.onnx does not exist" in done.err
