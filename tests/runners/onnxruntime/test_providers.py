"""Other providers than the CPU, as far as any stock build of ONNX Runtime can show."""

from __future__ import annotations

import json
import tempfile
from importlib import import_module
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from latbench.api import ExportSpec, RunOptions, StageError, UsageError, make_inputs
from latbench_exporters.onnx.exporter import exporter
from latbench_runners.onnxruntime import profile
from latbench_runners.onnxruntime.providers import (
    CPU,
    CUDA,
    OPENVINO,
    TENSORRT,
    given,
    other_precision,
)
from latbench_runners.onnxruntime.runner import (
    DISTRIBUTIONS,
    BoundSession,
    _Loading,
    runner,
)
from support.artifacts import ExportedFile
from support.models import TinyModel
from support.records import make_artifact


def session_of(made: ExportedFile, **extra: str):
    inputs = make_inputs(made.artifact.inputs, 0)
    return runner().open(made.artifact, made.path, inputs, RunOptions(threads=1, extra=extra))


@pytest.fixture
def another() -> str:
    """A provider that takes no vision operator: every node falls to the CPU."""
    import onnxruntime as ort

    if "AzureExecutionProvider" not in ort.get_available_providers():
        pytest.skip("this build has no provider but those that execute")
    return "azure"


def test_nodes_that_fall_to_the_cpu_are_seen(onnx: ExportedFile, another: str) -> None:
    with session_of(onnx, provider=another) as session:
        session.run()
        placement = session.placement()
    assert placement.known == "proven"
    assert placement.units["AzureExecutionProvider"] == 0
    assert (placement.units[CPU] or 0) >= 6
    assert placement.partitions == 1


def test_strict_placement_fails_instead(onnx: ExportedFile, another: str) -> None:
    with (
        pytest.raises(StageError, match="CPU EP") as caught,
        session_of(onnx, provider=another, strict_placement="yes"),
    ):
        pass
    assert "strict_placement=no" in (caught.value.hint or "")


def test_the_cpu_alone_is_strict_already(onnx: ExportedFile) -> None:
    with session_of(onnx, strict_placement="yes") as session:
        session.run()
        assert session.placement().units == {CPU: None}


def test_names_may_be_short(onnx: ExportedFile) -> None:
    for name in ("cpu", "CPU", CPU):
        with session_of(onnx, provider=name) as session:
            assert session.settings()["provider"] == CPU


def test_a_provider_that_is_not_here_is_unavailable(onnx: ExportedFile) -> None:
    with (
        pytest.raises(StageError, match="no provider warp") as caught,
        session_of(onnx, provider="warp"),
    ):
        pass
    assert caught.value.kind == "unavailable"
    assert CPU in (caught.value.hint or "")


@pytest.mark.parametrize(
    "extra",
    [
        {"provider_options": "use_arena=0"},  # The CPU's provider takes none.
        {"provider_options": "device_id"},
        {"provider_options": "=1"},
        {"provider_options": "num_of_threads=8"},
        {"provider_options": "device_id=0; intra_op_num_threads=8"},
        {"strict_placement": "maybe"},
        {"spinning": "1"},
        {"graph_optimization": "most"},
        {"inter_op_threads": "0"},
    ],
)
def test_values_that_make_no_sense_are_refused(onnx: ExportedFile, extra: dict[str, str]) -> None:
    with pytest.raises(UsageError), session_of(onnx, **extra):
        pass


def test_a_profile_leaves_no_file(onnx: ExportedFile, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with session_of(onnx) as session:
        session.run()
        profile = session.profile(3)
    assert [operator.kind for operator in profile.operators].count("Conv") == 6
    assert all(operator.unit == CPU for operator in profile.operators)
    assert list(tmp_path.iterdir()) == []


def test_options_of_the_provider_are_its_own() -> None:
    plain = {"provider": CUDA, "provider_options": "", "threads": "1"}
    assert given(plain) == {"use_tf32": "0"}
    asked = given({**plain, "provider_options": " use_tf32=1; device_id=1 "})
    assert asked == {"use_tf32": "1", "device_id": "1"}
    own = {"provider": OPENVINO, "provider_options": "", "threads": "3"}
    assert given(own) == {"num_of_threads": "3"}


QNN, TRT_FP16 = "QNNExecutionProvider", "trt_fp16_enable"


@pytest.mark.parametrize(
    ("provider", "options", "precision"),
    [
        (CPU, {}, None),
        (CUDA, {}, None),
        (CUDA, {"use_tf32": "0"}, None),
        (CUDA, {"use_tf32": "1"}, "tf32"),
        (CUDA, {"use_tf32": "True"}, "tf32"),
        (TENSORRT[0], {}, "tf32"),
        (TENSORRT[0], {TRT_FP16: "true"}, "fp16"),
        (TENSORRT[1], {}, "tf32"),
        ("CoreMLExecutionProvider", {}, "fp16"),
        (QNN, {}, "fp16"),
        (QNN, {"enable_htp_fp16_precision": "0"}, None),
        (OPENVINO, {}, None),
        (OPENVINO, {"device_type": "CPU"}, None),
        (OPENVINO, {"device_type": "GPU.0"}, "fp16"),
        (OPENVINO, {"device_type": "npu"}, "fp16"),
        (OPENVINO, {"device_type": "GPU", "precision": "FP32"}, None),
    ],
)
def test_precision_follows_the_providers_options(
    provider: str, options: dict[str, str], precision: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    assert other_precision("fp32", provider, options) == precision
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    assert other_precision("fp32", provider, options) == (
        None if precision == "tf32" else precision
    )
    assert other_precision("int8", provider, options) is None


@pytest.mark.torch
def test_the_cpu_computes_fp16_in_fp32_on_x86(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told by what the profiler saw, on the machine that this runs on."""
    pytest.importorskip("torch", reason="needs the `export` extra")
    path = tmp_path / "half.onnx"
    exported = exporter().export(TinyModel(), ExportSpec(precision="fp16"), path)
    artifact = msgspec.structs.replace(make_artifact(path, exported, "onnx"), precision="fp16")
    half = ExportedFile(path=path, exported=exported, artifact=artifact)
    with session_of(half) as session:
        session.run()
        told = session.settings().get("precision")
        profile = session.profile(1)
    assert profile is not None
    # What it casts to, it computes in.
    if told == "fp32":
        assert [operator.kind for operator in profile.operators].count("Cast") == 2
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with session_of(half) as session:
        assert "precision" not in session.settings()


def test_inputs_and_outputs_are_on_the_device_that_executes(
    onnx: ExportedFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stand-ins for a second GPU: what they are asked for is what counts."""
    import onnxruntime as ort

    placed, bound = [], []

    class Value:
        @staticmethod
        def ortvalue_from_numpy(array: object, kind: str, device: int) -> str:
            placed.append((kind, device))
            return "value"

    class Binding:
        def bind_ortvalue_input(self, name: str, value: str) -> None: ...

        def bind_output(self, name: str, kind: str, device: int) -> None:
            bound.append((kind, device))

    class Loaded:
        def io_binding(self) -> Binding:
            return Binding()

        def get_outputs(self) -> list[SimpleNamespace]:
            return [SimpleNamespace(name="mean", type="tensor(float)")]

        def get_inputs(self) -> list[SimpleNamespace]:
            return [SimpleNamespace(name="image", type="tensor(float)")]

    monkeypatch.setattr(ort, "OrtValue", Value)
    inputs = make_inputs(onnx.artifact.inputs, 0)
    for provider, options, where in (
        (CUDA, {"device_id": "1"}, ("cuda", 1)),
        (TENSORRT[0], {}, ("cuda", 0)),
        (CPU, {"device_id": "1"}, ("cpu", 0)),
    ):
        settings = {"provider": provider}
        loading = _Loading(path=onnx.path, settings=settings, provider_options=options)
        BoundSession(Loaded(), onnx.artifact, inputs, settings, loading)  # type: ignore[arg-type]
        assert placed.pop() == bound.pop() == where
    loading = _Loading(path=onnx.path, settings={}, provider_options={"device_id": "-1"})
    with pytest.raises(UsageError, match="device_id"):
        BoundSession(
            Loaded(),  # type: ignore[arg-type]
            onnx.artifact,
            inputs,
            {"provider": CUDA},
            loading,
        )


def test_two_distributions_over_each_other_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    present: set[str] = set()

    def version(name: str) -> str:
        if name not in present:
            raise PackageNotFoundError(name)
        return f"1.{DISTRIBUTIONS.index(name)}"

    monkeypatch.setattr(import_module("latbench_runners.onnxruntime.runner"), "version", version)
    assert runner().probe().reason == "onnxruntime is not installed"
    present.add("onnxruntime-gpu")
    assert (runner().probe().available, runner().probe().version) == (True, "1.1")
    present.add("onnxruntime")
    assert not runner().probe().available
    assert "onnxruntime and onnxruntime-gpu" in (runner().probe().reason or "")
    assert "uninstall" in (runner().probe().hint or "")
    for other in ("onnxruntime-training", "onnxruntime-rocm", "onnxruntime-cann", "ort-nightly"):
        present.clear()
        present.update(("onnxruntime", other))
        assert f"onnxruntime and {other}" in (runner().probe().reason or "")


def test_partitions_are_counted_where_the_provider_changes() -> None:
    def node(index: int, provider: str, us: int) -> dict[str, object]:
        args = {"node_index": str(index), "op_name": "Conv", "provider": provider}
        return {"cat": "Node", "name": f"n{index}_kernel_time", "dur": us, "args": args}

    whole = [node(0, "A", 5), node(1, "B", 7), node(2, "A", 1), node(3, "A", 1)]
    ended = {"cat": "Session", "name": "model_run", "dur": 20}
    slow = [{**event, "dur": 9999} for event in whole]
    # JSON and back, as it comes from the file.
    events = json.loads(json.dumps([*slow, ended, *whole, ended, *whole, ended]))
    seen = profile._read(events)
    assert seen is not None
    assert seen.placed() == {"A": 3, "B": 1}
    assert seen.partitions() == 3
    assert [operator.time_ns for operator in seen.operators] == [5000, 7000, 1000, 1000]
    assert seen.total_ns == 20_000
