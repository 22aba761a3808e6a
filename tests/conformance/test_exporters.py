"""What every installed exporter must do, first-party or not."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from latbench import export
from latbench.api import ExportSpec, InspectingExporter, SentinelExporter, StageError, make_inputs
from latbench.files import content_sha256
from latbench.plugins import format_names, load_exporter, load_runner, runner_names
from latbench.schema.precision import PRECISIONS
from support.environment import TINY, child_environment, python_path
from support.models import TinyModel

if TYPE_CHECKING:
    from support.artifacts import ExportedFile

HEAVY = {
    *(
        "torch",
        "onnx",
        "onnxruntime",
        "timm",
        "coremltools",
        "tensorrt",
        "tensorrt_rtx",
        "openvino",
    ),
    *("executorch", "ncnn", "pnnx", "torchao", "ai_edge_litert", "litert_torch", "jax", "numpy"),
}
FORMATS = format_names()
MACS = 2 * (8 * 16 * 16 * 27 + 8 * 10)
PARAMETERS = 8 * 27 + 8 + 8 * 10 + 10


@pytest.mark.parametrize("format", FORMATS)
def test_is_called_as_it_is_registered(format: str) -> None:
    exporter = load_exporter(format)
    assert exporter.format == format
    assert all(suffix.startswith(".") for suffix in (exporter.suffix, *exporter.reads))
    assert "fp32" in exporter.precisions
    assert set(exporter.precisions) <= set(PRECISIONS)
    assert all(exporter.options.values())


@pytest.mark.parametrize("format", FORMATS)
def test_its_options_are_not_its_runners(format: str) -> None:
    """One ``--option`` speaks to both."""
    for name in runner_names():
        runner = load_runner(name)
        if format in runner.formats:
            assert not set(load_exporter(format).options) & set(runner.options)


@pytest.mark.parametrize("format", FORMATS)
def test_naming_the_toolchain_loads_nothing_heavy(format: str) -> None:
    (entry,) = entry_points(group="latbench.exporters", name=format)
    code = (
        "import sys; from importlib.metadata import EntryPoint;"
        f"exporter = EntryPoint({entry.name!r}, {entry.value!r}, {entry.group!r}).load()();"
        "print(dict(exporter.toolchain()), exporter.precisions);"
        f"sys.exit(', '.join(sorted(set(sys.modules) & {HEAVY!r})) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.torch
@pytest.mark.parametrize("format", FORMATS)
def test_writes_one_file_and_nothing_beside_it(format: str, made: dict[str, ExportedFile]) -> None:
    assert list(made[format].path.parent.iterdir()) == [made[format].path]


@pytest.mark.torch
@pytest.mark.parametrize("format", FORMATS)
def test_the_file_does_the_work_of_the_model(format: str, made: dict[str, ExportedFile]) -> None:
    exported = made[format].exported
    if not exported.from_module:
        pytest.skip("this exporter does not build the model")
    assert exported.counts is not None
    assert exported.counts.macs == MACS
    assert exported.counts.parameters == PARAMETERS
    assert exported.counts.parameter_bytes == 4 * PARAMETERS
    assert exported.counts.operators == {"conv": 1, "linear": 1}


@pytest.mark.torch
@pytest.mark.parametrize("format", FORMATS)
def test_shapes_are_concrete_and_true(format: str, made: dict[str, ExportedFile]) -> None:
    exporter, file = load_exporter(format), made[format]
    assert all(dim > 0 for tensor in file.exported.inputs for dim in tensor.shape)
    inputs = make_inputs(file.exported.inputs, 0)
    outputs = exporter.evaluate(file.path, inputs)
    if outputs is None:
        pytest.skip(f"nothing here can execute {format}")
    assert [a.shape for a in outputs] == [tensor.shape for tensor in file.exported.outputs]
    assert [a.dtype.name for a in outputs] == [tensor.dtype for tensor in file.exported.outputs]


@pytest.mark.torch
@pytest.mark.parametrize("format", FORMATS)
def test_computes_what_the_model_computes(format: str, made: dict[str, ExportedFile]) -> None:
    import torch

    file = made[format]
    if not file.exported.from_module:
        pytest.skip("this exporter does not build the model")
    for seed in range(3):
        inputs = make_inputs(file.exported.inputs, seed)
        with torch.no_grad():
            expected = TinyModel().module()(torch.from_numpy(inputs[0])).numpy()
        evaluated = load_exporter(format).evaluate(file.path, inputs)
        if evaluated is None:
            pytest.skip(f"nothing here can execute {format}")
        (actual,) = evaluated
        np.testing.assert_allclose(actual, expected, atol=1e-5)


@pytest.mark.torch
@pytest.mark.parametrize("format", FORMATS)
def test_the_same_model_gives_the_same_bytes(
    format: str, made: dict[str, ExportedFile], tmp_path: Path
) -> None:
    exporter, before = load_exporter(format), made[format].path
    if format == "tensorrt":
        pytest.skip("its builder times kernels and picks by what it saw")
    again = tmp_path / f"again{exporter.suffix}"
    exporter.export(TinyModel(), ExportSpec(batch=2, resolution=(32, 32)), again)
    assert content_sha256(again) == content_sha256(before)
    for part in [again, *again.rglob("*")]:
        assert part.is_dir() or str(tmp_path.parent).encode() not in part.read_bytes()


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_no_model_cannot_be_adopted(format: str, tmp_path: Path) -> None:
    exporter = load_exporter(format)
    for content in (b"", b"\x00" * 100, b"not a model", bytes(range(256)) * 40):
        path = tmp_path / f"bad{exporter.suffix}"
        path.write_bytes(content)
        with pytest.raises(StageError) as caught:
            exporter.adopt(path, ExportSpec(), tmp_path / f"out{exporter.suffix}")
        assert caught.value.message


@pytest.mark.parametrize("format", FORMATS)
def test_a_sentinel_is_the_same_bytes_each_time(format: str, tmp_path: Path) -> None:
    exporter = load_exporter(format)
    if not isinstance(exporter, SentinelExporter):
        pytest.skip(f"the {format} exporter offers no sentinel")
    name, version = exporter.sentinel.split("@")
    assert name
    assert version.isdecimal()
    written = []
    for i in range(2):
        path = tmp_path / f"{i}{exporter.suffix}"
        exported = exporter.export_sentinel(path)
        written.append(path.read_bytes())
        outputs = exporter.evaluate(path, make_inputs(exported.inputs, 0))
        assert outputs is not None
        assert [array.shape for array in outputs] == [spec.shape for spec in exported.outputs]
        assert all(np.isfinite(array).all() and array.std() > 0 for array in outputs)
    assert written[0] == written[1]


def values_of(meaning: str) -> list[str]:
    """Values of an option that is documented as ``this, that: what it does``."""
    names, colon, _ = meaning.partition(":")
    words = names.split(", ")
    plain = colon and len(words) > 1 and all(re.fullmatch(r"\w[\w.-]*", word) for word in words)
    return words if plain else []


CASES = [
    (format, option, value)
    for format in FORMATS
    for option, meaning in load_exporter(format).options.items()
    for value in values_of(meaning)
]


NEEDS = {("coreml", "io", "fp16"): "fp16"}
"""Values that require another precision than fp32."""


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.parametrize(("format", "option", "value"), CASES)
def test_each_value_that_is_named_works(
    format: str, option: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole export, with counts and parity, as a user calls it."""
    monkeypatch.setenv("PYTHONPATH", python_path())
    pytest.importorskip("torch", reason="exporting needs the `export` extra")
    precision = NEEDS.get((format, option, value), "fp32")
    try:
        cached = export(TINY, format=format, precision=precision, options={option: value})
    except StageError as error:
        if error.kind != "unavailable":
            raise
        pytest.skip(f"{format} cannot be exported here: {error.message}")
    assert cached.artifact.inputs[0].shape == (1, 3, 32, 32)
    assert cached.path.exists()


HIDDEN = {
    "coreml": ("coremltools",),
    "executorch": ("executorch",),
    "ncnn": ("pnnx", "ncnn"),
    "tensorrt-rtx": ("tensorrt_rtx", "tensorrt-rtx"),
    "tflite": ("litert_torch", "litert-torch"),
}
"""Format -> what its extra installs, as a module and as a distribution."""


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.parametrize("format", sorted(set(HIDDEN) & set(FORMATS)))
def test_an_extra_that_is_missing_is_named(format: str, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="exporting needs the `export` extra")
    suffix = load_exporter(format).suffix
    code = f"""
import importlib.metadata as metadata, sys
hidden = {HIDDEN[format]!r}
real = metadata.version
def version(name):
    if name in hidden:
        raise metadata.PackageNotFoundError(name)
    return real(name)
metadata.version = version
for name in hidden:
    sys.modules[name] = None
from pathlib import Path
from latbench import export
from latbench.api import ExportSpec, StageError
from latbench.plugins import load_exporter
from support.models import TinyModel
try:
    load_exporter({format!r}).export(TinyModel(), ExportSpec(), Path({str(tmp_path / "x")!r} + {suffix!r}))
except StageError as error:
    print(error.kind, error.message, error.hint, sep="|")
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=child_environment(),
    )
    kind, message, hint = done.stdout.strip().split("|")
    assert kind == "unavailable", done.stderr
    assert "not installed" in message
    assert "pip install 'latbench[" in hint


@pytest.mark.torch
@pytest.mark.parametrize("format", FORMATS)
def test_what_it_says_about_a_file_is_what_it_exported(
    format: str, made: dict[str, ExportedFile]
) -> None:
    exporter, file = load_exporter(format), made[format]
    if not isinstance(exporter, InspectingExporter):
        pytest.skip("this exporter does not describe files")
    content = exporter.inspect(file.path)
    sizes = [(tensor.shape, tensor.dtype) for tensor in file.exported.inputs]
    assert [(tensor.shape, tensor.dtype) for tensor in content.inputs] == sizes
    assert len(content.outputs) == len(file.exported.outputs)
    assert content.parameters == PARAMETERS
    assert content.macs in (MACS, None)
    assert sum(content.operators.values()) > 1 or content.details.get("delegates")


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("content", [b"", b"\xff" * 200])
def test_a_damaged_file_is_refused_with_a_hint(format: str, content: bytes, tmp_path: Path) -> None:
    exporter = load_exporter(format)
    if not isinstance(exporter, InspectingExporter):
        pytest.skip("this exporter does not describe files")
    path = tmp_path / f"damaged{exporter.suffix}"
    path.write_bytes(content)
    with pytest.raises(StageError) as caught:
        exporter.inspect(path)
    assert caught.value.hint
