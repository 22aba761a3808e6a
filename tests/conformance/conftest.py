"""One exported file for each installed exporter."""

from __future__ import annotations

import pytest

from builders import make_artifact
from latbench.api import ExportSpec
from latbench.plugins import format_names, load_exporter
from made import Made
from tiny import TinyModel


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    pytest.importorskip("torch", reason="exporting needs the `export` extra")
    files = {}
    for format in format_names():
        exporter = load_exporter(format)
        path = tmp_path_factory.mktemp(format) / f"tiny{exporter.suffix}"
        exported = exporter.export(TinyModel(), ExportSpec(batch=2, resolution=(32, 32)), path)
        files[format] = Made(
            path=path,
            exported=exported,
            artifact=make_artifact(path, exported, format),
        )
    return files
