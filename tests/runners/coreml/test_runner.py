"""The runner against a stand-in for coremltools on macOS, as its documentation describes it: none of
this is Core ML, all of it is what the runner makes of what Core ML says."""

from __future__ import annotations

import gc
import sys
import warnings
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from latbench.api import Artifact, RunOptions, SelfTimedSession, StageError, TensorSpec, UsageError
from latbench.bench.required_units import RequiredUnits
from latbench_runners.coreml.runner import runner

runners = import_module("latbench_runners.coreml.runner")
pytest.importorskip("PIL", reason="images need pillow")


class MLCPUComputeDevice: ...


class MLGPUComputeDevice: ...


class MLNeuralEngineComputeDevice: ...


ENGINE, CPU = MLNeuralEngineComputeDevice, MLCPUComputeDevice


class Apple:
    """What the stand-in does, and what it was asked."""

    def __init__(self) -> None:
        self.loaded: list[tuple[Any, ...]] = []
        self.fed: list[dict[str, Any]] = []
        self.warning: str | None = None
        self.too_new = False
        self.too_old = False
        self.given: dict[str, Any] = {}
        self.durations: list[int | None] = [1000, 2000, 3000, 4000]
        self.devices: list[type | None] = [None, ENGINE, ENGINE, CPU, ENGINE, None]
        self.plan_error: Exception | None = None
        self.layers = False

    def modules(self, *, own_clock: bool = True) -> dict[str, ModuleType]:
        apple = self

        class MLModel:
            def __init__(self, path: str, compute_units: Any, optimization_hints: Any) -> None:
                apple.loaded.append((path, compute_units, optimization_hints))
                if apple.warning is not None:
                    warnings.warn(apple.warning, RuntimeWarning, stacklevel=2)

            def get_compiled_model_path(self) -> str:
                if apple.too_new:
                    raise Exception("This model was not loaded or compiled.")
                return "/private/tmp/model.mlmodelc"

            def predict(self, data: dict[str, Any], state: Any = None) -> dict[str, Any]:
                apple.fed.append(data)
                if state is not None:
                    state.append(len(apple.fed))
                    return {"output": np.full((1, 2), len(state), dtype=np.float32)}
                return apple.given or {"output": np.full((1, 2), len(apple.fed), dtype=np.float32)}

            def make_state(self) -> list[int]:
                if apple.too_old:
                    raise Exception("State functionality is only supported on macOS 15+")
                return []

        if own_clock:
            MLModel.last_predict_duration_in_nano_seconds = property(  # type: ignore[attr-defined]
                lambda self: apple.durations[(len(apple.fed) - 1) % len(apple.durations)]
            )

        class MLComputePlan:
            def __init__(self) -> None:
                block = SimpleNamespace(operations=apple.devices)
                functions = dict.fromkeys(("main", "other"), SimpleNamespace(block=block))
                program = SimpleNamespace(functions=functions)
                network = SimpleNamespace(layers=apple.devices)
                self.model_structure = SimpleNamespace(
                    program=None if apple.layers else program,
                    neuralnetwork=network if apple.layers else None,
                )

            @classmethod
            def load_from_path(cls, path: str, compute_units: Any) -> MLComputePlan:
                if apple.plan_error is not None:
                    raise apple.plan_error
                apple.loaded.append((path, compute_units))
                return cls()

            def get_compute_device_usage_for_mlprogram_operation(self, device: Any) -> Any:
                if device is None:
                    return None
                return SimpleNamespace(preferred_compute_device=device())

            get_compute_device_usage_for_neuralnetwork_layer = (
                get_compute_device_usage_for_mlprogram_operation
            )

        ct: Any = ModuleType("coremltools")
        ct.ComputeUnit = SimpleNamespace(
            ALL="ALL", CPU_ONLY="CPU", CPU_AND_GPU="GPU", CPU_AND_NE="NE"
        )
        ct.SpecializationStrategy = SimpleNamespace(FastPrediction="FAST")
        ct.models = SimpleNamespace(MLModel=MLModel)
        plan: Any = ModuleType("coremltools.models.compute_plan")
        plan.MLComputePlan = MLComputePlan
        return {
            "coremltools": ct,
            "coremltools.models": ModuleType("coremltools.models"),
            "coremltools.models.compute_plan": plan,
        }


@pytest.fixture
def apple(monkeypatch: pytest.MonkeyPatch) -> Apple:
    found = Apple()
    for name, module in found.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    return found


def artifact(
    dtype: str = "float16", precision: str = "fp16", fed: str = "float32", **details: str
) -> Artifact:
    return Artifact(
        sha256="0" * 64,
        size_bytes=1,
        format="coreml",
        precision=precision,
        inputs=(TensorSpec(name="image", shape=(1, 3, 2, 2), dtype=fed),),
        outputs=(TensorSpec(name="output", shape=(1, 2), dtype=dtype),),
        counts=None,
        model_counts=None,
        trained_parameters=None,
        parity=None,
        details={"type": "mlprogram", **details},
        toolchain={},
    )


def opened(what: Artifact | None = None, **extra: str) -> Any:
    inputs = (np.zeros((1, 3, 2, 2), dtype=np.float32),)
    options = RunOptions(threads=2, extra=extra)
    return runner().open(what or artifact(), Path("x.mlpackage"), inputs, options)


def test_the_runtimes_own_clock_is_the_sample_and_the_call_stands_beside(apple: Apple) -> None:
    with opened() as session:
        assert isinstance(session, SelfTimedSession)
        assert list(session.time_block(3)) == [1000, 2000, 3000]
        beside = session.beside_ns()["call"]
        assert len(beside) == 3
        assert all(ns > 0 for ns in beside)
        assert list(session.time_block(1)) == [4000]
        assert len(session.beside_ns()["call"]) == 1
        assert session.settings()["clock"] == "runtime"
        (output,) = session.outputs()
        assert output.dtype == np.float16
        assert output[0, 0] == 4


def test_without_a_clock_of_its_own_the_call_is_the_sample(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, module in Apple().modules(own_clock=False).items():
        monkeypatch.setitem(sys.modules, name, module)
    with opened() as session:
        assert all(ns > 0 for ns in session.time_block(2))
        assert session.beside_ns() == {}
        assert session.settings()["clock"] == "call"


def test_a_duration_that_is_not_told_is_an_error(apple: Apple) -> None:
    apple.durations = [None]
    with opened() as session, pytest.raises(StageError, match="reported no duration") as caught:
        session.time_block(1)
    assert caught.value.stage == "time"


def test_outputs_before_an_inference_are_an_error(apple: Apple) -> None:
    with opened() as session, pytest.raises(StageError, match="only after an inference"):
        session.outputs()


@pytest.mark.parametrize(
    ("units", "member"),
    [("all", "ALL"), ("cpu_only", "CPU"), ("cpu_and_gpu", "GPU"), ("cpu_and_ne", "NE")],
)
def test_compute_units_are_asked_for_in_model_and_plan(
    apple: Apple, units: str, member: str
) -> None:
    with opened(compute_units=units, specialization="fast_prediction") as session:
        session.placement()
        assert session.settings()["compute_units"] == units
    load, plan = apple.loaded
    assert load == ("x.mlpackage", member, {"specializationStrategy": "FAST"})
    assert plan == ("/private/tmp/model.mlmodelc", member)


def test_no_hint_is_given_where_none_was_asked_for(apple: Apple) -> None:
    """macOS before 15 refuses any."""
    with opened():
        pass
    assert apple.loaded == [("x.mlpackage", "ALL", None)]


@pytest.mark.parametrize("layers", [False, True])
def test_placement_counts_operations_and_pieces(apple: Apple, layers: bool) -> None:
    apple.layers = layers
    with opened() as session:
        placement = session.placement()
    assert placement.units == {"neural_engine": 3, "cpu": 1}
    assert placement.known == "planned"
    assert placement.partitions == 3


def test_a_plan_names_what_would_run_elsewhere(apple: Apple) -> None:
    facts = {"operator_name": "ios17.softmax", "outputs": (SimpleNamespace(name="scores"),)}
    apple.devices = [ENGINE, type(CPU.__name__, (CPU,), facts)]
    with opened() as session:
        placement = session.placement()
    assert (placement.examples or {})["cpu"] == ("scores (ios17.softmax)",)
    required = RequiredUnits(names=("npu",), also=runner().units)
    with pytest.raises(StageError, match=r"1 operator \(scores \(ios17.softmax\)\) runs on cpu"):
        required.check("coreml", placement)
    apple.devices = [ENGINE, None]
    with opened() as session:
        required.check("coreml", session.placement())


@pytest.mark.parametrize("missing", ["error", "empty"])
def test_placement_is_unknown_where_no_plan_is_told(apple: Apple, missing: str) -> None:
    if missing == "error":
        apple.plan_error = ValueError("MLComputePlan is not supported.\nat all")
    apple.devices = [None]
    with opened() as session:
        placement = session.placement()
    assert placement.known == "unknown"
    assert placement.units
    assert "\n" not in (placement.note or "")


def test_what_core_ml_only_warns_of_does_not_open(apple: Apple) -> None:
    apple.warning = "You will not be able to run predict(): compiler error\nmore"
    with pytest.raises(StageError, match=r"compiler error$") as caught, opened():
        pass
    assert caught.value.stage == "open"


def test_a_model_for_a_newer_system_does_not_open(apple: Apple) -> None:
    apple.too_new = True
    with pytest.raises(StageError, match="not loaded or compiled"), opened():
        pass


@pytest.mark.parametrize("extra", [{"compute_units": "tpu"}, {"specialization": "fast"}])
def test_unknown_values_are_refused(apple: Apple, extra: dict[str, str]) -> None:
    with pytest.raises(UsageError) as caught, opened(**extra):
        pass
    assert caught.value.hint
    assert apple.loaded == []


def test_images_are_the_pictures_that_the_network_sees(apple: Apple) -> None:
    details = {"images": "image", "image_scale": "0.01", "image_bias": "-1.0,0.0,1.0"}
    what = artifact("float32", "fp32", **details)
    values = np.array([[[[-1.0, 1.55], [0.003, 9.0]], [[0.0, 2.55], [1, 1]], [[1, 1], [1, 1]]]])
    options = RunOptions(threads=1)
    with runner().open(what, Path("x.mlpackage"), (values,), options) as session:
        session.run()
        assert session.settings()["input_bits"] == "8"
        assert "precision" not in session.settings(), "the program is computed in fp32"
    picture = apple.fed[0]["image"]
    assert picture.mode == "RGB"
    pixels = np.asarray(picture)
    assert pixels[:, :, 0].tolist() == [[0, 255], [100, 255]]
    assert pixels[:, :, 1].tolist() == [[0, 255], [100, 100]]
    assert pixels[:, :, 2].tolist() == [[0, 0], [0, 0]]


def test_a_state_is_kept_and_outputs_are_those_of_a_new_one(apple: Apple) -> None:
    with opened(artifact(states="total")) as session:
        session.time_block(3)
        (output,) = session.outputs()
        assert output[0, 0] == 1, "one inference from zeros"
        session.time_block(1)
        assert session._state == [1, 2, 3, 5]
        assert session.settings()["states"] == "kept between inferences"


def test_a_state_needs_a_newer_system(apple: Apple) -> None:
    apple.too_old = True
    with pytest.raises(StageError, match="macOS 15") as caught, opened(artifact(states="total")):
        pass
    assert (caught.value.stage, caught.value.kind) == ("open", "unavailable")


@pytest.mark.parametrize("labels", [("b", "a"), (10, 9)])
def test_probabilities_are_in_the_order_of_the_labels(apple: Apple, labels: Any) -> None:
    apple.given = {"output": dict(zip(labels, (0.75, 0.25), strict=True)), "label": labels[0]}
    with opened(artifact("float32")) as session:
        session.run()
        (output,) = session.outputs()
    assert output.tolist() == [[0.25, 0.75]]


@pytest.mark.parametrize(
    ("mode", "space", "pixel", "expected"),
    [
        ("RGBA", "RGB", (1, 2, 3, 255), [1, 2, 3]),
        ("RGBA", "BGR", (1, 2, 3, 255), [3, 2, 1]),
        ("L", "GRAYSCALE", 7, [7]),
        ("F", "GRAYSCALE_FLOAT16", 0.5, [0.5]),
    ],
)
def test_an_image_is_an_output_of_levels(
    apple: Apple, mode: str, space: str, pixel: Any, expected: list[float]
) -> None:
    from PIL import Image

    apple.given = {"output": Image.new(mode, (4, 2), pixel)}
    with opened(artifact("float32", color_spaces=f"output {space}")) as session:
        session.run()
        (output,) = session.outputs()
    assert output.shape == (1, len(expected), 2, 4)
    assert output.dtype == ("float32" if mode == "F" else "uint8")
    assert output[0, :, 1, 3].tolist() == expected


def test_channels_are_swapped_for_a_network_of_bgr(apple: Apple) -> None:
    details = {"images": "image", "image_scale": "1.0", "image_bias": "0,0,0"}
    values = np.array([1.0, 2.0, 3.0], np.float32).reshape(1, 3, 1, 1)
    what = artifact("float32", color_spaces="image BGR", **details)
    with runner().open(what, Path("x"), (values,), RunOptions(threads=1)) as session:
        session.run()
    assert apple.fed[0]["image"].getpixel((0, 0)) == (3, 2, 1)


def test_gray_images_of_floats_are_not_rounded(apple: Apple) -> None:
    details = {"images": "image", "image_scale": "1.0", "image_bias": "0"}
    what = artifact("float32", color_spaces="image GRAYSCALE_FLOAT16", **details)
    values = np.full((1, 1, 2, 2), 0.25, np.float32)
    with runner().open(what, Path("x"), (values,), RunOptions(threads=1)) as session:
        session.run()
        assert session.settings()["input"] == "image"
        assert "input_bits" not in session.settings()
    picture = apple.fed[0]["image"]
    assert picture.mode == "F"
    assert picture.getpixel((1, 1)) == 0.25


def test_the_plan_is_that_of_the_function(apple: Apple) -> None:
    with opened(artifact(signature="other")) as session:
        assert session.placement().known == "planned"
    with opened(artifact(signature="missing")) as session:
        assert session.placement().known == "unknown"


@pytest.mark.parametrize(
    ("kind", "units", "devices", "precision"),
    [
        ("mlprogram", "all", [ENGINE], None),
        ("neuralnetwork", "all", [ENGINE, CPU], "fp16"),
        ("neuralnetwork", "all", [None], "fp16"),
        ("neuralnetwork", "all", [CPU, None, CPU], None),
        ("neuralnetwork", "cpu_only", [None], None),
    ],
)
def test_says_where_it_computes_in_less(
    apple: Apple, kind: str, units: str, devices: list[type | None], precision: str | None
) -> None:
    apple.devices = devices
    with opened(artifact("float32", "fp32", type=kind), compute_units=units) as session:
        assert session.settings().get("precision") == precision
        assert session.settings()["threads"] == "unknown"


def test_arrays_that_are_widened_are_told(apple: Apple) -> None:
    with opened(artifact(fed="float16")) as session:
        assert session.settings()["input_arrays"] == "float32"
    with opened(artifact(fed="float32")) as session:
        assert "input_arrays" not in session.settings()


def test_loading_asks_the_machine_nothing(apple: Apple, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(runners, "_output_of", lambda *command: asked.append(command))
    with opened(artifact("float32", "fp32", type="neuralnetwork")) as session:
        assert asked == []
        assert len(apple.loaded) == 1, "the model, and no plan"
        session.settings()
        session.placement()
        session.settings()
    assert len(asked) == 2
    assert len(apple.loaded) == 2, "one plan"


def test_pictures_are_imported_before_loading(
    apple: Apple, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = pytest.importorskip("PIL")
    # Restored as an attribute too: a second module would know none of the formats.
    monkeypatch.setattr(package, "Image", pytest.importorskip("PIL.Image"))
    monkeypatch.delitem(sys.modules, "PIL.Image")
    runner().prepare()
    assert "PIL.Image" in sys.modules
    for name in ("PIL", "PIL.Image"):
        monkeypatch.setitem(sys.modules, name, None)
    runner().prepare()
    details = {"images": "image", "image_scale": "0.01", "image_bias": "-1.0,0.0,1.0"}
    with pytest.raises(StageError, match="pillow") as caught, opened(artifact(**details)):
        pass
    assert caught.value.kind == "unavailable"


def test_nothing_is_collected_while_it_is_timed(apple: Apple) -> None:
    collecting: list[bool] = []

    class Durations(list[int | None]):
        def __getitem__(self, index: Any) -> Any:
            collecting.append(gc.isenabled())
            return 1000

    apple.durations = Durations([1000])
    with opened() as session:
        session.time_block(2)
    assert collecting == [False, False]


def test_settings_of_the_machine(apple: Apple, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"sw_vers": "24G90", "pmset": "Note: none\nCPU_Speed_Limit \t= 80\n"}
    monkeypatch.setattr(runners, "_output_of", lambda *command: told[command[0]])
    with opened() as session:
        assert session.settings()["macos_build"] == "24G90"
        assert session.settings()["thermal_state"] == "CPU speed limit 80 %"
    foundation: Any = ModuleType("Foundation")
    foundation.__spec__ = SimpleNamespace()
    process = SimpleNamespace(thermalState=lambda: 2)
    foundation.NSProcessInfo = SimpleNamespace(processInfo=lambda: process)
    monkeypatch.setitem(sys.modules, "Foundation", foundation)
    with opened() as session:
        assert session.settings()["thermal_state"] == "serious"


def test_probing_elsewhere_says_where_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    found = runner().probe()
    assert not found.available
    assert "Apple" in (found.reason or "")
    assert "Mac" in (found.hint or "")


@pytest.mark.parametrize("state", ["missing", "without bindings", "complete"])
def test_probing_a_mac(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state: str) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(runners.platform, "machine", lambda: "arm64")
    if state == "complete":
        (tmp_path / "libcoremlpython.so").touch()
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(runners, "find_spec", lambda name: None if state == "missing" else spec)
    found = runner().probe()
    assert found.available == (state == "complete")
    if state == "complete":
        assert found.units == ("cpu", "gpu", "neural_engine")
        assert found.version
    else:
        assert found.reason
        assert "coremltools" in (found.hint or "") or "latbench[coreml]" in (found.hint or "")
