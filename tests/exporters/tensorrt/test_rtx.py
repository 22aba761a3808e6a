"""Engines really built: the builder of TensorRT for RTX needs no GPU."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latbench.api import ExportSpec, StageError, UsageError, make_inputs
from latbench.artifacts import export_worker
from latbench.schema.request import make_request
from latbench.worker import messages
from latbench_exporters.onnx.exporter import OnnxExporter
from latbench_exporters.onnx.int8 import quantize
from latbench_exporters.tensorrt import rtx_exporter
from support.environment import child_environment
from support.models import TinyModel

exporters = import_module("latbench_exporters.tensorrt.exporter")

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx is not installed"),
]


def export(out: Path, precision: str = "fp32", **options: str) -> Any:
    model = TinyModel()
    sets = [make_inputs(model.inputs(), seed) for seed in range(2)]
    spec = ExportSpec(
        precision=precision, options=options, calibration=sets if precision == "int8" else ()
    )
    return rtx_exporter().export(model, spec, out)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rtx") / "tiny.rtxengine"
    export(path)
    return path


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_builds_in_every_precision(tmp_path: Path, precision: str) -> None:
    exported = export(tmp_path / "tiny.rtxengine", precision)
    content = (tmp_path / "tiny.rtxengine").read_bytes()
    assert content[:4] == b"vtrt"
    assert int.from_bytes(content[16:24], "little") == len(content)
    assert exported.inputs[0].dtype == ("float16" if precision == "fp16" else "float32")
    assert exported.outputs[0].shape == (2, 10)
    assert exported.counts.macs == 2 * (8 * 16 * 16 * 27 + 8 * 10)
    assert exported.counts.operators == {"conv": 1, "linear": 1}
    assert exported.details["gpu"] == "none"
    assert exported.details["tf32"] == "off"
    assert exported.details["compute_capability"] == "portable"
    assert exported.details["tool"].startswith("TensorRT for RTX 1.")
    assert ("quantisation" in exported.details) == (precision == "int8")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.rtxengine"]


@pytest.mark.slow
def test_the_same_bytes_each_time(engine: Path, tmp_path: Path) -> None:
    """Also from another folder, after another network, and in another process."""
    export(tmp_path / "other.rtxengine", "fp16")
    export(tmp_path / "again.rtxengine")
    code = (
        "from pathlib import Path; from latbench.api import ExportSpec; from support.models import TinyModel;"
        "from latbench_exporters.tensorrt.exporter import rtx_exporter;"
        "rtx_exporter().export(TinyModel(), ExportSpec(), Path('apart.rtxengine'))"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=child_environment(),
        check=True,
    )
    for name in ("again", "apart"):
        assert (tmp_path / f"{name}.rtxengine").read_bytes() == engine.read_bytes()


def test_options_change_the_engine(engine: Path, tmp_path: Path) -> None:
    out = tmp_path / "made.rtxengine"
    for name, value in {"compute_capability": "8.9", "tf32": "on", "profiling": "none"}.items():
        exported = export(out, **{name: value})
        assert out.read_bytes() != engine.read_bytes()
        assert exported.details[name] == value


def test_capabilities_that_cannot_be(tmp_path: Path) -> None:
    out = tmp_path / "made.rtxengine"
    with pytest.raises(UsageError, match="compute_capability"):
        export(out, compute_capability="ada")
    with pytest.raises(UsageError, match=r"9\.0") as told:
        export(out, compute_capability="9.0")
    assert "8.9" in (told.value.hint or "")


def test_the_gpu_here_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporters, "find_gpu", lambda: None)
    with pytest.raises(StageError, match="no NVIDIA driver") as caught:
        export(tmp_path / "made.rtxengine", compute_capability="current")
    assert caught.value.kind == "unavailable"


def test_all_that_the_parser_refuses_is_told(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    def value(name: str, *shape: int) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))

    nodes = [
        helper.make_node("Det", ["x"], ["y"], name="first"),
        helper.make_node("Multinomial", ["y"], ["drawn"], name="second", dtype=6),
        helper.make_node("Identity", ["y"], ["z"], name="third"),
    ]
    graph = helper.make_graph(nodes, "g", [value("x", 1, 3, 4, 4)], [value("z", 1, 3)])
    path = tmp_path / "refused.onnx"
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path
    )
    with pytest.raises(StageError) as caught:
        rtx_exporter().adopt(path, ExportSpec(), tmp_path / "out.rtxengine")
    assert "Det 'first': unsupported node" in caught.value.message
    assert "Multinomial 'second': unsupported node" in caught.value.message
    assert "third" not in caught.value.message
    assert caught.value.hint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["refused.onnx"]


def test_int8_as_cpus_want_it_is_refused_in_words(tmp_path: Path) -> None:
    model, graph = TinyModel(), tmp_path / "cpu.onnx"
    sets = [make_inputs(model.inputs(), 0)]
    OnnxExporter().export(model, ExportSpec(precision="int8", calibration=sets), graph)
    with pytest.raises(StageError, match="DequantizeLinear") as caught:
        rtx_exporter().adopt(graph, ExportSpec(), tmp_path / "out.rtxengine")
    assert "signed symmetric" in (caught.value.hint or "")


def test_a_ready_onnx_file_is_built(engine: Path, tmp_path: Path) -> None:
    graph = tmp_path / "tiny.onnx"
    OnnxExporter().export(TinyModel(), ExportSpec(), graph)
    out = tmp_path / "tiny.rtxengine"
    exported = rtx_exporter().adopt(graph, ExportSpec(), out)
    assert out.read_bytes() == engine.read_bytes()
    assert graph.exists(), "the user's file, though it has the name of one of ours"
    assert exported.precision == "fp32"


def test_a_ready_onnx_file_has_a_reference_without_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporters, "find_gpu", lambda: None)
    graph, reference = tmp_path / "tiny.onnx", tmp_path / "reference.npz"
    exported = OnnxExporter().export(TinyModel(), ExportSpec(), graph)
    request = messages.Export(
        request=make_request(str(graph), seed=3),
        format="tensorrt-rtx",
        out=str(tmp_path / "made.rtxengine"),
        reference=str(reference),
        inputs=str(reference.with_name("inputs.npz")),
    )
    answer = export_worker.handle(request)
    assert isinstance(answer, messages.ExportDone)
    assert answer.artifact.parity is None, "nothing here executes the engine"
    (expected,) = OnnxExporter().evaluate(graph, make_inputs(exported.inputs, 3))
    with np.load(reference) as arrays:
        np.testing.assert_array_equal(arrays["arr_0"], expected)


def test_a_truncated_engine(engine: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.rtxengine"
    for size in (10, 31, 1000, engine.stat().st_size - 1):
        cut.write_bytes(engine.read_bytes()[:size])
        with pytest.raises(StageError, match=r"header states|has another header"):
            rtx_exporter().adopt(cut, ExportSpec(), tmp_path / "out.rtxengine")


def test_a_whole_engine_without_a_gpu(
    engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporters, "find_gpu", lambda: None)
    with pytest.raises(StageError, match="requires a GPU") as caught:
        rtx_exporter().adopt(engine, ExportSpec(), tmp_path / "out.rtxengine")
    assert caught.value.kind == "unavailable"
    assert rtx_exporter().evaluate(engine, []) is None


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(StageError, match="tensorrt_rtx is not installed") as caught:
        export(tmp_path / "made.rtxengine")
    assert caught.value.kind == "unavailable"
    assert "latbench[tensorrt-rtx]" in (caught.value.hint or "")


def test_int8_is_symmetric_and_computes_the_same(tmp_path: Path) -> None:
    import onnx
    from onnx import numpy_helper

    model, path = TinyModel(), tmp_path / "tiny.onnx"
    exported = OnnxExporter().export(model, ExportSpec(), path)
    inputs = make_inputs(model.inputs(), 9)
    expected = OnnxExporter().evaluate(path, inputs)[0].ravel()
    quantize(
        path, [make_inputs(model.inputs(), seed) for seed in range(4)], ["image"], symmetric=True
    )
    actual = OnnxExporter().evaluate(path, inputs)[0].ravel()
    cosine = actual @ expected / np.linalg.norm(actual) / np.linalg.norm(expected)
    assert cosine > 0.99
    graph = onnx.load(path).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    points = [
        constants[node.input[2]]
        for node in graph.node
        if node.op_type.endswith("quantizeLinear") or node.op_type == "QuantizeLinear"
    ]
    assert len(points) >= 4
    assert all(point.dtype == np.int8 and not point.any() for point in points)
    assert exported.inputs[0].name == "image"
    with pytest.raises(StageError, match="calibration"):
        quantize(path, [], ["image"])


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_graph_network_builds(tmp_path: Path, precision: str) -> None:
    from latbench.zoo.lazy_model import LazyModel
    from latbench.zoo.resolver import resolve

    model = LazyModel(
        resolved=resolve("mobilevig_ti", weights=None, batch=None, resolution=None, seed=0)
    )
    sets = [make_inputs(model.inputs(), seed) for seed in range(2)]
    exported = rtx_exporter().export(
        model,
        ExportSpec(precision=precision, calibration=sets if precision == "int8" else ()),
        tmp_path / "vig.rtxengine",
    )
    assert exported.counts is not None
    assert exported.counts.operators == {"conv": 47, "linear": 0}
