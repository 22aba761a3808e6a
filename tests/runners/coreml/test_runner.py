"""The runner with the real coremltools, whose compiled part is replaced (see ``support.mac``).

What coremltools checks, converts and warns of is its own code. Core ML itself is not here: how it
computes, where and how fast is known only on a Mac.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from latbench.api import (
    Array,
    Artifact,
    ExportSpec,
    RunOptions,
    SelfTimedSession,
    StageError,
    UsageError,
    make_inputs,
)
from latbench.bench.required_units import RequiredUnits
from latbench_exporters.coreml.exporter import exporter
from latbench_runners.coreml import plan, system
from latbench_runners.coreml.runner import runner
from support.coreml import (
    convolution,
    on_a_mac,
    write_classifier,
    write_functions,
    write_image_program,
    write_program,
    write_stateful,
)
from support.mac.facts import Mac
from support.models import TinyModel
from support.records import make_artifact

pytest.importorskip("PIL", reason="images need pillow")
ct = pytest.importorskip("coremltools", reason="needs the `coreml` extra")
pytest.importorskip("torch", reason="needs the `export` extra")

pytestmark = pytest.mark.torch
runners = import_module("latbench_runners.coreml.runner")


@pytest.fixture
def mac(tmp_path: Path) -> Iterator[Mac]:
    with on_a_mac(tmp_path) as found:
        yield found


def half(path: Path) -> Path:
    """Five operations in fp16, with arrays of fp16."""
    exporter().export(TinyModel(), ExportSpec(precision="fp16"), path)
    return path


def branches(path: Path) -> Path:
    """An operation with a block for each of two cases."""
    from coremltools.converters.mil.mil import Builder as mb

    def body(x: Any) -> Any:
        positive = mb.greater(x=mb.reduce_sum(x=x, keep_dims=False), y=np.float32(0))
        return mb.cond(
            pred=positive,
            _true_fn=lambda: mb.relu(x=x),
            _false_fn=lambda: mb.tanh(x=mb.square(x=x)),
            name="y",
        )

    return write_program(body, path, (1, 4))


def flexible(path: Path) -> Path:
    from coremltools.converters.mil.mil import get_new_symbol

    shape = ct.Shape((ct.RangeDim(1, 4, default=2), 3, 8, 8))
    inputs = [ct.TensorType(name="x", shape=shape)]
    return write_program(convolution, path, (get_new_symbol(), 3, 8, 8), inputs=inputs)


MAKERS: dict[str, Callable[[Path], Path]] = {
    "plain": lambda path: write_program(convolution, path, (1, 3, 8, 8)),
    "half": half,
    "stateful": write_stateful,
    "functions": write_functions,
    "flexible": flexible,
    "texts": lambda path: write_classifier(path, ["b", "c", "a"]),
    "numbers": lambda path: write_classifier(path, [10, 9, 100]),
    **{
        space: lambda path, space=space: write_image_program(path, space)  # type: ignore[misc]
        for space in ("RGB", "BGR", "GRAYSCALE", "GRAYSCALE_FLOAT16")
    },
}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A package by its name in ``MAKERS``, written once."""
    folder = tmp_path_factory.mktemp("packages")

    def package(name: str) -> Path:
        path = folder / f"{name}.mlpackage"
        return path if path.exists() else MAKERS[name](path)

    return package


class Case:
    """A package as the harness hands it to a worker: adopted, with inputs and reference outputs."""

    def __init__(self, path: Path, folder: Path, **spec: Any) -> None:
        self.path = folder / f"adopted-{path.name}"
        exported = exporter().adopt(path, ExportSpec(**spec), self.path)
        self.inputs = make_inputs(exported.inputs, 0)
        found = exporter().evaluate(self.path, self.inputs)
        assert found is not None
        self.expected: tuple[Array, ...] = found
        made = make_artifact(self.path, exported, "coreml")
        outputs = tuple(
            msgspec.structs.replace(spec, shape=array.shape)
            for spec, array in zip(made.outputs, found, strict=True)
        )
        self.artifact: Artifact = msgspec.structs.replace(made, outputs=outputs)

    @contextmanager
    def opened(self, inputs: tuple[Array, ...] | None = None, **extra: str) -> Iterator[Any]:
        options = RunOptions(threads=2, extra=extra)
        given = self.inputs if inputs is None else inputs
        with runner().open(self.artifact, self.path, given, options) as session:
            yield session


Cases = Callable[..., Case]


@pytest.fixture
def case(packages: Callable[[str], Path], tmp_path: Path) -> Cases:
    return lambda name, **spec: Case(packages(name), tmp_path, **spec)


@pytest.mark.parametrize("name", [name for name in MAKERS if name != "functions"])
def test_outputs_are_those_of_the_reference(mac: Mac, case: Cases, name: str) -> None:
    """Arrays of fp32 and fp16, flexible ones, states, labels, and images of every color space."""
    made = case(name)
    with made.opened() as session:
        session.time_block(3)
        (output,) = session.outputs()
    (expected,) = made.expected
    assert output.shape == expected.shape
    levels = output.dtype == np.uint8
    np.testing.assert_allclose(output, expected, atol=1.01 if levels else 0, rtol=0)
    assert levels == (name in ("RGB", "BGR", "GRAYSCALE"))


@pytest.mark.parametrize(("function", "batch"), [("small", 1), ("large", 2)])
def test_one_of_several_functions_is_run(mac: Mac, case: Cases, function: str, batch: int) -> None:
    made = case("functions", signature=function)
    with made.opened() as session:
        session.run()
        (output,) = session.outputs()
        assert session.placement().known == "planned"
    assert output.shape[0] == batch
    np.testing.assert_array_equal(output, made.expected[0])


def test_a_flexible_package_is_run_at_the_chosen_size(mac: Mac, case: Cases) -> None:
    made = case("flexible", batch=3)
    with made.opened() as session:
        session.run()
        assert session.outputs()[0].shape == (3, 4, 6, 6)
    four, five = (np.zeros((size, 3, 8, 8), np.float32) for size in (4, 5))
    with made.opened((four,)) as session:
        session.run()
    with made.opened((five,)) as session, pytest.raises(StageError) as caught:
        session.run()
    assert "For input feature 'x', the provided shape (5 x 3 x 8 x 8)" in caught.value.message
    assert "Size (5) of dimension (0) is not in allowed range (1..4)" in caught.value.message


def test_the_runtimes_own_clock_is_the_sample_and_the_call_stands_beside(
    mac: Mac, case: Cases
) -> None:
    with case("plain").opened() as session:
        assert isinstance(session, SelfTimedSession)
        samples = session.time_block(3)
        beside = session.beside_ns()["call"]
        assert len(samples) == len(beside) == 3
        assert all(0 < own < call for own, call in zip(samples, beside, strict=True))
        session.time_block(1)
        assert len(session.beside_ns()["call"]) == 1
        assert session.settings()["clock"] == "runtime"


def test_a_duration_that_is_not_told_is_an_error(mac: Mac, case: Cases) -> None:
    mac.fails["duration"] = "none"
    matched = pytest.raises(StageError, match="reported no duration")
    with case("plain").opened() as session, matched as caught:
        session.time_block(1)
    assert caught.value.stage == "time"


def test_outputs_before_an_inference_are_an_error(mac: Mac, case: Cases) -> None:
    matched = pytest.raises(StageError, match="only after an inference")
    with case("plain").opened() as session, matched:
        session.outputs()


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        ("all", {"cpu", "gpu", "neural_engine"}),
        ("cpu_only", {"cpu"}),
        ("cpu_and_gpu", {"cpu", "gpu"}),
        ("cpu_and_ne", {"cpu", "neural_engine"}),
    ],
)
def test_model_and_plan_use_the_compute_units(
    mac: Mac, case: Cases, units: str, expected: set[str]
) -> None:
    with case("stateful").opened(compute_units=units, specialization="fast_prediction") as session:
        placement = session.placement()
        assert session._model.compute_unit.name == units.upper()
        strategy = session._model.optimization_hints["specializationStrategy"]
        assert strategy is ct.SpecializationStrategy.FastPrediction
        assert session.settings()["compute_units"] == units
    assert placement.known == "planned"
    assert set(placement.units) == expected


def test_placement_counts_operations_and_pieces(mac: Mac, case: Cases) -> None:
    with case("half").opened() as session:
        placement = session.placement()
    assert placement.units == {"neural_engine": 5}
    assert placement.partitions == 1


def test_a_plan_names_what_would_run_elsewhere(mac: Mac, case: Cases) -> None:
    with case("half").opened() as session:
        placement = session.placement()
    (named,) = (placement.examples or {}).values()
    assert len(named) == 5
    RequiredUnits(names=("npu",), also=runner().units).check("coreml", placement)
    required = RequiredUnits(names=("cpu",), also=runner().units)
    with pytest.raises(StageError, match="5 operators") as caught:
        required.check("coreml", placement)
    assert named[0] in caught.value.message


def test_the_plan_counts_operations_of_blocks(mac: Mac, tmp_path: Path) -> None:
    model = ct.models.MLModel(str(branches(tmp_path / "b.mlpackage")))
    found = plan.placement_of(plan.plan(model, ct.ComputeUnit.CPU_ONLY, "main"))
    kinds = ("reduce_sum", "greater", "cond", "relu", "square", "tanh")
    assert found.units == {"cpu": len(kinds)}


def test_the_plan_of_a_neuralnetwork_has_layers(mac: Mac, tmp_path: Path) -> None:
    path = tmp_path / "n.mlpackage"
    exported = exporter().export(TinyModel(), ExportSpec(options={"type": "neuralnetwork"}), path)
    made = make_artifact(path, exported, "coreml")
    inputs = make_inputs(exported.inputs, 0)

    def settings(units: str) -> dict[str, str]:
        options = RunOptions(threads=1, extra={"compute_units": units})
        with runner().open(made, path, inputs, options) as session:
            assert sum(filter(None, session.placement().units.values())) > 3
            return dict(session.settings())

    assert settings("all")["precision"] == "fp16", "GPU and Neural Engine compute it so"
    assert "precision" not in settings("cpu_only")
    mac.fails["plan"] = "no plan"
    options = RunOptions(threads=1)
    with runner().open(made, path, inputs, options) as session:
        assert session.settings()["precision"] == "fp16", "it cannot be excluded"


@pytest.mark.parametrize(
    ("macos", "fails", "note"),
    [
        ("14.3", {}, "not available: MLComputePlan is only available on macOS >= 14.4"),
        ("15.5", {"plan": "no room"}, "not available: Failed to load compute plan: no room"),
    ],
)
def test_placement_is_unknown_where_there_is_no_plan(
    case: Cases, tmp_path: Path, macos: str, fails: dict[str, str], note: str
) -> None:
    with on_a_mac(tmp_path, macos) as mac:
        mac.fails.update(fails)
        with case("plain").opened() as session:
            placement = session.placement()
    assert placement.known == "unknown"
    assert placement.units
    assert (placement.note or "").endswith(note)


def test_a_device_that_the_bindings_do_not_know(mac: Mac, case: Cases) -> None:
    mac.fails["device"] = "new"
    with case("half").opened() as session:
        assert session.placement().units == {"unknown": 5}


def test_a_function_that_is_not_in_the_compiled_model(mac: Mac, packages: Any) -> None:
    model = ct.models.MLModel(str(packages("plain")))
    found = plan.placement_of(plan.plan(model, ct.ComputeUnit.ALL, "other"))
    assert found.known == "unknown"
    assert "no function 'other'" in (found.note or "")


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("compile", 'Error compiling model: "too large".'),
        ("load", "Failed to build the model execution plan: too large"),
    ],
)
def test_what_coremltools_only_warns_of_does_not_open(
    mac: Mac, case: Cases, place: str, message: str
) -> None:
    made = case("plain")
    mac.fails[place] = "too large"
    with pytest.raises(StageError) as caught, made.opened():
        pass
    assert caught.value.stage == "open"
    assert caught.value.message == f"Core ML cannot load {made.path.name}: {message}"


def test_a_model_for_a_newer_core_ml_does_not_open(
    mac: Mac, case: Cases, monkeypatch: pytest.MonkeyPatch
) -> None:
    bindings = import_module("support.mac.libcoremlpython")
    monkeypatch.setattr(bindings, "NEWEST_SPECIFICATION", 6)
    with pytest.raises(StageError, match="not loaded or compiled"), case("plain").opened():
        pass


@pytest.mark.parametrize(
    ("macos", "extra", "message"),
    [
        ("14.7", {"specialization": "fast_prediction"}, "hints are only available on macOS >= 15"),
        ("12.6", {"compute_units": "cpu_and_ne"}, "CPU_AND_NE is only available on macOS >= 13"),
        ("13.6", {}, "Unable to parse specification version 8"),
    ],
)
def test_what_an_older_system_does_not_have(
    case: Cases, tmp_path: Path, macos: str, extra: dict[str, str], message: str
) -> None:
    made = case("plain")
    with on_a_mac(tmp_path, macos), pytest.raises(StageError) as caught, made.opened(**extra):
        pass
    assert message in caught.value.message
    assert "this macOS does not support" in (caught.value.hint or "")


def test_a_failed_inference_is_told_in_one_line(mac: Mac, case: Cases) -> None:
    with case("plain").opened() as session:
        session.run()
        mac.fails["predict"] = "the Neural Engine is busy"
        with pytest.raises(StageError) as caught:
            session.time_block(1)
    assert caught.value.stage == "time"
    assert caught.value.message == (
        "Core ML failed in an inference: Unable to compute the prediction using ML Program: "
        "the Neural Engine is busy"
    )
    assert caught.value.hint


def test_arrays_that_cannot_be_written_to_are_copied(mac: Mac, case: Cases) -> None:
    """The bindings ask an array for a pointer to write to."""
    made = case("plain")
    fixed = np.broadcast_to(np.float32(0), (1, 3, 8, 8))
    with made.opened((fixed,)) as session:
        session.run()
        assert not session.outputs()[0].any()


def test_types_that_the_bindings_refuse_are_named(
    mac: Mac, case: Cases, capfd: pytest.CaptureFixture[str]
) -> None:
    made = case("plain")
    matched = pytest.raises(StageError, match="value type not convertible")
    with made.opened((np.zeros((1, 3, 8, 8), np.int8),)) as session, matched as caught:
        session.run()
    assert "the inputs are x float32" in (caught.value.hint or "")


@pytest.mark.parametrize("extra", [{"compute_units": "tpu"}, {"specialization": "fast"}])
def test_unknown_values_are_refused(mac: Mac, case: Cases, extra: dict[str, str]) -> None:
    with pytest.raises(UsageError) as caught, case("plain").opened(**extra):
        pass
    assert caught.value.hint


def test_images_are_the_pictures_that_the_network_sees(mac: Mac, case: Cases) -> None:
    made = case("RGB")
    scale = float(made.artifact.details["image_scale"])
    bias = np.array(made.artifact.details["image_bias"].split(","), np.float64)
    pixels = np.zeros((1, 3, 8, 8))
    pixels[0, :, 0, 0] = (7.4, 300, -3)
    values = (pixels * scale + bias.reshape(1, 3, 1, 1)).astype(np.float32)
    with made.opened((values,)) as session:
        session.run()
        assert session._fed["x"].mode == "RGB"
        assert session._fed["x"].getpixel((0, 0)) == (7, 255, 0)
        assert session.settings()["input_bits"] == "8"
        assert "precision" not in session.settings(), "the program is computed in fp32"
        assert session.outputs()[0][0, :, 0, 0].tolist() == [14, 255, 0]


def test_gray_images_of_floats_are_not_rounded_to_8_bits(mac: Mac, case: Cases) -> None:
    with case("GRAYSCALE_FLOAT16").opened() as session:
        session.run()
        assert session._fed["x"].mode == "F"
        assert session.settings()["input"] == "image"
        assert "input_bits" not in session.settings()


def test_a_state_is_kept_and_outputs_are_those_of_a_new_one(mac: Mac, case: Cases) -> None:
    made = case("stateful")
    with made.opened() as session:
        session.time_block(3)
        kept = session._state.read_state("total")
        np.testing.assert_allclose(kept, 3 * made.inputs[0], atol=1e-2)
        np.testing.assert_array_equal(session.outputs()[0], made.expected[0])
        np.testing.assert_array_equal(session._state.read_state("total"), kept)
        assert session.settings()["states"] == "kept between inferences"


def test_a_state_needs_a_newer_system(case: Cases, tmp_path: Path) -> None:
    made = case("stateful")
    with on_a_mac(tmp_path, "14.7") as mac:
        with pytest.raises(StageError, match="specification version 9"), made.opened():
            pass
        mac.macos = "15.5"
        with pytest.raises(StageError, match="supported on macOS 15") as caught, made.opened():
            pass
    assert (caught.value.stage, caught.value.kind) == ("open", "unavailable")


def test_arrays_that_are_widened_are_told(mac: Mac, case: Cases) -> None:
    with case("half").opened() as session:
        assert session.settings()["input_arrays"] == "float32"
        session.run()
        assert session.outputs()[0].dtype == np.float16
    with case("plain").opened() as session:
        assert "input_arrays" not in session.settings()


class TestOlderCoremltools:
    """Without what later versions brought."""

    def test_without_a_clock_of_its_own_the_call_is_the_sample(
        self, mac: Mac, case: Cases, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """8.2 and older."""
        monkeypatch.delattr(ct.models.MLModel, "last_predict_duration_in_nano_seconds")
        with case("plain").opened() as session:
            assert all(ns > 0 for ns in session.time_block(2))
            assert session.beside_ns() == {}
            assert session.settings()["clock"] == "call"

    def test_without_a_plan_the_placement_is_unknown(
        self, mac: Mac, case: Cases, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """8.0 and older."""
        monkeypatch.setattr(plan, "find_spec", lambda name: None)
        with case("plain").opened() as session:
            assert session.placement().known == "unknown"
            assert "has no MLComputePlan (8.1" in (session.placement().note or "")

    def test_without_hints_and_states(
        self, mac: Mac, case: Cases, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """7."""
        plain, stateful = case("plain"), case("stateful")
        real = ct.models.MLModel

        class MLModel(real):  # type: ignore[misc, valid-type]
            def __init__(self, model: str, compute_units: Any) -> None:
                super().__init__(model, compute_units=compute_units)

            def predict(self, data: Any) -> Any:
                return super().predict(data)

            @property
            def make_state(self) -> Any:
                raise AttributeError("'MLModel' object has no attribute 'make_state'")

        monkeypatch.setattr(ct.models, "MLModel", MLModel)
        monkeypatch.delattr(ct, "SpecializationStrategy")
        with plain.opened() as session:
            session.run()
        fast = plain.opened(specialization="fast_prediction")
        with pytest.raises(StageError, match="no specialization strategies") as caught, fast:
            pass
        assert "8 or later" in (caught.value.hint or "")
        with pytest.raises(StageError, match="make_state") as caught, stateful.opened():
            pass
        assert "coremltools 8" in (caught.value.hint or "")


def test_loading_asks_the_machine_nothing(
    mac: Mac, case: Cases, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(runners, "build", lambda: asked.append("build"))
    monkeypatch.setattr(runners, "thermal_state", lambda: asked.append("state"))
    monkeypatch.setattr(runners, "plan", lambda *given: asked.append("plan") or "no plan")
    with case("plain").opened() as session:
        assert asked == []
        session.settings()
        session.placement()
        session.settings()
    assert asked == ["build", "state", "plan"]


def test_pictures_are_imported_before_loading(
    mac: Mac, case: Cases, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = case("RGB")
    package = import_module("PIL")
    # Restored as an attribute too: a second module would know none of the formats.
    monkeypatch.setattr(package, "Image", import_module("PIL.Image"))
    monkeypatch.delitem(sys.modules, "PIL.Image")
    runner().prepare()
    assert "PIL.Image" in sys.modules
    for name in ("PIL", "PIL.Image"):
        monkeypatch.setitem(sys.modules, name, None)
    runner().prepare()
    with pytest.raises(StageError, match="pillow") as caught, made.opened():
        pass
    assert caught.value.kind == "unavailable"


def test_nothing_is_collected_while_it_is_timed(
    mac: Mac, case: Cases, monkeypatch: pytest.MonkeyPatch
) -> None:
    collecting: list[bool] = []

    def duration(self: Any) -> int:
        collecting.append(gc.isenabled())
        return 1000

    name = "last_predict_duration_in_nano_seconds"
    monkeypatch.setattr(ct.models.MLModel, name, property(duration))
    with case("plain").opened() as session:
        assert session.time_block(2) == [1000, 1000]
    assert collecting == [False, False]


def test_probing_elsewhere_says_where_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    found = runner().probe()
    assert not found.available
    assert "Apple" in (found.reason or "")
    assert "Mac" in (found.hint or "")


def test_probing_a_mac(mac: Mac) -> None:
    found = runner().probe()
    assert found.available
    assert found.units == ("cpu", "gpu", "neural_engine")
    assert found.version == f"macOS 15.5 (stand-in), coremltools {ct.__version__}"


@pytest.mark.parametrize("state", ["missing", "without bindings"])
def test_probing_a_mac_that_cannot(
    mac: Mac, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state: str
) -> None:
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(runners, "find_spec", lambda name: None if state == "missing" else spec)
    found = runner().probe()
    assert not found.available
    assert found.reason
    assert "coremltools" in (found.hint or "") or "latbench[coreml]" in (found.hint or "")
    assert system.runtime_version().startswith("macOS 15.5 (stand-in)")
