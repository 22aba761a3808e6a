"""What is written beside its place and renamed, and what it may replace."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest

import latbench.artifacts.cache
from latbench.artifacts.cache import ArtifactCache, ArtifactChanged
from latbench.errors import LatbenchError
from latbench.files import content_sha256, copy_beside, write_beside
from latbench.paths import cache_folder, config_folder, data_folder
from support.records import make_record


def write(path: Path) -> None:
    write_beside(path, lambda beside: beside.write_text("new"))


def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("old")
    write(tmp_path / "page.md")
    assert (tmp_path / "page.md").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["page.md"]


def test_a_folder_is_never_replaced_by_a_file(tmp_path: Path) -> None:
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers/thesis.tex").write_text("years of work")
    with pytest.raises(LatbenchError, match="it is a folder"):
        write(tmp_path / "papers")
    assert (tmp_path / "papers/thesis.tex").read_text() == "years of work"
    assert [path.name for path in tmp_path.iterdir()] == ["papers"]


def folder(path: Path, *names: str) -> Path:
    path.mkdir(parents=True)
    for name in names:
        (path / name).write_text(name)
    return path


def test_an_artifact_that_is_a_folder_replaces_only_its_like(tmp_path: Path) -> None:
    made = folder(tmp_path / "made.mlpackage", "weights", "graph")
    old = folder(tmp_path / "old.mlpackage", "graph")
    assert copy_beside(made, old) == old
    assert {path.name for path in old.iterdir()} == {"weights", "graph"}
    other = folder(tmp_path / "other.mlpackage", "thesis.tex")
    with pytest.raises(LatbenchError, match=r"thesis\.tex"):
        copy_beside(made, other)
    inside = folder(tmp_path / "models/made.mlpackage", "thesis.tex")
    with pytest.raises(LatbenchError, match=r"thesis\.tex"):
        copy_beside(made, tmp_path / "models")
    assert (inside / "thesis.tex").exists()


def test_an_artifact_that_is_a_file_replaces_no_folder_of_its_name(tmp_path: Path) -> None:
    made = tmp_path / "made.onnx"
    made.write_text("graph")
    inside = folder(tmp_path / "models/made.onnx", "thesis.tex")
    with pytest.raises(LatbenchError, match="it is a folder"):
        copy_beside(made, tmp_path / "models")
    assert (inside / "thesis.tex").exists()


def test_a_name_that_is_too_long_is_told(tmp_path: Path) -> None:
    made = tmp_path / "made.onnx"
    made.write_text("graph")
    for put in (write, lambda target: copy_beside(made, target)):
        with pytest.raises(LatbenchError, match="File name too long"):
            put(tmp_path / ("x" * 300))


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A cache whose only key is no key."""
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys/key.json").write_text("{")
    return tmp_path


def test_a_damaged_file_that_another_program_set_aside(
    damaged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(source: Path, target: Path) -> None:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(latbench.artifacts.cache, "replace_path", gone)
    with pytest.raises(ArtifactChanged, match=r"set aside as key\.json\.changed"):
        ArtifactCache(damaged).find("key", ".onnx")


def test_a_damaged_file_that_cannot_be_set_aside(
    damaged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(latbench.artifacts.cache, "replace_path", refuse)
    with pytest.raises(LatbenchError, match="cannot be set aside: Read-only") as caught:
        ArtifactCache(damaged).find("key", ".onnx")
    assert not isinstance(caught.value, ArtifactChanged)
    assert "LATBENCH_CACHE" in (caught.value.hint or "")


def test_an_interruption_leaves_nothing_beside(tmp_path: Path) -> None:
    def interrupted(beside: Path) -> None:
        beside.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_beside(tmp_path / "page.md", interrupted)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_replaced_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = folder(tmp_path / "a.mlpackage", "old"), folder(tmp_path / "new", "new")
    replace = latbench.files.os.replace

    def full(source: Path, target: Path) -> None:
        if source == new:
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(latbench.files.os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        latbench.files.replace_path(new, old)
    assert (old / "old").exists()
    assert (new / "new").exists()


def test_a_place_that_another_program_fills_in_between_keeps_no_old_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = folder(tmp_path / "a.ncnn", "old"), folder(tmp_path / "new", "new")
    replace = latbench.files.os.replace

    def between(source: Path, target: Path) -> None:
        if source == new:
            folder(old, "theirs")
        replace(source, target)

    monkeypatch.setattr(latbench.files.os, "replace", between)
    with pytest.raises(OSError, match="not empty"):
        latbench.files.replace_path(new, old)
    assert {path.name for path in tmp_path.iterdir()} == {"a.ncnn", "new"}
    assert (old / "theirs").exists()


def test_why_a_folder_cannot_be_copied_is_told(tmp_path: Path) -> None:
    why = shutil.Error([("a", "b", "[Errno 28] No space left on device: 'b'")])
    with pytest.raises(LatbenchError, match="No space left on device"):
        write_beside(tmp_path / "b", lambda beside: (_ for _ in ()).throw(why))


def test_a_folder_that_another_program_stored_meanwhile_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = ArtifactCache(tmp_path / "cache")
    with cache.workspace() as place:
        made = folder(place / "made.ncnn", "model.param", "model.bin")
        reference = place / "reference.npz"
        reference.write_bytes(b"outputs")
        artifact = msgspec.structs.replace(
            make_record().artifact, sha256=content_sha256(made), format="ncnn"
        )
        move = latbench.files.replace_path

        def late(source: Path, target: Path) -> None:
            if source == made:
                shutil.copytree(source, target)
                raise OSError(39, "Directory not empty")
            move(source, target)

        monkeypatch.setattr(latbench.artifacts.cache, "replace_path", late)
        stored = cache.store("k", artifact, ".ncnn", made, reference)
    assert sorted(part.name for part in stored.path.iterdir()) == ["model.bin", "model.param"]


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    for name in ("LATBENCH_CACHE", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    for of in (cache_folder, data_folder, config_folder):
        with pytest.raises(LatbenchError, match="no home folder") as caught:
            of()
        assert "LATBENCH_CACHE" in (caught.value.hint or "")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert data_folder() == Path("/data/latbench")
