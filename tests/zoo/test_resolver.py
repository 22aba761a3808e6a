"""Names of models, without torch: what is found, what is not, and what changes the digest."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from latbench.errors import UsageError
from latbench.zoo import resolver
from latbench.zoo.model import ResolvedModel
from latbench.zoo.resolver import resolve


def found(name: str, **changes: object) -> ResolvedModel:
    arguments = {"weights": None, "batch": None, "resolution": None, "seed": 0, **changes}
    return resolve(name, **arguments)  # type: ignore[arg-type]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's package of three modules, and a file beside it."""
    package = tmp_path / "mine"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "net.py").write_text("from . import blocks\nimport helper\ndef factory(): ...\n")
    (package / "blocks.py").write_text("import json\n")
    (tmp_path / "helper.py").write_text("WIDTH = 8\n")
    (tmp_path / "alone.py").write_text("from helper import WIDTH\ndef factory(): ...\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["mine.net:factory", "alone.py:factory", "mine/net.py:factory"])
def test_a_users_own(project: Path, name: str) -> None:
    model = found(name)
    assert model.identity.source == "user"
    assert model.identity.architecture.startswith("sha256:")
    assert found(name).identity == model.identity


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mine.net:factory", "mine/net.py"),
        ("mine.net:factory", "mine/blocks.py"),
        ("mine.net:factory", "mine/__init__.py"),
        ("mine.net:factory", "helper.py"),
        ("alone.py:factory", "helper.py"),
    ],
)
def test_what_it_imports_changes_the_digest(project: Path, name: str, file: str) -> None:
    before = found(name).identity.architecture
    with (project / file).open("a") as source:
        source.write("# changed\n")
    assert found(name).identity.architecture != before


def test_what_it_does_not_import_does_not(project: Path) -> None:
    before = found("alone.py:factory").identity.architecture
    (project / "mine/blocks.py").write_text("# changed\n")
    assert found("alone.py:factory").identity.architecture == before


def test_the_digest_does_not_depend_on_the_place(
    project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("elsewhere")
    for name in ("helper.py", "alone.py"):
        (other / name).write_bytes((project / name).read_bytes())
    here = found(f"{project / 'alone.py'}:factory").identity.architecture
    there = found(f"{other / 'alone.py'}:factory").identity.architecture
    assert here == there


def test_resolving_executes_and_imports_nothing(project: Path) -> None:
    (project / "loud.py").write_text("raise SystemExit('executed')\ndef factory(): ...\n")
    code = (
        "import sys; from pathlib import Path; from latbench.zoo.resolver import resolve\n"
        "for name in ('loud.py:factory', 'loud:factory', 'mobilevig_ti', 'timm:resnet18'):\n"
        "    resolve(name, weights=None, batch=None, resolution=None, seed=0)\n"
        "print({'torch', 'timm', 'numpy', 'loud'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_file_that_exists_is_known_without_loading_exporters(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "m.onnx").write_bytes(b"1")
    monkeypatch.setattr(resolver, "read_suffixes", lambda: pytest.fail("exporters were loaded"))
    assert resolver.artifact_extension("m.onnx") == ".onnx"
    assert resolver.artifact_extension("mobilevig_ti") is None
    assert resolver.artifact_extension("timm:resnet18.a1_in1k") is None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mobilevig_xl", "unknown model"),
        ("nothing.py:factory", "no such file: nothing.py"),
        ("no.such.module:factory", "no module 'no.such.module'"),
        ("alone.py:", "not the name of a factory"),
        ("alone.py:a b", "not the name of a factory"),
        ("missing.onnx", "cannot read the model file"),
        ("mine.onnx", "cannot read the model file"),
        ("broken.py:factory", "broken.py:2"),
        ("nul.py:factory", "nul.py"),
    ],
)
def test_what_is_not_there(project: Path, name: str, words: str) -> None:
    (project / "mine.onnx").mkdir()
    (project / "broken.py").write_text("x = 1\ndef factory(:\n")
    (project / "nul.py").write_bytes(b"x = 1\0\n")
    with pytest.raises(UsageError, match=words):
        found(name)


@pytest.mark.parametrize("name", ["mobilevig_t", "mobilvig_s", "MobileViG_B"])
def test_the_nearest_names_are_offered(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        found(name)
    assert "mobilevig_" in (caught.value.hint or "")
    assert "timm:NAME" in (caught.value.hint or "")


def test_a_model_of_timm_is_offered_as_such() -> None:
    with pytest.raises(UsageError) as caught:
        found("mobileone_s0")
    assert (caught.value.hint or "").startswith("did you mean timm:mobileone_s0?")


def test_weights_are_part_of_the_identity(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(b"1")
    one = found("mobilevig_ti", weights=path).identity.weights
    path.write_bytes(b"2")
    assert found("mobilevig_ti", weights=path).identity.weights != one
    chosen = found("mobilevig_ti", weights=path, weights_key="model_ema")
    assert chosen.weights_key == "model_ema"
    assert chosen.identity.weights.endswith("#model_ema")
    assert found("mobilevig_ti", seed=3).identity.weights == "seed:3"
    with pytest.raises(UsageError, match="weights file"):
        found("mobilevig_ti", weights=tmp_path / "none.pth")


def test_a_ready_file_takes_no_weights(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"1")
    assert found(str(path)).path == path
    with pytest.raises(UsageError, match="--weights applies to"):
        found(str(path), weights=path)


@pytest.mark.parametrize("change", [{"batch": 0}, {"batch": -1}, {"resolution": (0, 224)}])
def test_sizes_below_one(change: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        found("mobilevig_ti", **change)


def test_windows_paths_keep_their_colon() -> None:
    with pytest.raises(UsageError, match=r"no such file: C:\\net.py"):
        found("C:\\net.py:factory")


def test_unreadable_sources(project: Path) -> None:
    (project / "loop.py").symlink_to("loop.py")
    with pytest.raises(UsageError):
        found("loop.py:factory")


def naming(*names: str) -> bytes:
    """Bytes with entries of ONNX's external data in their midst."""
    entries = b""
    for name in map(str.encode, names):
        size = bytes([len(name)]) if len(name) < 128 else bytes([len(name) & 127 | 128, 1])
        entries += b"\x0a\x08location\x12" + size + name + b"\x6a\x0e"
    return b"weights: " + entries + b"and more"


@pytest.mark.parametrize("name", ["m.data", "parts/m.data", "d" * 200])
def test_external_data_are_part_of_a_ready_file(tmp_path: Path, name: str) -> None:
    path, data = tmp_path / "m.onnx", tmp_path / name
    path.write_bytes(naming(name, name, "elsewhere"))
    alone = found(str(path)).identity
    data.parent.mkdir(exist_ok=True)
    data.write_bytes(b"1")
    one = found(str(path)).identity
    data.write_bytes(b"2")
    other = found(str(path)).identity
    assert len({alone.architecture, one.architecture, other.architecture}) == 3
    data.write_bytes(b"1")
    assert found(str(path)).identity == one


def test_a_file_without_external_data_is_known_by_its_digest(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    (tmp_path / "beside").write_bytes(b"1")
    for content in (b"", b"location", naming("not there", "../beside", "/etc/hostname", "")):
        path.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        assert found(str(path)).identity.architecture == f"sha256:{digest}"


@pytest.mark.parametrize("ending", [".onnx", ".strange", ".py:factory", ".module:factory", ""])
def test_names_that_are_too_long_for_a_file(ending: str) -> None:
    with pytest.raises(UsageError):
        found("x" * 300 + ending)
    with pytest.raises(UsageError, match="weights file"):
        found("mobilevig_ti", weights=Path("x" * 300))
