"""Operations without a kernel: what is said, and what executes them on a Mac."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latbench.api import ExportSpec, StageError, make_inputs
from latbench.artifacts.export import export
from latbench.events import Events
from latbench.report.text.artifact import parity
from latbench_exporters.coreml import native
from latbench_exporters.coreml.exporter import exporter
from latbench_exporters.coreml.interface import Interface, interface
from latbench_exporters.coreml.package import read
from support.coreml import on_a_mac, write_classifier, write_image_program, write_stateful
from support.models import TinyModel, factory

pytest.importorskip("coremltools", reason="needs the `coreml` extra")
pytest.importorskip("torch", reason="needs the `export` extra")

pytestmark = pytest.mark.torch
mil = import_module("latbench_exporters.coreml.mil")


@pytest.fixture
def without_gelu(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {name: kernel for name, kernel in mil.kernels().items() if name != "gelu"}
    monkeypatch.setattr(mil, "kernels", lambda: table)


def test_an_export_is_written_counted_and_labelled(
    without_gelu: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = import_module("torch")
    monkeypatch.setenv("LATBENCH_CACHE", str(tmp_path))
    warnings: list[str] = []
    found = export(
        factory().eval(),
        example_inputs=torch.zeros(1, 3, 32, 32),
        format="coreml",
        events=Events(warn=warnings.append),
    ).artifact
    assert found.parity is None
    assert found.details["not_executed"].endswith("1 gelu")
    assert found.counts is not None
    assert found.counts.operators == {"conv": 1, "linear": 1}
    assert [spec.shape for spec in found.outputs] == [(1, 10)]
    assert any("1 gelu" in text for text in warnings)
    assert "1 gelu" in parity(found)


def test_a_ready_package_needs_a_mac(without_gelu: None, tmp_path: Path) -> None:
    path = tmp_path / "made.mlpackage"
    exported = exporter().export(TinyModel(), ExportSpec(), path)
    with pytest.raises(StageError, match="1 gelu") as caught:
        exporter().evaluate(path, make_inputs(exported.inputs, 0))
    assert caught.value.kind == "unavailable"
    assert "Mac" in (caught.value.hint or "")


def test_on_a_mac_core_ml_executes_it(
    without_gelu: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "made.mlpackage"
    exported = exporter().export(TinyModel(), ExportSpec(), path)
    monkeypatch.setattr(native, "available", lambda: True)

    def execute(path: Path, inputs: Any, found: Interface) -> Any:
        assert list(inputs) == ["image"]
        return {found.outputs[0].name: np.ones((2, 10))}

    monkeypatch.setattr(native, "execute", execute)
    again = exporter().adopt(path, ExportSpec(), tmp_path / "again.mlpackage")
    assert again.details["executed_by"] == "Core ML, cpu_only"
    outputs = exporter().evaluate(path, make_inputs(exported.inputs, 0))
    assert outputs is not None
    assert outputs[0].dtype == np.float32
    assert outputs[0].sum() == 20


def test_one_prediction_on_the_cpu(tmp_path: Path) -> None:
    """With the real coremltools, whose compiled part is replaced (see ``support.mac``)."""
    stateful = write_stateful(tmp_path / "s.mlpackage")
    classes = write_classifier(tmp_path / "c.mlpackage", ["b", "c", "a"])
    image = write_image_program(tmp_path / "i.mlpackage", "RGB")
    with on_a_mac(tmp_path) as mac:
        assert native.available()
        for path, shape in ((stateful, (1, 4)), (classes, (1, 3))):
            found = interface(read(path).spec)
            given = {"x": np.arange(np.prod(shape), dtype=np.float32).reshape(shape)}
            (expected,) = exporter().evaluate(path, (given["x"],)) or ()
            (output,) = native.execute(path, given, found).values()
            np.testing.assert_array_equal(output, expected)
        mac.fails["predict"] = "busy"
        with pytest.raises(StageError, match=r"cannot execute c\.mlpackage: NSLocalizedDescr"):
            native.execute(classes, given, found)
        with pytest.raises(StageError, match="images") as caught:
            native.execute(image, {}, interface(read(image).spec))
    assert caught.value.kind == "unavailable"
    assert not native.available()


def test_core_ml_is_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    assert not native.available()
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(native, "find_spec", lambda name: None)
    assert not native.available()
