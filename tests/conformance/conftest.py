"""One exported file for each installed exporter."""

from __future__ import annotations

import pytest

from latbench.api import ExportSpec
from latbench.core.records import Artifact
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
            artifact=Artifact(
                sha256="0" * 64,
                size_bytes=path.stat().st_size,
                format=format,
                precision="fp32",
                inputs=exported.inputs,
                outputs=exported.outputs,
                counts=exported.counts,
                model_counts=None,
                trained_parameters=None,
                parity=None,
                details=dict(exported.details),
                toolchain={},
            ),
        )
    return files
