"""Keys of artifacts, and what is told where one cannot be made."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from latbench.api import Exporter
from latbench.artifacts import builder
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


def test_a_lone_modules_neighbours_are_not_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter = single(tmp_path, monkeypatch)
    before = builder._code_digest(exporter)
    (tmp_path / "neighbour.py").write_text("x = 1\n")
    (tmp_path / "gone.py").symlink_to(tmp_path / "nowhere.py")
    assert builder._code_digest(exporter) == before
    (tmp_path / "lone_exporter.py").write_text("# another one\n")
    assert builder._code_digest(exporter) != before


def test_a_link_to_nowhere_in_a_package_is_no_code(tmp_path: Path) -> None:
    exporter = load_exporter("fake")
    before = builder._code_digest(exporter, tmp_path)
    (tmp_path / "gone.py").symlink_to(tmp_path / "nowhere.py")
    assert builder._code_digest(exporter, tmp_path) == before
    (tmp_path / "net.py").write_text("x = 1\n")
    assert builder._code_digest(exporter, tmp_path) != before


@pytest.mark.parametrize(
    "name",
    [
        "artifacts/calibration.py",
        "artifacts/export_worker.py",
        "artifacts/validation.py",
        "analysis/parity.py",
        "schema/seeded_inputs.py",
    ],
)
def test_what_calibrates_and_judges_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (place,) = (path for path in builder.CHECKS if path == builder.PACKAGE / name)
    edited = tmp_path / place.name
    edited.write_bytes(place.read_bytes() + b"# edited")
    exporter = load_exporter("fake")
    before = builder._code_digest(exporter)
    others = tuple(edited if path == place else path for path in builder.CHECKS)
    monkeypatch.setattr(builder, "CHECKS", others)
    assert builder._code_digest(exporter) != before


def test_a_slow_export_is_not_told_of_an_option_that_does_not_reach_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builder, "EXPORT_TIMEOUT_S", 1e-6)
    asked = messages.ExportSentinel(
        format="fake", out=str(tmp_path / "s"), reference=str(tmp_path / "r.npz")
    )
    with pytest.raises(StageError, match="no answer within") as caught:
        builder._exported(asked, tmp_path)
    assert caught.value.kind == "timeout"
    assert "--timeout" not in (caught.value.hint or "")
    assert "ready file" in (caught.value.hint or "")
