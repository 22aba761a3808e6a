from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from latbench.api import ExportSpec, RunOptions, StageError, UsageError, make_inputs
from latbench_exporters.onnx.exporter import exporter
from latbench_runners.openvino import runner
from support.artifacts import ExportedFile
from support.models import TinyModel
from support.records import make_artifact

pytest.importorskip("openvino", reason="needs the `openvino` extra")


def session_of(made: ExportedFile, path: Path | None = None, **extra: str):
    inputs = make_inputs(made.artifact.inputs, 0)
    options = RunOptions(threads=1, extra=extra)
    return runner().open(made.artifact, path or made.path, inputs, options)


def test_it_computes_in_fp32_unless_asked(onnx: ExportedFile) -> None:
    with session_of(onnx) as session:
        session.run()
        settings = session.settings()
        assert "precision" not in settings
        assert settings["threads"] == "1"
        exact = session.outputs()[0].copy()
        placement = session.placement()
        assert placement.known == "proven"
        assert (placement.units["CPU"] or 0) >= 6
    with session_of(onnx, inference_precision="default") as session:
        session.run()
        lower = session.settings().get("precision")
        assert lower in (None, "bf16", "fp16")
        error = np.abs(session.outputs()[0] - exact).max() / np.abs(exact).max()
        assert (error > 1e-5) == (lower is not None), "what is said is what is done"


@pytest.mark.torch
def capabilities() -> list[str]:
    import openvino

    found: list[str] = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return found


def test_an_fp16_file_is_computed_in_fp32_unless_asked(tmp_path: Path) -> None:
    """Inputs are fp16 all the same: the nodes that convert them say nothing of the rest."""
    pytest.importorskip("torch", reason="needs the `export` extra")
    path = tmp_path / "half.onnx"
    exported = exporter().export(TinyModel(), ExportSpec(precision="fp16"), path)
    artifact = msgspec.structs.replace(make_artifact(path, exported, "onnx"), precision="fp16")
    half = ExportedFile(path=path, exported=exported, artifact=artifact)
    with session_of(half) as session:
        assert session.settings()["precision"] == "fp32"
    with session_of(half, inference_precision="f16") as session:
        # What the CPU cannot compute in 16 bits is computed in 32, and the settings say so.
        able = {"BF16", "FP16"} & set(capabilities())
        computed = ("bf16", "fp16") if able else ("fp32",)
        assert session.settings().get("precision", "fp16") in computed


def test_a_profile_names_precision_and_operators(onnx: ExportedFile) -> None:
    with session_of(onnx) as session:
        session.run()
        profile = session.profile(3)
    kinds = [operator.kind for operator in profile.operators]
    assert kinds.count("Convolution") == 6
    assert {o.precision for o in profile.operators if o.kind == "Convolution"} == {"fp32"}
    assert "openvino" in profile.source


def test_more_streams_are_read_back(onnx: ExportedFile) -> None:
    with session_of(onnx, streams="1", performance_mode="throughput") as session:
        assert session.settings()["streams"] == "1"


@pytest.mark.parametrize(
    "extra",
    [{"inference_precision": "fp32"}, {"performance_mode": "fast"}, {"streams": "0"}],
)
def test_values_that_make_no_sense_are_refused(onnx: ExportedFile, extra: dict[str, str]) -> None:
    with pytest.raises(UsageError), session_of(onnx, **extra):
        pass


def test_a_device_that_is_not_here_is_unavailable(onnx: ExportedFile) -> None:
    with pytest.raises(StageError, match="no device XPU") as caught, session_of(onnx, device="XPU"):
        pass
    assert caught.value.kind == "unavailable"
    assert "CPU" in (caught.value.hint or "")


def test_a_damaged_file_is_told_in_one_line(onnx: ExportedFile, tmp_path: Path, damaged) -> None:
    for content in damaged(onnx.path):
        path = tmp_path / "bad.onnx"
        path.write_bytes(content)
        with pytest.raises(StageError) as caught, session_of(onnx, path):
            pass
        assert "\n" not in caught.value.message
        assert "Exception from" not in caught.value.message


def test_an_operator_without_a_conversion_is_named(onnx: ExportedFile, tmp_path: Path) -> None:
    from onnx import TensorProto, helper, save

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 2]) for name in "xy")
    graph = helper.make_graph(
        [helper.make_node("Twist", ["x"], ["y"], domain="own")], "g", [x], [y]
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    path = tmp_path / "own.onnx"
    save(helper.make_model(graph, opset_imports=opsets), path)
    with pytest.raises(StageError, match=r"on CPU: [^-].*own\.Twist"), session_of(onnx, path):
        pass
