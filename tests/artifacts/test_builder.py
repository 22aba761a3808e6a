"""Cache keys of artifacts, and the failure of a slow export."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from latbench.api import Exporter
from latbench.artifacts import builder
from latbench.artifacts.code_digest import (
    BUILDING,
    CHECKING,
    code_digest,
    exporter_sources,
    sources_digest,
)
from latbench.errors import StageError
from latbench.plugins import load_exporter
from latbench.worker import messages


def single(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Exporter:
    """An exporter that is a module in no package, among whatever is installed."""
    (folder / "lone_exporter.py").write_text(
        "from latbench_exporters.fake import FakeExporter\nclass LoneExporter(FakeExporter): pass\n"
    )
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "lone_exporter", raising=False)
    import lone_exporter  # type: ignore[import-not-found]

    made: Exporter = lone_exporter.LoneExporter()
    return made


def digest_of(exporter: Exporter) -> str:
    return code_digest(exporter, ())


def test_a_lone_modules_neighbors_are_not_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter = single(tmp_path, monkeypatch)
    before = digest_of(exporter)
    (tmp_path / "neighbour.py").write_text("x = 1\n")
    (tmp_path / "gone.py").symlink_to(tmp_path / "nowhere.py")
    assert digest_of(exporter) == before
    (tmp_path / "lone_exporter.py").write_text("# another one\n")
    assert digest_of(exporter) != before


FIRST_PARTY = {
    "coreml": ("coreml", set()),
    "tflite": ("tflite", set()),
    "tensorrt": ("tensorrt", {"onnx"}),
    "onnx": ("onnx", set()),
    "fake": ("fake", set()),
}
"""Format -> its own module, and the other backends that its exporter imports."""


@pytest.mark.parametrize("format", FIRST_PARTY)
def test_an_exporters_code_is_its_own_and_what_it_imports(format: str) -> None:
    own, more = FIRST_PARTY[format]
    sources = exporter_sources(type(load_exporter(format)).__module__)
    backends = {name.split(".")[1] for name in sources if "." in name}
    shared = {"packages", "pre_exported"}
    assert own in backends
    assert backends - shared == {own, *more}, sorted(sources)


@pytest.fixture
def backends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of two exporters, one of which shares a module with nobody."""
    package = tmp_path / "two_backends"
    for folder in ("one", "two"):
        (package / folder).mkdir(parents=True)
        (package / folder / "__init__.py").write_text("")
    (package / "__init__.py").write_text("")
    (package / "shared.py").write_text("")
    (package / "one" / "exporter.py").write_text(
        "from ..shared import *\ndef export():\n    from two_backends.one import rewrites\n"
    )
    (package / "one" / "rewrites.py").write_text("import os, latbench.api\n")
    (package / "two" / "exporter.py").write_text("import two_backends.shared\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield package
    for name in [name for name in sys.modules if name.partition(".")[0] == package.name]:
        del sys.modules[name]


def test_an_edit_of_one_backend_leaves_the_others(backends: Path) -> None:
    names = ("two_backends.one.exporter", "two_backends.two.exporter")
    for name in names:
        importlib.import_module(name)

    def digests() -> list[str]:
        return [sources_digest(exporter_sources(name)) for name in names]

    assert set(exporter_sources(names[0])) == {
        *("two_backends", "two_backends.one", "two_backends.shared"),
        *("two_backends.one.exporter", "two_backends.one.rewrites"),
    }
    before = digests()
    (backends / "one" / "rewrites.py").write_text("# changed\n")
    one, two = digests()
    assert one != before[0]
    assert two == before[1]
    (backends / "shared.py").write_text("# changed\n")
    assert digests()[1] != before[1]


def test_a_file_is_known_by_its_module() -> None:
    assert sources_digest({"a.x": b"1", "b.x": b"2"}) != sources_digest({"a.x": b"2", "b.x": b"1"})


def test_no_network_and_no_catalog_is_the_code_of_an_artifact() -> None:
    names = {module.__name__ for module in (*CHECKING, *BUILDING)}
    assert not {name for name in names if "nets" in name or "catalog" in name}
    assert {"latbench.artifacts.export_worker", "latbench.zoo.reparameterize"} <= names


@pytest.mark.parametrize("module", [*CHECKING, *BUILDING], ids=lambda module: module.__name__)
def test_what_builds_calibrates_and_checks_counts(
    module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter = load_exporter("fake")
    before = code_digest(exporter, (*CHECKING, *BUILDING))
    assert module.__file__ is not None
    edited = tmp_path / "edited.py"
    edited.write_bytes(Path(module.__file__).read_bytes() + b"# edited")
    monkeypatch.setattr(module, "__file__", str(edited))
    assert code_digest(exporter, (*CHECKING, *BUILDING)) != before


@pytest.mark.slow
def test_the_hint_of_a_slow_export_names_no_option_of_a_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builder, "EXPORT_TIMEOUT_S", 1e-6)
    asked = messages.ExportSentinel(
        format="fake", out=str(tmp_path / "s"), reference=str(tmp_path / "r.npz")
    )
    with pytest.raises(StageError, match="no response within") as caught:
        builder._exported(asked, tmp_path)
    assert caught.value.kind == "timeout"
    assert "--timeout" not in (caught.value.hint or "")
    assert "pre-exported file" in (caught.value.hint or "")
