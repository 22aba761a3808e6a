"""A converted network, and edited copies of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from latbench.api import Exported, ExportSpec
from latbench_exporters.tflite.exporter import exporter
from support.models import TinyModel


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Exported]:
    pytest.importorskip("litert_torch", reason="converting needs the `tflite-export` extra")
    path = tmp_path_factory.mktemp("tflite") / "tiny.tflite"
    return path, exporter().export(TinyModel(), ExportSpec(), path)


@pytest.fixture
def edited(tiny: tuple[Path, Exported], tmp_path: Path) -> Callable[[Callable[[Any], None]], Path]:
    """The file with its model changed, through the runtime's own schema."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    flatbuffers = pytest.importorskip("flatbuffers")

    def edit(change: Callable[[Any], None]) -> Path:
        model = schema.ModelT.InitFromPackedBuf(tiny[0].read_bytes())
        change(model)
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        path = tmp_path / "edited.tflite"
        path.write_bytes(bytes(builder.Output()))
        return path

    return edit
