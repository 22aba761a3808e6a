"""ONNX Runtime leaves nothing behind in the user's folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from latbench.worker.client import WorkerClient
from latbench.worker.process import LocalProgram

pytest.importorskip("onnxruntime")
HELLO = '{"type":"hello","protocol":2,"program":"p","version":"0","pid":1}'
RUNS = f"""
import sys
import numpy, onnx, onnxruntime
from onnx import TensorProto, helper
value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value("x")], [value("y")])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
session = onnxruntime.InferenceSession(model.SerializeToString())
session.run(None, {{"x": numpy.zeros(1, numpy.float32)}})
del session
print('{HELLO}', flush=True)
sys.stdin.read()
"""


def test_no_device_id_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with WorkerClient(LocalProgram([sys.executable, "-c", RUNS])) as program:
        assert program.hello.program == "p"
    assert not list(tmp_path.rglob("*Microsoft*"))
