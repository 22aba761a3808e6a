"""The exporter of TensorRT, on stand-ins of versions 10 and 11."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latbench.api import ExportSpec, StageError, UsageError, make_inputs
from latbench.artifacts import export_worker
from latbench.schema.request import make_request
from latbench.worker import messages
from latbench_exporters.tensorrt import exporter, gpu, rtx_exporter
from support.models import TinyModel

exporters = import_module("latbench_exporters.tensorrt.exporter")
"""The module: its package offers the factory by that name."""

pytestmark = pytest.mark.torch


def export(out: Path, precision: str = "fp32", **options: str) -> Any:
    model = TinyModel()
    sets = [make_inputs(model.inputs(), seed) for seed in range(2)]
    spec = ExportSpec(
        precision=precision, options=options, calibration=sets if precision == "int8" else ()
    )
    return exporter().export(model, spec, out)


def test_networks_are_strongly_typed_in_both(trt: Any, tmp_path: Path) -> None:
    exported = export(tmp_path / "made.engine")
    bit = int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    assert trt.network.flags == 1 << bit
    assert trt.config.flags == set(), "TF32 is on by default, and off is asked for"
    assert trt.config.profiling_verbosity == trt.ProfilingVerbosity.DETAILED
    details = exported.details
    assert details["tool"] == f"TensorRT {trt.__version__}"
    assert details["gpu"] == "NVIDIA Stand-in 4090"
    assert details["gpu_compute_capability"] == "8.9"
    assert details["opset"] == "20"
    assert {"optimization_level", "workspace_mib", "timing_cache", "build"} <= set(details)
    assert exported.counts.operators == {"conv": 1, "linear": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["made.engine"]


def test_precision_comes_from_the_onnx_file(trt: Any, tmp_path: Path) -> None:
    exported = export(tmp_path / "made.engine", "fp16")
    assert exported.inputs[0].dtype == "float16"
    assert trt.network.inputs["image"][1] == 1
    assert trt.config.flags == set(), "no FP16 flag, though version 10 has one"


def test_options_reach_the_builder(trt: Any, tmp_path: Path) -> None:
    exported = export(
        tmp_path / "made.engine",
        optimization_level="5",
        workspace_mib="64",
        hardware_compatibility="ampere_plus",
        version_compatible="yes",
        profiling="layer_names",
        tf32="on",
        build="3",
    )
    config = trt.config
    assert config.builder_optimization_level == 5
    assert config.workspace == 64 << 20
    assert config.hardware_compatibility_level == trt.HardwareCompatibilityLevel.AMPERE_PLUS
    assert config.profiling_verbosity == trt.ProfilingVerbosity.LAYER_NAMES_ONLY
    assert config.flags == {trt.BuilderFlag.TF32, trt.BuilderFlag.VERSION_COMPATIBLE}
    for name, value in {
        "optimization_level": "5",
        "workspace_mib": "64",
        "hardware_compatibility": "ampere_plus",
        "version_compatible": "yes",
        "profiling": "layer_names",
        "tf32": "on",
        "build": "3",
    }.items():
        assert exported.details[name] == value


@pytest.mark.parametrize(
    "option",
    [
        {"optimization_level": "6"},
        {"optimization_level": "five"},
        {"workspace_mib": "0"},
        {"workspace_mib": "-1"},
        {"hardware_compatibility": "all"},
        {"version_compatible": "on"},
        {"profiling": "some"},
        {"tf32": "yes"},
        {"build": "first"},
        {"timing_cache": ""},
        {"opset": "3"},
    ],
)
def test_values_that_cannot_be(trt: Any, tmp_path: Path, option: dict[str, str]) -> None:
    (name,) = option
    with pytest.raises(UsageError, match=name) as caught:
        export(tmp_path / "made.engine", **option)
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_level_that_this_version_has_not(trt: Any, tmp_path: Path) -> None:
    if hasattr(trt.HardwareCompatibilityLevel, "SAME_COMPUTE_CAPABILITY"):
        pytest.skip("it has it")
    with pytest.raises(UsageError, match="same_compute_capability"):
        export(tmp_path / "made.engine", hardware_compatibility="same_compute_capability")


def test_a_timing_cache_is_read_and_kept(trt: Any, tmp_path: Path) -> None:
    cache = tmp_path / "caches" / "timings"
    first = export(tmp_path / "made.engine", timing_cache=str(cache))
    assert cache.read_bytes() == b"+timed"
    second = export(tmp_path / "made.engine", timing_cache=str(cache))
    assert cache.read_bytes() == b"+timed+timed"
    digests = [made.details["timing_cache_after"] for made in (first, second)]
    assert len(set(digests)) == 2
    assert all(len(digest) == 64 for digest in digests)


def test_a_timing_cache_of_another_gpu(trt: Any, tmp_path: Path) -> None:
    cache = tmp_path / "timings"
    cache.write_bytes(b"other GPU")
    with pytest.raises(StageError, match="timing cache"):
        export(tmp_path / "made.engine", timing_cache=str(cache))
    assert cache.read_bytes() == b"other GPU"


def test_a_timing_cache_that_cannot_be_written_is_told_before_the_build(
    trt: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(**_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    trt.say = "it was built"
    monkeypatch.setattr("latbench_exporters.tensorrt.build.tempfile.TemporaryFile", full)
    with pytest.raises(UsageError, match=r"cannot use the timing cache .*: Permission denied"):
        export(tmp_path / "made.engine", timing_cache=str(tmp_path / "timings"))


def test_a_timing_cache_is_whole_whatever_happens(
    trt: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "timings"
    cache.write_bytes(b"before")
    whole = Path.write_bytes

    def half(self: Path, content: Any) -> int:
        if "timings" in self.name:
            whole(self, bytes(content)[:2])
            raise OSError(28, "No space left on device")
        return whole(self, content)

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(UsageError, match="No space left"):
        export(tmp_path / "made.engine", timing_cache=str(cache))
    assert cache.read_bytes() == b"before"
    assert not list(tmp_path.glob(".timings*"))


def test_why_there_is_no_engine(trt: Any, tmp_path: Path) -> None:
    trt.say = "IBuilder::buildSerializedNetwork: Error Code 10: no implementation for node\nmore"
    with pytest.raises(StageError) as caught:
        export(tmp_path / "made.engine")
    assert caught.value.message.endswith("no implementation for node")
    assert caught.value.kind == "error"
    trt.say = "Error Code 2: OutOfMemory (Requested size was 9 bytes)"
    with pytest.raises(StageError) as caught:
        export(tmp_path / "made.engine")
    assert caught.value.kind == "out_of_memory"
    assert list(tmp_path.iterdir()) == []


def test_an_engine_without_its_weights_is_not_the_model(trt: Any, tmp_path: Path) -> None:
    trt.built_bytes = 600
    with pytest.raises(StageError, match="600 bytes") as caught:
        export(tmp_path / "made.engine")
    assert caught.value.kind == "mismatch"


def test_a_ready_engine_is_opened_on_the_gpu(trt: Any, engine_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.engine"
    exported = exporter().adopt(engine_file, ExportSpec(), out)
    assert out.read_bytes() == engine_file.read_bytes()
    assert exported.inputs[0].shape == (1, 3, 4, 4)
    assert exported.outputs[0].dtype == "float32"
    assert exported.counts is None
    assert exported.details["made_by"] == f"TensorRT {trt.__version__}"
    assert "plugins" in trt.happening, "it may hold some"


@pytest.mark.parametrize(
    ("kinds", "precision"),
    [
        (["Float"], "fp32"),
        (["Float", "Half"], "fp16"),
        (["BFloat16", "Float"], "bf16"),
        (["Half", "Int8"], "int8"),
        (["FP8", "Half"], "fp8"),
        (["Int4", "Half"], "int4"),
        (["UInt8", "Float"], "fp32"),
    ],
)
def test_a_ready_engine_computes_in_what_its_layers_tell(
    trt: Any, engine_file: Path, tmp_path: Path, kinds: list[str], precision: str
) -> None:
    trt.layers = [trt.layer(kind, kind) for kind in kinds]
    exported = exporter().adopt(engine_file, ExportSpec(), tmp_path / "o.engine")
    assert exported.precision == precision
    assert "precision" not in exported.details
    assert exported.details.get("tf32", "").startswith("unknown") == (precision == "fp32")


def test_a_ready_engine_whose_kernels_are_of_tf32(
    trt: Any, engine_file: Path, tmp_path: Path
) -> None:
    tactic = "sm80_xmma_fprop_implicit_gemm_indexed_tf32f32_tf32f32_f32_nhwckrsc_nhwc"
    trt.layers = [trt.layer("conv", TacticName=tactic), trt.layer("linear")]
    exported = exporter().adopt(engine_file, ExportSpec(), tmp_path / "o.engine")
    assert exported.precision == "tf32"


@pytest.mark.parametrize("profiling", ["LAYER_NAMES_ONLY", "NONE"])
def test_a_ready_engine_that_tells_nothing(
    make_engine: Callable[..., Path], tmp_path: Path, profiling: str
) -> None:
    path = make_engine(profiling=profiling)
    exported = exporter().adopt(path, ExportSpec(), tmp_path / "o.engine")
    assert exported.precision == "unknown"
    assert exported.details["precision"].startswith("unknown")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (ExportSpec(options={"tf32": "on"}), "tf32"),
        (ExportSpec(precision="fp16"), "--precision fp16 is invalid"),
        (ExportSpec(dims={"batch": 1}), "no axis named batch"),
        (ExportSpec(batch=2), "axis 0 of input 'image' is fixed at 1"),
        (ExportSpec(resolution=(4, 8)), "axis 3 of input 'image' is fixed at 4"),
    ],
)
def test_a_ready_engine_is_as_it_is(
    trt: Any, engine_file: Path, tmp_path: Path, spec: ExportSpec, message: str
) -> None:
    out = tmp_path / "o.engine"
    with pytest.raises(UsageError, match=message):
        exporter().adopt(engine_file, spec, out)
    assert not out.exists()
    exporter().adopt(engine_file, ExportSpec(batch=1, resolution=(4, 4)), out)


def test_a_size_that_no_input_has(make_engine: Callable[..., Path], tmp_path: Path) -> None:
    path = make_engine({"x": ([1, 8], 0)})
    with pytest.raises(UsageError, match="no input of the file has a resolution"):
        exporter().adopt(path, ExportSpec(resolution=(8, 8)), tmp_path / "o.engine")


def test_a_ready_engine_with_code_for_the_host_is_not_run(
    trt: Any, make_engine: Callable[..., Path], tmp_path: Path
) -> None:
    path = make_engine(host_code=True)
    with pytest.raises(StageError, match="host code") as caught:
        exporter().adopt(path, ExportSpec(), tmp_path / "o.engine")
    assert "built here" in (caught.value.hint or "")
    assert not trt.runtime.engine_host_code_allowed


def test_a_ready_engine_of_another_version(trt: Any, engine_file: Path, tmp_path: Path) -> None:
    content = engine_file.read_bytes()
    engine_file.write_bytes(content[:24] + bytes([8, 6, 1, 6]) + content[28:])
    with pytest.raises(StageError, match="Version tag does not match") as caught:
        exporter().adopt(engine_file, ExportSpec(), tmp_path / "o.engine")
    assert "rebuild it here" in (caught.value.hint or "")


def test_a_ready_engine_behind_a_header_of_another_tool(trt: Any, tmp_path: Path) -> None:
    path = tmp_path / "yolo.engine"
    path.write_bytes((20).to_bytes(4, "little") + b'{"task": "detect"} ' + b"ftrt" + bytes(100))
    with pytest.raises(StageError, match="has another header") as caught:
        exporter().adopt(path, ExportSpec(), tmp_path / "o.engine")
    assert "Ultralytics" in (caught.value.hint or "")


def test_a_ready_onnx_file_is_built(trt: Any, tmp_path: Path) -> None:
    graph = tmp_path / "ready.onnx"
    exporter().onnx.export(TinyModel(), ExportSpec(), graph)  # type: ignore[attr-defined]
    exported = exporter().adopt(
        graph, ExportSpec(options={"build": "1"}), tmp_path / "ready.engine"
    )
    assert exported.counts is not None
    assert exported.precision == "fp32"
    assert exported.details["build"] == "1"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ready.engine", "ready.onnx"]


def test_tf32_of_a_ready_onnx_file(trt: Any, tmp_path: Path) -> None:
    graph, out = tmp_path / "ready.onnx", tmp_path / "ready.engine"
    exporter().onnx.export(TinyModel(), ExportSpec(), graph)  # type: ignore[attr-defined]
    assert exporter().adopt(graph, ExportSpec(options={"tf32": "on"}), out).precision == "tf32"


def mean_of(path: Path, factor: float) -> Path:
    """An ONNX file that gives so many times the mean; the stand-in of an engine gives the mean."""
    import onnx
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"]),
        helper.make_node("Mul", ["mean", "factor"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "mean",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1])],
        [helper.make_tensor("factor", TensorProto.FLOAT, [], [factor])],
    )
    opsets = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


def made_of(graph: Path) -> Any:
    """By the exporting program."""
    folder = graph.parent / "made"
    folder.mkdir()
    request = messages.Export(
        request=make_request(str(graph), batch=4),
        format="tensorrt",
        out=str(folder / "made.engine"),
        reference=str(folder / "reference.npz"),
        inputs=str(folder / "inputs.npz"),
    )
    answer = export_worker.handle(request)
    assert isinstance(answer, messages.ExportDone)
    assert {path.name for path in folder.iterdir()} == {"made.engine", "reference.npz"}
    return answer.artifact


def test_an_engine_is_compared_with_the_onnx_file_that_it_is_of(trt: Any, tmp_path: Path) -> None:
    artifact = made_of(mean_of(tmp_path / "ready.onnx", 1))
    assert artifact.inputs[0].shape == (4, 8)
    assert artifact.parity is not None
    assert artifact.parity.reference == "the ready .onnx file"
    assert artifact.parity.max_rel_error < 1e-5
    with np.load(tmp_path / "made/reference.npz") as arrays:
        (mean,) = arrays["arr_0"].ravel()
    assert mean == pytest.approx(make_inputs(artifact.inputs, 0)[0].mean(), rel=1e-4)


def test_an_engine_that_computes_something_else_is_refused(trt: Any, tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"differs from the ready \.onnx file") as caught:
        made_of(mean_of(tmp_path / "ready.onnx", 2))
    assert caught.value.kind == "mismatch"


def test_it_is_evaluated_where_there_is_a_gpu(
    trt: Any, driver: Any, engine_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.arange(48, dtype=np.float32).reshape(1, 3, 4, 4)
    evaluated = exporter().evaluate(engine_file, [image])
    assert evaluated is not None
    np.testing.assert_allclose(evaluated[0], np.full((1, 10), image.mean()))
    assert not driver.live
    monkeypatch.setattr(exporters, "find_gpu", lambda: None)
    trt.happening.clear()
    assert exporter().evaluate(engine_file, [image]) is None
    assert trt.happening == [], "nothing of TensorRT without a driver"


def test_an_engine_for_several_versions_is_evaluated(trt: Any, tmp_path: Path) -> None:
    out, made = tmp_path / "made.engine", exporter()
    exported = made.export(TinyModel(), ExportSpec(options={"version_compatible": "yes"}), out)
    assert made.evaluate(out, make_inputs(exported.inputs, 0)) is not None
    with pytest.raises(StageError, match="host code"):
        exporter().evaluate(out, make_inputs(exported.inputs, 0))


def two_by_two(path: Path) -> None:
    """Inputs b and a, outputs z and y, in this order."""
    import onnx
    from onnx import TensorProto, helper

    def value(name: str) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2])

    nodes = [helper.make_node("Add", ["b", "a"], ["z"]), helper.make_node("Sub", ["b", "a"], ["y"])]
    graph = helper.make_graph(nodes, "g", [value("b"), value("a")], [value("z"), value("y")])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path
    )


def test_tensors_are_found_by_name(trt: Any, tmp_path: Path) -> None:
    """TensorRT keeps neither the order of inputs nor that of outputs."""
    graph, out, made = tmp_path / "two.onnx", tmp_path / "two.engine", exporter()
    two_by_two(graph)
    exported = made.adopt(graph, ExportSpec(), out)
    assert [spec.name for spec in exported.inputs] == ["b", "a"]
    assert [spec.name for spec in exported.outputs] == ["z", "y"]
    b, a = np.full((1, 2), 7, np.float32), np.full((1, 2), 3, np.float32)
    evaluated = made.evaluate(out, [b, a])
    assert evaluated is not None
    z, y = evaluated
    np.testing.assert_allclose(y, 3 + 10 * 7)
    np.testing.assert_allclose(z, y + 1)


def test_an_engine_with_other_tensors_is_refused(
    trt: Any, engine_file: Path, tmp_path: Path
) -> None:
    graph, out, made = tmp_path / "two.onnx", tmp_path / "two.engine", exporter()
    two_by_two(graph)
    made.adopt(graph, ExportSpec(), out)
    out.write_bytes(engine_file.read_bytes())
    with pytest.raises(StageError, match="the engine has the tensors image"):
        made.evaluate(out, [np.zeros((1, 2), np.float32)] * 2)


def test_an_engine_is_opened_once_for_many_inputs(trt: Any, tmp_path: Path) -> None:
    out, made = tmp_path / "made.engine", exporter()
    inputs = make_inputs(made.export(TinyModel(), ExportSpec(), out).inputs, 0)
    trt.happening.clear()
    for _ in range(3):
        assert made.evaluate(out, inputs) is not None
    assert trt.happening.count("Runtime") == 1
    other = tmp_path / "other.engine"
    other.write_bytes(out.read_bytes())
    made.evaluate(other, inputs)
    assert trt.happening.count("Runtime") == 2
    assert trt.alive == 1, "the first engine is gone"
    made.export(TinyModel(), ExportSpec(), out)
    assert trt.alive == 0, "nothing of the GPU's memory is taken from a build"


def test_plugins_are_there_before_the_network_is_read(trt: Any, tmp_path: Path) -> None:
    export(tmp_path / "made.engine")
    assert trt.happening.index("plugins") < trt.happening.index("parse")


def test_the_gpu_is_of_the_toolchain(trt: Any) -> None:
    assert exporter().toolchain()["gpu"] == "NVIDIA Stand-in 4090 (8.9)"


def test_without_a_gpu_or_the_package(
    trt: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(StageError, match="tensorrt is not installed") as caught:
        export(tmp_path / "made.engine")
    assert caught.value.kind == "unavailable"
    assert "latbench[tensorrt]" in (caught.value.hint or "")
    monkeypatch.setattr(exporters, "find_gpu", lambda: None)
    with pytest.raises(StageError, match="no NVIDIA driver") as caught:
        export(tmp_path / "made.engine")
    assert caught.value.kind == "unavailable"
    assert "latbench[tensorrt]" in (caught.value.hint or "")


def test_rtx_has_no_options_without_effect() -> None:
    """Seen with 1.7: their values change no byte, or no engine comes of them."""
    names = {"optimization_level", "hardware_compatibility", "version_compatible", "build"}
    assert not names & set(rtx_exporter().options)
    assert names <= set(exporter().options)


def test_a_driver_that_fails_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "load_driver", lambda: None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpu.find_gpu() is None
    monkeypatch.setattr(gpu, "PROBE_S", 0.0)
    assert gpu.find_gpu() is None


@pytest.mark.parametrize(
    "answer", ["[]", "{}", '{"name": "x", "compute_capability": "8.9", "more": 1}', "nothing"]
)
def test_an_answer_that_is_not_understood_is_no_gpu(
    monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    done = subprocess.CompletedProcess([], 0, stdout=answer, stderr="")
    monkeypatch.setattr(gpu, "load_driver", lambda: None)
    monkeypatch.setattr(gpu.subprocess, "run", lambda *_, **__: done)
    assert gpu.find_gpu() is None


def test_the_working_directory_tells_of_no_gpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = '{"name": "x", "compute_capability": "8.9"}'
    (tmp_path / "ctypes.py").write_text(f"import os; print({told!r}, flush=True); os._exit(0)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gpu, "load_driver", lambda: None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpu.find_gpu() is None
