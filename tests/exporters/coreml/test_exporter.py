"""What is made with which options, and what is said where it cannot be."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latbench.api import (
    Array,
    Exported,
    ExportSpec,
    StageError,
    TensorSpec,
    UsageError,
    make_inputs,
)
from latbench.schema.artifact import ModelIdentity
from latbench_exporters.coreml.exporter import exporter
from latbench_exporters.coreml.mil import Program
from latbench_exporters.coreml.package import Package, read
from support.models import TinyModel

ct = pytest.importorskip("coremltools", reason="needs the `coreml` extra")
torch = pytest.importorskip("torch", reason="needs the `export` extra")

nn = torch.nn
pytestmark = pytest.mark.torch


class Given:
    """A module and one input shape, as an `api.Model`."""

    def __init__(self, module: Any, *shape: int) -> None:
        self.identity: ModelIdentity = TinyModel.identity
        self._module = module.eval().requires_grad_(False)
        self._shape = shape

    def module(self) -> Any:
        return self._module

    def inputs(self) -> tuple[TensorSpec, ...]:
        return (TensorSpec(name="image", shape=self._shape, dtype="float32"),)

    def example_inputs(self) -> tuple[Array, ...]:
        return make_inputs(self.inputs(), 0)


def image_model() -> Given:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = (nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(1024, 64))
        return Given(nn.Sequential(*layers), 1, 3, 8, 8)


def make(
    model: Any, out: Path, precision: str = "fp32", options: Mapping[str, str] | None = None
) -> Exported:
    return exporter().export(
        model, ExportSpec(precision=precision, options=dict(options or {})), out
    )


def error(model: Any, path: Path, exported: Exported, seed: int = 3) -> float:
    """Of the package's outputs, relative to the module's."""
    inputs = make_inputs(exported.inputs, seed)
    with torch.no_grad():
        expected = model.module()(torch.from_numpy(inputs[0].astype(np.float32))).numpy()
    actual = exporter().evaluate(path, inputs)
    assert actual is not None
    assert [a.dtype.name for a in actual] == [spec.dtype for spec in exported.outputs]
    return float(np.abs(actual[0].astype(np.float32) - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize(
    ("precision", "options", "dtype", "version", "bytes_each", "bound"),
    [
        ("fp32", {}, "float32", "8", 4, 1e-6),
        ("fp16", {}, "float16", "8", 2, 5e-3),
        ("fp16", {"io": "fp32"}, "float32", "8", 2, 5e-3),
        ("fp16", {"target": "iOS15"}, "float32", "6", 2, 5e-3),
        ("fp16", {"target": "macOS15"}, "float16", "9", 2, 5e-3),
        ("fp32", {"route": "export"}, "float32", "8", 4, 1e-6),
        ("int8-weights", {}, "float16", "8", 1, 0.1),
        ("int8-weights", {"target": "iOS18"}, "float16", "9", 1, 0.1),
    ],
)
def test_precision_types_and_counts(
    tmp_path: Path,
    precision: str,
    options: dict[str, str],
    dtype: str,
    version: str,
    bytes_each: int,
    bound: float,
) -> None:
    model, path = image_model(), tmp_path / "made.mlpackage"
    exported = make(model, path, precision, options)
    assert {spec.dtype for spec in (*exported.inputs, *exported.outputs)} == {dtype}
    assert exported.details["specification_version"] == version
    assert exported.details["route"] == options.get("route", "trace")
    counts = exported.counts
    assert counts is not None
    assert counts.operators == {"conv": 1, "linear": 1}
    assert counts.macs == 16 * 64 * 27 + 64 * 1024
    assert counts.parameters == 16 * 27 + 16 + 64 * 1024 + 64
    # Weights of fewer than 2048 elements stay as they are.
    small = 16 * 27 + 16 + 64
    assert counts.parameter_bytes == 64 * 1024 * bytes_each + small * max(bytes_each, 2)
    assert error(model, path, exported) < bound
    assert ("compressed" in exported.details) == (precision == "int8-weights")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_an_image_is_scaled_in_the_package(tmp_path: Path, precision: str) -> None:
    model, path = image_model(), tmp_path / "made.mlpackage"
    exported = make(model, path, precision, {"input": "image"})
    feature = read(path).spec.description.input[0].type
    assert feature.WhichOneof("Type") == "imageType"
    assert exported.inputs == (TensorSpec(name="image", shape=(1, 3, 8, 8), dtype="float32"),)
    assert exported.details["images"] == "image"
    assert float(exported.details["image_scale"]) == pytest.approx(1 / (255 * 0.226))
    assert error(model, path, exported) < (1e-5 if precision == "fp32" else 2e-2)
    again = exporter().adopt(path, ExportSpec(), tmp_path / "again.mlpackage")
    assert again.details["image_bias"] == exported.details["image_bias"]


@pytest.mark.parametrize(
    ("precision", "bytes_each"), [("fp32", 4), ("fp16", 2), ("int8-weights", 1)]
)
def test_a_neural_network_of_layers_is_counted(
    tmp_path: Path, precision: str, bytes_each: int
) -> None:
    model, path = image_model(), tmp_path / "made.mlpackage"
    exported = make(model, path, precision, {"type": "neuralnetwork"})
    assert exported.details["type"] == "neuralnetwork"
    assert exported.details["specification_version"] == "4"
    counts = exported.counts
    assert counts is not None
    assert counts.operators == {"conv": 1, "linear": 1}
    assert counts.macs == 16 * 64 * 27 + 64 * 1024
    assert counts.parameters == 16 * 27 + 16 + 64 * 1024 + 64
    assert counts.parameter_bytes >= bytes_each * (16 * 27 + 64 * 1024)
    assert counts.parameter_bytes < 1.3 * bytes_each * counts.parameters
    assert exporter().evaluate(path, make_inputs(exported.inputs, 0)) is None
    with pytest.raises(StageError, match="is a neuralnetwork") as caught:
        exporter().adopt(path, ExportSpec(), tmp_path / "again.mlpackage")
    assert "mlprogram" in (caught.value.hint or "")
    assert not (tmp_path / "again.mlpackage").exists()


def test_the_precision_of_a_ready_package_is_read(tmp_path: Path) -> None:
    for i, precision in enumerate(("fp32", "fp16", "int8-weights")):
        path = tmp_path / f"{i}.mlpackage"
        make(image_model(), path, precision)
        ready = exporter().adopt(path, ExportSpec(), tmp_path / f"{i}-ready.mlpackage")
        assert ready.precision == precision


def compressed(model: Any, kind: str) -> Any:
    """By one of coremltools' other ways."""
    from coremltools.optimize import coreml as cto

    match kind:
        case "4 bits":
            config = cto.OpLinearQuantizerConfig(dtype="int4", granularity="per_block")
            return cto.linear_quantize_weights(model, cto.OptimizationConfig(global_config=config))
        case "table":
            table = cto.OpPalettizerConfig(mode="uniform", nbits=4)
            return cto.palettize_weights(model, cto.OptimizationConfig(global_config=table))
        case _:
            pruned = cto.OpMagnitudePrunerConfig(target_sparsity=0.5)
            return cto.prune_weights(model, cto.OptimizationConfig(global_config=pruned))


@pytest.mark.parametrize(
    ("kind", "precision"),
    [("4 bits", "int4-weights"), ("table", "unknown"), ("zeros left out", "unknown")],
)
def test_weights_that_are_compressed_otherwise_are_not_called_int8(
    tmp_path: Path, kind: str, precision: str
) -> None:
    path, other = tmp_path / "made.mlpackage", tmp_path / "other.mlpackage"
    make(image_model(), path, "fp16", {"target": "iOS18"})
    compressed(ct.models.MLModel(str(path), skip_model_load=True), kind).save(str(other))
    ready = exporter().adopt(other, ExportSpec(), tmp_path / "ready.mlpackage")
    assert ready.precision == precision
    assert "constexpr" in ready.details["compressed"]


def test_weights_that_are_widened_are_fp16() -> None:
    from coremltools.converters.mil.mil import Builder as mb

    from latbench_exporters.coreml.exporter import _precision_of

    def body(x: Any) -> Any:
        weight = mb.constexpr_cast(source_val=np.ones((4, 3), np.float16), output_dtype="fp32")
        return mb.matmul(x=x, y=weight)

    assert _precision_of(built(body, 2, 4)) == "fp16"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"type": "pipeline"}, "type cannot be 'pipeline'"),
        ({"input": "video"}, "input cannot be"),
        ({"io": "int8"}, "io cannot be"),
        ({"route": "onnx"}, "route cannot be"),
        ({"target": "iOS99"}, "target cannot be"),
        ({"target": "iOS14"}, "requires target iOS15 or macOS12"),
        ({"type": "neuralnetwork", "target": "macOS12"}, "before iOS15"),
        ({"type": "neuralnetwork", "io": "fp16"}, "requires an mlprogram"),
        ({"target": "iOS15", "io": "fp16"}, "requires an mlprogram and target iOS16"),
    ],
)
def test_an_option_that_does_not_fit_is_refused(
    tmp_path: Path, options: dict[str, str], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        make(image_model(), tmp_path / "made.mlpackage", options=options)
    assert caught.value.hint


@pytest.mark.parametrize("target", ["iOS15", "macOS12"])
def test_integers_are_not_for_a_target_that_cannot_expand_them(tmp_path: Path, target: str) -> None:
    """coremltools would raise the target without a word."""
    with pytest.raises(
        UsageError, match=f"requires target iOS16 or macOS13 or later, not {target}"
    ):
        make(image_model(), tmp_path / "made.mlpackage", "int8-weights", {"target": target})


def test_int8_activations_are_refused_with_what_can_be_done(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        make(image_model(), tmp_path / "made.mlpackage", "int8")
    assert "int8-weights" in str(caught.value.hint)


def test_a_batch_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="2x3x32x32"):
        make(TinyModel(), tmp_path / "made.mlpackage", options={"input": "image"})


def test_every_target_has_the_version_that_coremltools_gives_it() -> None:
    from latbench_exporters.coreml.convert import TARGETS, _version

    for name in TARGETS:
        assert _version(name) == getattr(ct.target, name).value


def test_the_module_is_left_as_it_was(tmp_path: Path) -> None:
    model = image_model()
    before = {name: value.clone() for name, value in model.module().state_dict().items()}
    make(model, tmp_path / "made.mlpackage", "fp16")
    after = model.module().state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


class Unconvertible(nn.Module):
    """An operator that coremltools does not know."""

    def forward(self, x: Any) -> Any:
        return torch.special.bessel_j0(x)


def test_what_cannot_be_converted_is_named_for_each_route(tmp_path: Path) -> None:
    with pytest.raises(StageError) as caught:
        make(Given(Unconvertible(), 1, 3, 4, 4), tmp_path / "made.mlpackage")
    message = caught.value.message
    assert "trace:" in message
    assert "export:" in message
    assert "bessel_j0" in message
    assert "\n" not in message


class GraphInside(nn.Module):
    """A child called as an attribute of traced modules, which breaks coremltools' first route."""

    def __init__(self) -> None:
        super().__init__()
        self.graph = nn.Sequential(nn.Conv2d(3, 4, 1))

    def forward(self, x: Any) -> Any:
        return self.graph(x)


def test_falls_back_to_the_other_route(tmp_path: Path) -> None:
    model, path = Given(nn.Sequential(GraphInside()), 1, 3, 4, 4), tmp_path / "made.mlpackage"
    exported = make(model, path)
    assert exported.details["route"] == "export"
    assert error(model, path, exported) < 1e-6


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    make(image_model(), tmp_path / "made.mlpackage", "int8-weights")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["mlprogram", "neuralnetwork"])
def test_no_temporary_file_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Also not in a program that is killed before coremltools' own clean-up."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    out = tmp_path / "out/made.mlpackage"
    out.parent.mkdir()
    make(image_model(), out, "int8-weights", {"type": kind})
    assert tempfile.tempdir == str(place)
    assert list(place.iterdir()) == []
    assert list(out.parent.iterdir()) == [out]


def built(body: Callable[..., Any], *shape: int) -> Program:
    """A program written operator by operator."""
    from coremltools.converters.mil.mil import Builder as mb

    program = mb.program(input_specs=[mb.TensorSpec(shape=shape)], opset_version=ct.target.iOS17)(
        body
    )
    model = ct.convert(
        program,
        convert_to="mlprogram",
        minimum_deployment_target=ct.target.iOS17,
        compute_precision=ct.precision.FLOAT32,
        skip_model_load=True,
    )
    weights = None if model.weights_dir is None else Path(model.weights_dir)
    return Program(Package(spec=model.get_spec(), weights=weights), "written")


def test_every_unknown_operation_is_named() -> None:
    from coremltools.converters.mil.mil import Builder as mb

    def body(x: Any) -> Any:
        lrn = mb.local_response_norm(x=x, size=3)
        return mb.add(x=mb.l2_norm(x=lrn), y=mb.local_response_norm(x=lrn, size=5))

    program = built(body, 1, 3, 4, 4)
    with pytest.raises(StageError) as caught:
        program.execute({"x": np.zeros((1, 3, 4, 4), np.float32)})
    assert "1 l2_norm, 2 local_response_norm" in caught.value.message
    assert caught.value.kind == "unavailable"


def test_counts_products_with_constants_and_not_attention() -> None:
    from coremltools.converters.mil.mil import Builder as mb

    weight = np.arange(12, dtype=np.float32).reshape(4, 3)

    def body(x: Any) -> Any:
        product = mb.matmul(x=x, y=weight)
        attention = mb.matmul(x=product, y=product, transpose_y=True)
        return mb.matmul(x=attention, y=product)

    program = built(body, 2, 5, 4)
    counts = program.counts()
    assert counts is not None
    assert counts.operators == {"conv": 0, "linear": 1}
    assert counts.macs == 2 * 5 * 3 * 4
    assert counts.parameters == 12
    x = np.random.default_rng(0).standard_normal((2, 5, 4)).astype(np.float32)
    product = x @ weight
    expected = product @ product.transpose(0, 2, 1) @ product
    np.testing.assert_allclose(next(iter(program.execute({"x": x}).values())), expected, rtol=1e-4)


def test_half_precision_is_rounded_operator_by_operator(tmp_path: Path) -> None:
    """2048 + 1 is 2048 in fp16; a kernel that kept fp32 between operators would give 1."""

    class Rounding(nn.Module):
        def forward(self, x: Any) -> Any:
            return (x * 0 + 2048 + torch.ones_like(x)) - 2048 + x * 0

    model, path = Given(Rounding(), 1, 1, 2, 2), tmp_path / "made.mlpackage"
    exported = make(model, path, "fp16")
    outputs = exporter().evaluate(path, make_inputs(exported.inputs, 0))
    assert outputs is not None
    assert float(np.abs(outputs[0]).max()) in (0.0, 1.0)


class TwoHeads(nn.Module):
    """Outputs of different shapes, in an order that names do not give."""

    def __init__(self) -> None:
        super().__init__()
        self.z, self.a = nn.Linear(8, 3), nn.Linear(8, 5)

    def forward(self, x: Any) -> Any:
        return self.z(x), self.a(x)


@pytest.mark.parametrize("route", ["trace", "export"])
def test_several_outputs_keep_their_order(tmp_path: Path, route: str) -> None:
    model, path = Given(TwoHeads(), 1, 8), tmp_path / "made.mlpackage"
    exported = make(model, path, options={"route": route})
    assert [spec.shape for spec in exported.outputs] == [(1, 3), (1, 5)]
    inputs = make_inputs(exported.inputs, 0)
    outputs = exporter().evaluate(path, inputs)
    assert outputs is not None
    with torch.no_grad():
        expected = model.module()(torch.from_numpy(inputs[0]))
    for actual, wanted in zip(outputs, expected, strict=True):
        np.testing.assert_allclose(actual, wanted.numpy(), atol=1e-6)


def test_a_bare_specification_becomes_a_package(tmp_path: Path) -> None:
    path, bare = tmp_path / "made.mlpackage", tmp_path / "bare.mlmodel"
    # So few weights that the specification holds them itself.
    make(Given(nn.Conv2d(3, 2, 1, bias=False), 1, 3, 8, 8), path)
    bare.write_bytes(read(path).spec.SerializeToString())
    out = tmp_path / "out.mlpackage"
    exporter().adopt(bare, ExportSpec(), out)
    assert read(out).spec == read(path).spec
    make(image_model(), tmp_path / "program.mlpackage")
    bare.write_bytes(read(tmp_path / "program.mlpackage").spec.SerializeToString())
    with pytest.raises(StageError, match=r"weight\.bin is missing"):
        exporter().adopt(bare, ExportSpec(), tmp_path / "other.mlpackage")


def test_without_coremltools_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        import_module("latbench_exporters.coreml.exporter"), "find_spec", lambda name: None
    )
    path = tmp_path / "made.mlpackage"
    for act in (
        lambda: make(image_model(), path),
        lambda: exporter().adopt(path, ExportSpec(), path),
        lambda: exporter().evaluate(path, ()),
    ):
        with pytest.raises(StageError, match="coremltools, which is not installed") as caught:
            act()
        assert caught.value.kind == "unavailable"
        assert "latbench[coreml]" in str(caught.value.hint)
