"""TFLite files: reading them without a runtime, damage of all kinds, operators that nobody has, and
the runner's own options."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latbench.api import (
    Exported,
    ExportSpec,
    Placement,
    RunOptions,
    StageError,
    TensorSpec,
    UsageError,
    make_inputs,
)
from latbench_exporters.tflite.exporter import exporter
from latbench_exporters.tflite.file import (
    Graph,
    Operator,
    Tensor,
    computed_twice,
    count,
    describe,
    pixels,
    precision_of,
    read,
    uncounted,
)
from latbench_runners.tflite.runner import _runs, runner
from support.models import TinyModel
from support.records import make_artifact

pytestmark = pytest.mark.torch


def test_it_reads_what_the_runtime_reads(tiny: tuple[Path, Exported]) -> None:
    interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter(str(tiny[0]))
    graph = read(tiny[0])
    inputs, outputs = describe(graph)
    for specs, details in (
        (inputs, interpreter.get_input_details()),
        (outputs, interpreter.get_output_details()),
    ):
        assert [(s.name, s.shape, np.dtype(s.dtype)) for s in specs] == [
            (d["name"], tuple(d["shape"]), d["dtype"]) for d in details
        ]
    assert len(graph.operators) == len(interpreter._get_ops_details())
    assert precision_of(graph) == "fp32"


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_lower_precisions_keep_the_work(
    tiny: tuple[Path, Exported], tmp_path: Path, precision: str
) -> None:
    whole = tiny[1].counts
    assert whole is not None
    calibration = tuple(make_inputs(TinyModel().inputs(), seed) for seed in range(4))
    path = tmp_path / "low.tflite"
    spec = ExportSpec(precision=precision, calibration=calibration)
    counts = exporter().export(TinyModel(), spec, path).counts
    assert counts is not None
    assert (counts.macs, counts.operators) == (whole.macs, whole.operators)
    assert counts.parameter_bytes < 0.8 * whole.parameter_bytes
    assert precision_of(read(path)) == precision
    inputs = make_inputs(TinyModel().inputs(), 7)
    (exact,), (low,) = (
        exporter().evaluate(tiny[0], inputs) or (),
        exporter().evaluate(path, inputs) or (),
    )
    assert low.dtype == np.float32
    assert 0 < np.abs(exact - low).max() < 0.1 * np.abs(exact).max()


def test_int8_without_calibration_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="requires calibration inputs"):
        exporter().export(TinyModel(), ExportSpec(precision="int8"), tmp_path / "x.tflite")


def test_operands_that_are_missing_are_told(
    edited: Callable[[Callable[[Any], None]], Path],
) -> None:
    """Counting reaches for weights: an operator without any must not get as far."""

    def lacking(model: Any) -> None:
        for operator in model.subgraphs[0].operators:
            operator.inputs = operator.inputs[:1]

    def flat(model: Any) -> None:
        for tensor in model.subgraphs[0].tensors:
            tensor.shape = tensor.shape[:1]

    def silent(model: Any) -> None:
        for operator in model.subgraphs[0].operators:
            operator.outputs = operator.outputs[:0]

    for change in (lacking, flat, silent):
        assert "not a valid TFLite file: operator" in refused(edited(change))


def refused(path: Path) -> str:
    """Why the file is refused; empty where it is read and counted."""
    try:
        graph = read(path)
        count(graph)
        describe(graph)
    except StageError as error:
        return error.message
    return ""


def test_cut_off_anywhere_it_is_told(tiny: tuple[Path, Exported], tmp_path: Path) -> None:
    content, path = tiny[0].read_bytes(), tmp_path / "cut.tflite"
    for length in [*range(0, len(content), 97), len(content) - 1]:
        path.write_bytes(content[:length])
        told = refused(path)
        # What is cut off at the very end is padding.
        assert "not a valid TFLite file" in told or (not told and length > len(content) - 64)


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_any_damage_is_told_or_harmless(
    tiny: tuple[Path, Exported], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(tiny[0].read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(8, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.tflite"
    path.write_bytes(content)
    refused(path)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("FlexErf", r"TensorFlow \(flex\) operators: FlexErf"),
        ("MyOp", "custom operators .*: MyOp"),
    ],
)
def test_operators_that_nobody_has(
    edited: Callable[[Callable[[Any], None]], Path], name: str, words: str, tmp_path: Path
) -> None:
    def change(model: Any) -> None:
        code = model.operatorCodes[0]
        code.builtinCode = code.deprecatedBuiltinCode = 32
        code.customCode = name

    with pytest.raises(StageError, match=words):
        exporter().adopt(edited(change), ExportSpec(), tmp_path / "out.tflite")


def test_sizes_that_are_missing_or_other(
    edited: Callable[[Callable[[Any], None]], Path], tiny: tuple[Path, Exported], tmp_path: Path
) -> None:
    def missing(model: Any) -> None:
        graph = model.subgraphs[0]
        graph.tensors[graph.inputs[0]].shape = np.array([-1, 3, 32, 32], dtype=np.int32)

    out = tmp_path / "out.tflite"
    with pytest.raises(UsageError, match="no size given for the open axes") as caught:
        exporter().adopt(edited(missing), ExportSpec(), out)
    assert "=?x3x32x32" in (caught.value.hint or "")
    assert exporter().adopt(edited(missing), ExportSpec(batch=4), out).outputs[0].shape == (4, 10)
    with pytest.raises(
        UsageError, match=r"axis 0 of input .* is fixed at 2 in the file; requested 3"
    ):
        exporter().adopt(tiny[0], ExportSpec(batch=3), out)
    with pytest.raises(UsageError, match=r"axis 3 of input .* is fixed at 32"):
        exporter().adopt(tiny[0], ExportSpec(resolution=(32, 48)), out)
    exporter().adopt(tiny[0], ExportSpec(batch=2, resolution=(32, 32)), out)
    assert out.read_bytes() == tiny[0].read_bytes()


def test_an_open_axis_is_taken_at_its_stored_size(
    edited: Callable[[Callable[[Any], None]], Path], tmp_path: Path
) -> None:
    """As Keras' files have their batch."""

    def opened(model: Any) -> None:
        graph = model.subgraphs[0]
        graph.tensors[graph.inputs[0]].shapeSignature = np.array([-1, 3, 32, 32], dtype=np.int32)

    path, out = edited(opened), tmp_path / "out.tflite"
    for batch in (None, 2):
        exported = exporter().adopt(path, ExportSpec(batch=batch), out)
        assert exported.inputs[0].shape == (2, 3, 32, 32)
    outputs = exporter().evaluate(out, make_inputs(exported.inputs, 0))
    assert outputs is not None
    assert outputs[0].shape == (2, 10)
    assert exporter().adopt(path, ExportSpec(batch=1), out).outputs[0].shape == (1, 10)


def test_sizes_that_no_input_has_are_refused(
    tiny: tuple[Path, Exported], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for shape, spec, what in (
        ((2, 8), ExportSpec(resolution=(8, 8)), "resolution"),
        ((), ExportSpec(batch=1), "batch"),
    ):
        inputs = (TensorSpec(name="x", shape=shape, dtype="float32"),)
        monkeypatch.setattr(
            import_module("latbench_exporters.tflite.adopt"),
            "describe",
            lambda graph, inputs=inputs: (inputs, ()),
        )
        with pytest.raises(UsageError, match=f"no input of the file has a {what}"):
            exporter().adopt(tiny[0], spec, tmp_path / "out.tflite")


def test_pixels_are_where_the_channels_are_not() -> None:
    for shape, axes in (((1, 224, 192, 3), (1, 2)), ((1, 3, 224, 192), (2, 3))):
        assert pixels(TensorSpec(name="x", shape=shape, dtype="float32")) == axes


def test_a_ready_file_needs_a_runtime(
    tiny: tuple[Path, Exported], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ai_edge_litert", "tflite_runtime"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(StageError, match="requires a TFLite runtime") as caught:
        exporter().adopt(tiny[0], ExportSpec(), tmp_path / "out.tflite")
    assert caught.value.kind == "unavailable"
    assert "latbench[tflite]" in (caught.value.hint or "")


def test_the_resize_that_the_converter_gets_wrong(tmp_path: Path) -> None:
    """3 to 7 pixels, to the nearest: exact only by picking rows and columns."""
    import torch
    from torch import nn

    class Enlarging(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            small = nn.functional.avg_pool2d(self.conv(x), 10)
            return nn.functional.interpolate(small, size=(7, 8), mode="nearest")

    model = copy.copy(TinyModel())
    model._module = Enlarging().eval()  # type: ignore[assignment]
    path = tmp_path / "enlarging.tflite"
    exported = exporter().export(model, ExportSpec(), path)
    assert exported.details["rewrites"] == "nearest_by_index"
    inputs = make_inputs(model.inputs(), 0)
    with torch.no_grad():
        expected = model.module()(torch.from_numpy(inputs[0])).numpy()
    (actual,) = exporter().evaluate(path, inputs) or ()
    np.testing.assert_allclose(actual, expected, atol=1e-6)


@pytest.mark.parametrize("padding", [1, (1, 0)])
def test_averages_that_the_converter_leaves_as_a_subgraph(tmp_path: Path, padding: Any) -> None:
    """Strided, the padding left out: over a zero edge, times how many pixels count."""
    import torch
    from torch import nn

    class Averaging(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x)
            pool = nn.functional.avg_pool2d
            strided = pool(y, 3, 2, padding, count_include_pad=False)
            plain = pool(y, 3, 1, 1, count_include_pad=False)
            return strided.mean((2, 3)) + plain.mean((2, 3)) + pool(y, 3, 2, 1).mean((2, 3))

    model = copy.copy(TinyModel())
    model._module = Averaging().eval()  # type: ignore[assignment]
    path = tmp_path / "averaging.tflite"
    exported = exporter().export(model, ExportSpec(), path)
    assert exported.details["rewrites"] == "averages_without_edge"
    assert exported.counts is not None
    inputs = make_inputs(model.inputs(), 0)
    with torch.no_grad():
        expected = model.module()(torch.from_numpy(inputs[0])).numpy()
    (actual,) = exporter().evaluate(path, inputs) or ()
    np.testing.assert_allclose(actual, expected, atol=1e-6)


def graph_of(
    code: int, given: tuple[int, ...], weight: tuple[int, ...], taken: tuple[int, ...], **more: Any
) -> Graph:
    """One operator with constant weights, or none where ``weight`` is empty."""
    kind = {"dtype": "float32", "quantized": False, **more}
    tensors = tuple(
        Tensor(
            name=str(i),
            shape=shape,
            constant=i == 1,
            **(kind if i == 1 else {"dtype": "float32", "quantized": False}),
        )
        for i, shape in enumerate((given, weight, taken))
    )
    operator = Operator(code=code, custom=None, inputs=(0, 1), outputs=(2,))
    return Graph(tensors=tensors, operators=(operator,), inputs=(0,), outputs=(2,), subgraphs=1)


def test_products_are_counted_by_their_weights() -> None:
    """The runtime flattens the axes of the input that the weights take together."""
    for image in ((2, 7, 7, 3), (2, 147)):
        counts = count(graph_of(9, image, (10, 147), (2, 10)))
        assert counts is not None
        assert counts.macs == 2 * 10 * 147
    for left in ((5, 4, 6), (5, 6, 4)):  # the second one transposed
        counts = count(graph_of(126, left, (5, 6, 3), (5, 4, 3)))
        assert counts is not None
        assert counts.macs == 5 * 4 * 3 * 6


@pytest.mark.parametrize("code", [16, 24, 44, 132, 141])
def test_work_in_another_operator_is_not_guessed(code: int) -> None:
    graph = graph_of(code, (1, 4), (4, 4), (1, 4))
    assert count(graph) is None
    assert uncounted(graph)["uncounted"].isupper()


def test_custom_operators_of_the_stock_runtime_are_accepted(
    edited: Callable[[Callable[[Any], None]], Path], tmp_path: Path
) -> None:
    """One that multiplies is named where the counts would be."""

    def change(model: Any) -> None:
        code = model.operatorCodes[0]
        code.builtinCode = code.deprecatedBuiltinCode = 32
        code.customCode = "Convolution2DTransposeBias"

    adopted = exporter().adopt(edited(change), ExportSpec(), tmp_path / "out.tflite")
    assert adopted.counts is None
    assert adopted.details["uncounted"] == "Convolution2DTransposeBias"


def test_variables_that_are_set_once_leave_the_rest_counted() -> None:
    """CALL_ONCE fills the variables of a streaming network when the file is loaded."""
    product = graph_of(9, (1, 4), (3, 4), (1, 3))
    once = Operator(code=129, custom=None, inputs=(), outputs=())
    counts = count(replace(product, operators=(once, *product.operators)))
    assert counts is not None
    assert counts.macs == 12


@pytest.mark.parametrize(
    ("dtype", "quantized", "name", "size"),
    [
        ("float16", False, "fp16", 20),
        ("bfloat16", False, "bf16", 20),
        ("int8", True, "int8-weights", 10),
        ("uint8", True, "int8-weights", 10),
        ("int4", True, "unknown", 5),
        ("int16", True, "unknown", 20),
    ],
)
def test_precision_follows_the_weights(dtype: str, quantized: bool, name: str, size: int) -> None:
    graph = graph_of(9, (1, 5), (2, 5), (1, 2), dtype=dtype, quantized=quantized)
    assert precision_of(graph) == name
    counts = count(graph)
    assert counts is not None
    assert counts.parameter_bytes == size


def test_a_layer_that_the_model_uses_twice_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rewritten file has it twice too, so there is nothing to gain by it."""
    pytest.importorskip("litert_torch", reason="converting needs the `tflite-export` extra")
    import torch
    from torch import nn

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            pixels = x.permute(0, 2, 3, 1)
            return self.mix(torch.relu(self.mix(pixels)))

    model = copy.copy(TinyModel())
    model._module = Twice().eval()  # type: ignore[assignment]
    path = tmp_path / "twice.tflite"
    exported = exporter().export(model, ExportSpec(), path)
    assert computed_twice(read(path)) == 1
    assert "rewrites" not in exported.details
    assert list(tmp_path.iterdir()) == [path]


def open_with(tiny: tuple[Path, Exported], **extra: str) -> Any:
    path, exported = tiny
    artifact = make_artifact(path, exported, "tflite")
    inputs = make_inputs(exported.inputs, 0)
    return runner().open(artifact, path, inputs, RunOptions(threads=1, extra=extra))


def test_delegation_is_read_from_the_graph(tiny: tuple[Path, Exported]) -> None:
    operators = len(read(tiny[0]).operators)
    with open_with(tiny) as session:
        placement = session.placement()
        assert placement.known == "proven"
        assert sum(placement.units.values()) == operators
        assert placement.partitions is not None
        assert placement.partitions >= 1
    with open_with(tiny, xnnpack="off") as session:
        assert session.placement().units == {"TFLite kernels": operators}
        assert session.placement().partitions == 1
        assert session.profile(3) is None, "its profiler knows XNNPACK alone"


def node(name: str, given: list[int], taken: list[int]) -> dict[str, Any]:
    return {"op_name": name, "inputs": given, "outputs": taken}


CHAIN = [node(f"OP_{i}", [i], [i + 1]) for i in range(5)]


def fake_runtime(delegated: list[dict[str, Any]], later: list[dict[str, Any]]) -> Any:
    """A runtime of a chain of five operators: the user's delegate takes its pieces at once, XNNPACK
    when memory is planned."""

    class Interpreter:
        def __init__(
            self,
            model_path: str,
            num_threads: int = 1,
            experimental_delegates: Any = None,
            experimental_op_resolver_type: int = 0,
        ) -> None:
            self._nodes = CHAIN + (delegated if experimental_delegates else [])
            self._plain = experimental_op_resolver_type == 3

        def allocate_tensors(self) -> None:
            self._nodes = self._nodes + ([] if self._plain else later)

        def _get_ops_details(self) -> list[dict[str, Any]]:
            return self._nodes

        def get_input_details(self) -> list[Any]:
            return []

        get_output_details = get_input_details

    kinds = SimpleNamespace(AUTO=0, BUILTIN_WITHOUT_DEFAULT_DELEGATES=3)
    return SimpleNamespace(
        Interpreter=Interpreter, OpResolverType=kinds, load_delegate=lambda *_: "delegate"
    )


def placed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, runtime: Any, **extra: str
) -> Placement:
    monkeypatch.setattr(
        import_module("latbench_runners.tflite.runner"), "version", lambda name: "2.3.0"
    )
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", runtime)
    exported = Exported(inputs=(), outputs=(), counts=None, details={})
    path = tmp_path / "none.tflite"
    path.write_bytes(b"")
    artifact = make_artifact(path, exported, "tflite")
    with runner().open(artifact, path, [], RunOptions(threads=1, extra=extra)) as session:
        return session.placement()


def test_a_delegates_pieces_are_told_from_xnnpacks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of five operators in a row the delegate has 1 and 2, XNNPACK 4."""
    runtime = fake_runtime([node("DELEGATE", [1], [3])], [node("DELEGATE", [4], [5])])
    placement = placed(monkeypatch, tmp_path, runtime, delegate="npu.so")
    assert placement.units == {"npu.so": 2, "XNNPACK": 1, "TFLite kernels": 2}
    assert placement.partitions == 4
    placement = placed(monkeypatch, tmp_path, runtime, delegate="npu.so", xnnpack="off")
    assert placement.units == {"npu.so": 2, "TFLite kernels": 3}
    assert placement.partitions == 3


def test_kernels_between_pieces_are_runs_of_their_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    around = [node("DELEGATE", [0], [2]), node("DELEGATE", [3], [5])]
    placement = placed(monkeypatch, tmp_path, fake_runtime([], around))
    assert placement.units == {"XNNPACK": 4, "TFLite kernels": 1}
    assert placement.partitions == 3
    placement = placed(monkeypatch, tmp_path, fake_runtime([], [node("DELEGATE", [0], [5])]))
    assert (placement.units, placement.partitions) == ({"XNNPACK": 5}, 1)


def test_branches_do_not_cut_what_can_go_on() -> None:
    """Two pieces beside each other, then a kernel: two runs, in whatever order they are listed."""
    steps = [
        ("kernels", node("ADD", [1, 2], [3])),
        ("XNNPACK", node("DELEGATE", [0], [1])),
        ("XNNPACK", node("DELEGATE", [0], [2])),
    ]
    assert _runs(steps) == 2


def test_weights_in_16_bits_are_computed_in_32(tiny: tuple[Path, Exported], tmp_path: Path) -> None:
    path, exported = tiny
    artifact = msgspec.structs.replace(make_artifact(path, exported, "tflite"), precision="fp16")
    inputs = make_inputs(exported.inputs, 0)
    permits = tmp_path / "permits.tflite"
    permits.write_bytes(path.read_bytes() + b"reduced_precision_support")
    for machine, file, extra, told in (
        ("x86_64", path, {}, "fp32"),
        ("aarch64", path, {}, "fp32"),
        ("aarch64", permits, {}, None),
        ("aarch64", permits, {"xnnpack": "off"}, "fp32"),
    ):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("platform.machine", lambda machine=machine: machine)
            options = RunOptions(threads=1, extra=extra)
            with runner().open(artifact, file, inputs, options) as session:
                assert session.settings().get("precision") == told
                assert session.settings()["runtime_version"]
    with open_with(tiny) as session:
        assert "precision" not in session.settings()


def test_a_runtime_that_is_not_installed_is_unavailable(tiny: tuple[Path, Exported]) -> None:
    with pytest.raises(StageError, match="tflite-runtime") as caught:
        open_with(tiny, runtime="tflite-runtime").__enter__()
    assert (caught.value.stage, caught.value.kind) == ("open", "unavailable")
    assert "pip install" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"xnnpack": "maybe"}, "xnnpack cannot be 'maybe'"),
        ({"runtime": "tensorflow"}, "runtime cannot be 'tensorflow'"),
        ({"delegate_options": "a=b"}, "delegate_options requires a delegate"),
        ({"delegate": "/none.so", "delegate_options": "a"}, "must be KEY=VALUE"),
    ],
)
def test_wrong_options(tiny: tuple[Path, Exported], extra: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words), open_with(tiny, **extra):
        pass


def test_a_delegate_that_is_not_there(tiny: tuple[Path, Exported]) -> None:
    with pytest.raises(StageError, match=r"the delegate /none.so cannot be loaded") as caught:
        open_with(tiny, delegate="/none.so").__enter__()
    assert caught.value.kind == "unavailable"


def test_an_error_without_a_word_is_still_a_failure(
    tiny: tuple[Path, Exported], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Silent:
        def __init__(self, *arguments: object, **named: object) -> None:
            raise RuntimeError

    module = SimpleNamespace(
        OpResolverType=SimpleNamespace(AUTO=0, BUILTIN_WITHOUT_DEFAULT_DELEGATES=1),
        Interpreter=Silent,
    )
    monkeypatch.setattr(
        import_module("latbench_runners.tflite.runner"), "_imported", lambda runtime: module
    )
    with pytest.raises(StageError, match="cannot load the file: RuntimeError"):
        open_with(tiny).__enter__()


def test_the_profile_accounts_for_the_inference(tiny: tuple[Path, Exported]) -> None:
    with open_with(tiny) as session:
        session.run()
        profile = session.profile(10)
    assert profile is not None
    assert "LiteRT" in profile.source
    assert any("Convolution" in operator.kind for operator in profile.operators)
    layers = [each.name for each in profile.operators if "Convolution" in each.kind]
    assert all("Conv2d" in name for name in layers), layers
    assert len(set(layers)) == len(layers)


def test_another_version_is_not_profiled(
    tiny: tuple[Path, Exported], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The C interface is not versioned: a guess would read wrong memory."""
    monkeypatch.setattr("latbench_runners.tflite.profile.KNOWN_VERSION", "9.9.")
    with open_with(tiny) as session:
        session.run()
        assert session.profile(3) is None


def test_without_a_runtime_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import PackageNotFoundError, version

    def missing(name: str) -> str:
        if name in ("ai-edge-litert", "tflite-runtime"):
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(import_module("latbench_runners.tflite.runner"), "version", missing)
    capability = runner().probe()
    assert not capability.available
    assert capability.reason == "ai-edge-litert is not installed; tflite-runtime is not installed"
    assert capability.hint == "pip install 'latbench[tflite]'"
    known = {"tflite-runtime": "2.14.0", "numpy": "2.3.5"}
    monkeypatch.setattr(
        import_module("latbench_runners.tflite.runner"),
        "version",
        lambda name: known.get(name) or missing(name),
    )
    assert "requires numpy < 2; installed is 2.3.5" in (runner().probe().reason or "")
