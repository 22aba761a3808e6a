"""Files of a tiny model, once for all tests of a runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from latbench.api import ExportSpec
from latbench_exporters.onnx.exporter import exporter as onnx_exporter
from support import onnx_files
from support.artifacts import ExportedFile
from support.records import make_artifact


@pytest.fixture(scope="session")
def onnx(tmp_path_factory: pytest.TempPathFactory) -> ExportedFile:
    folder = tmp_path_factory.mktemp("onnx")
    path = folder / "fixed.onnx"
    exported = onnx_exporter().adopt(
        onnx_files.stack(folder / "model.onnx", side=36), ExportSpec(), path
    )
    return ExportedFile(
        path=path, exported=exported, artifact=make_artifact(path, exported, "onnx")
    )


@pytest.fixture
def damaged() -> Callable[[Path], list[bytes]]:
    """What is left of a file after damage, and what never was one."""

    def contents(path: Path) -> list[bytes]:
        whole = path.read_bytes()
        return [b"", b"\0" * 100, b"not a model", whole[: len(whole) // 2], whole[:40]]

    return contents
