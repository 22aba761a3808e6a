"""One exported file for each installed exporter, made when it is first asked for."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from latbench.api import ExportSpec, StageError
from latbench.plugins import load_exporter
from support.artifacts import ExportedFile
from support.models import TinyModel
from support.records import make_artifact


class Files(Mapping[str, ExportedFile]):
    """Format -> its file; a test is skipped where that cannot be had on this machine."""

    def __init__(self, factory: pytest.TempPathFactory) -> None:
        self._factory = factory
        self._made: dict[str, ExportedFile | str] = {}

    def __getitem__(self, format: str) -> ExportedFile:
        if format not in self._made:
            self._made[format] = self._make(format)
        found = self._made[format]
        if isinstance(found, str):
            pytest.skip(found)
        return found

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)

    def _make(self, format: str) -> ExportedFile | str:
        exporter = load_exporter(format)
        path = self._factory.mktemp(format) / f"tiny{exporter.suffix}"
        try:
            exported = exporter.export(TinyModel(), ExportSpec(batch=2, resolution=(32, 32)), path)
        except StageError as error:
            if error.kind != "unavailable":
                raise
            return f"{format} cannot be exported here: {error.message}"
        artifact = make_artifact(path, exported, format)
        return ExportedFile(path=path, exported=exported, artifact=artifact)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Files:
    pytest.importorskip("torch", reason="exporting needs the `export` extra")
    return Files(tmp_path_factory)
