"""What every installed exporter must do, first-party or not."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from latbench.api import ExportSpec, SentinelExporter, StageError, make_inputs
from latbench.plugins import format_names, load_exporter
from tiny import TinyModel

if TYPE_CHECKING:
    from made import Made

HEAVY = {"torch", "onnx", "onnxruntime", "timm", "coremltools", "tensorrt", "openvino", "numpy"}
FORMATS = format_names()
MACS = 2 * (8 * 16 * 16 * 27 + 8 * 10)
PARAMETERS = 8 * 27 + 8 + 8 * 10 + 10


@pytest.mark.parametrize("format", FORMATS)
def test_is_called_as_it_is_registered(format: str) -> None:
    exporter = load_exporter(format)
    assert exporter.format == format
    assert exporter.suffix.startswith(".")
    assert "fp32" in exporter.precisions


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
def test_writes_one_file_and_nothing_beside_it(format: str, made: dict[str, Made]) -> None:
    assert list(made[format].path.parent.iterdir()) == [made[format].path]


@pytest.mark.torch
@pytest.mark.parametrize("format", FORMATS)
def test_the_file_does_the_work_of_the_model(format: str, made: dict[str, Made]) -> None:
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
def test_shapes_are_concrete_and_true(format: str, made: dict[str, Made]) -> None:
    exporter, file = load_exporter(format), made[format]
    assert all(dim > 0 for tensor in file.exported.inputs for dim in tensor.shape)
    inputs = make_inputs(file.exported.inputs, 0)
    outputs = exporter.evaluate(file.path, inputs)
    assert [a.shape for a in outputs] == [tensor.shape for tensor in file.exported.outputs]
    assert [a.dtype.name for a in outputs] == [tensor.dtype for tensor in file.exported.outputs]


@pytest.mark.torch
@pytest.mark.parametrize("format", FORMATS)
def test_computes_what_the_model_computes(format: str, made: dict[str, Made]) -> None:
    import torch

    file = made[format]
    if not file.exported.from_module:
        pytest.skip("this exporter does not build the model")
    for seed in range(3):
        inputs = make_inputs(file.exported.inputs, seed)
        with torch.no_grad():
            expected = TinyModel().module()(torch.from_numpy(inputs[0])).numpy()
        (actual,) = load_exporter(format).evaluate(file.path, inputs)
        np.testing.assert_allclose(actual, expected, atol=1e-5)


@pytest.mark.torch
@pytest.mark.parametrize("format", FORMATS)
def test_the_same_model_gives_the_same_bytes(
    format: str, made: dict[str, Made], tmp_path: Path
) -> None:
    exporter = load_exporter(format)
    again = tmp_path / f"again{exporter.suffix}"
    exporter.export(TinyModel(), ExportSpec(batch=2, resolution=(32, 32)), again)
    assert again.read_bytes() == made[format].path.read_bytes()
    assert str(Path(__file__).parent).encode() not in again.read_bytes()


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
        assert [array.shape for array in outputs] == [spec.shape for spec in exported.outputs]
        assert all(np.isfinite(array).all() and array.std() > 0 for array in outputs)
    assert written[0] == written[1]
