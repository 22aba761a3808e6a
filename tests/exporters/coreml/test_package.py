"""Files that are no package, or lead out of it, and what is written."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from latbench.api import ExportSpec, StageError, UsageError, make_inputs
from latbench.files import content_sha256
from latbench_exporters.coreml.exporter import exporter
from latbench_exporters.coreml.package import read
from support.environment import child_environment
from support.models import TinyModel

ct = pytest.importorskip("coremltools", reason="needs the `coreml` extra")
pytest.importorskip("torch", reason="needs the `export` extra")

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "tiny.mlpackage"
    exporter().export(TinyModel(), ExportSpec(batch=2, resolution=(32, 32)), path)
    return path


@pytest.fixture
def package(made: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    import shutil

    return Path(shutil.copytree(made, tmp_path / "tiny.mlpackage"))


def adopted(path: Path, **spec: Any) -> Any:
    return exporter().adopt(path, ExportSpec(**spec), path.parent / "out.mlpackage")


def manifest_with(package: Path, change: Callable[[dict[str, Any]], None]) -> None:
    file = package / "Manifest.json"
    told = json.loads(file.read_text())
    change(told)
    file.write_text(json.dumps(told))


def rename_items(path: str) -> Callable[[dict[str, Any]], None]:
    def change(told: dict[str, Any]) -> None:
        for entry in told["itemInfoEntries"].values():
            entry["path"] = path

    return change


@pytest.mark.parametrize(
    "path", ["../../elsewhere/model.mlmodel", "/etc/passwd", "a/../../../b", "..\\..\\x"]
)
def test_an_item_that_leads_out_of_the_package_is_refused(package: Path, path: str) -> None:
    manifest_with(package, rename_items(path))
    with pytest.raises(StageError, match="is outside the package"):
        adopted(package)


def test_links_are_refused(package: Path, tmp_path: Path) -> None:
    weights = package / "Data/com.apple.CoreML/weights"
    elsewhere = tmp_path / "elsewhere"
    weights.rename(elsewhere)
    weights.symlink_to(elsewhere)
    with pytest.raises(StageError, match="has symbolic links") as caught:
        adopted(package)
    assert "cp -RL" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "damage",
    [
        lambda p: (p / "Manifest.json").write_text("{"),
        lambda p: (p / "Manifest.json").write_text("[]"),
        lambda p: (p / "Manifest.json").write_text("[" * 100_000),
        lambda p: (p / "Manifest.json").unlink(),
        lambda p: manifest_with(p, lambda told: told.pop("rootModelIdentifier")),
        lambda p: manifest_with(p, rename_items("nothing/here.mlmodel")),
        lambda p: (p / "Data/com.apple.CoreML/model.mlmodel").write_bytes(b""),
        lambda p: (p / "Data/com.apple.CoreML/model.mlmodel").write_bytes(b"\xff" * 99),
        lambda p: (p / "Data/com.apple.CoreML/weights/weight.bin").unlink(),
    ],
    ids=range(9),
)
def test_a_damaged_package_is_refused(package: Path, damage: Callable[[Path], None]) -> None:
    damage(package)
    with pytest.raises(StageError) as caught:
        adopted(package)
    assert "tiny.mlpackage" in caught.value.message
    assert caught.value.hint
    assert not (package.parent / "out.mlpackage").exists()


@pytest.mark.parametrize("name", ["model.mlmodel", "weights/weight.bin"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_truncated_part_is_found(package: Path, name: str, share: float) -> None:
    part = package / "Data/com.apple.CoreML" / name
    part.write_bytes(part.read_bytes()[: int(part.stat().st_size * share)])
    with pytest.raises(StageError):
        adopted(package)


def test_constants_from_elsewhere_are_refused(package: Path) -> None:
    part = package / "Data/com.apple.CoreML/model.mlmodel"
    spec = ct.proto.Model_pb2.Model.FromString(part.read_bytes())
    changed = 0
    for block in spec.mlProgram.functions["main"].block_specializations.values():
        for operation in block.operations:
            value = operation.attributes.get("val")
            if value is not None and value.WhichOneof("value") == "blobFileValue":
                value.blobFileValue.fileName = "@model_path/../../secret"
                changed += 1
    assert changed
    part.write_bytes(spec.SerializeToString())
    with pytest.raises(StageError, match="outside its weights folder"):
        adopted(package)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda spec: spec.pipeline.models.add(), "contains a pipeline"),
        (
            lambda spec: spec.description.input[0].type.stringType.SetInParent(),
            "not an array or image",
        ),
        (
            lambda spec: spec.description.output[0].type.sequenceType.SetInParent(),
            "not an array or image",
        ),
        (
            lambda spec: spec.description.output[0].type.stringType.SetInParent(),
            "class labels only",
        ),
    ],
    ids=range(4),
)
def test_what_cannot_be_timed_is_named(
    package: Path, change: Callable[[Any], object], message: str
) -> None:
    part = package / "Data/com.apple.CoreML/model.mlmodel"
    spec = ct.proto.Model_pb2.Model.FromString(part.read_bytes())
    change(spec)
    part.write_bytes(spec.SerializeToString())
    with pytest.raises(StageError, match=message) as caught:
        adopted(package)
    assert "corrupt" not in (caught.value.hint or ""), "the file is sound"


def test_a_ready_package_is_itself(package: Path) -> None:
    found = adopted(package, batch=2, resolution=(32, 32))
    out = package.parent / "out.mlpackage"
    assert found.precision == "fp32"
    assert found.counts.operators == {"conv": 1, "linear": 1}
    assert found.details["route"] == "pre-exported"
    assert content_sha256(out) == content_sha256(package)
    with pytest.raises(UsageError, match="fixed at 2"):
        adopted(package, batch=3)
    with pytest.raises(UsageError, match="fixed at 32"):
        adopted(package, resolution=(32, 48))
    with pytest.raises(UsageError, match="no axis named n"):
        adopted(package, dims={"n": 2})
    with pytest.raises(UsageError, match="--precision fp16 is invalid"):
        adopted(package, precision="fp16")
    with pytest.raises(UsageError, match="option target is invalid"):
        adopted(package, options={"target": "iOS18"})


def test_a_resolution_that_no_input_has_is_refused(package: Path) -> None:
    part = package / "Data/com.apple.CoreML/model.mlmodel"
    spec = ct.proto.Model_pb2.Model.FromString(part.read_bytes())
    del spec.description.input[0].type.multiArrayType.shape[2:]
    part.write_bytes(spec.SerializeToString())
    with pytest.raises(UsageError, match="no input of the file has a resolution"):
        adopted(package, resolution=(32, 32))


def test_a_package_as_coremltools_writes_it_is_normalised(package: Path, tmp_path: Path) -> None:
    """Random identifiers, a date and a stray file make no other artifact."""
    digests = set()
    for i in range(2):
        saved = tmp_path / f"{i}/saved.mlpackage"
        saved.parent.mkdir()
        model = ct.models.MLModel(str(package), skip_model_load=True)
        model.user_defined_metadata["com.github.apple.coremltools.conversion_date"] = f"day {i}"
        model.save(str(saved))
        (saved / "stray.json").write_text(str(i))
        out = saved.parent / "out.mlpackage"
        exporter().adopt(saved, ExportSpec(), out)
        digests.add(content_sha256(out))
    assert len(digests) == 1


@pytest.mark.slow
def test_a_new_interpreter_writes_the_same_bytes(made: Path, tmp_path: Path) -> None:
    """Orders of sets depend on the seed of hashes."""
    out = tmp_path / "again.mlpackage"
    code = (
        "import sys; from pathlib import Path; from latbench.api import ExportSpec;"
        "from latbench_exporters.coreml.exporter import exporter; from support.models import TinyModel;"
        "exporter().export(TinyModel(), ExportSpec(batch=2), Path(sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(out)],
        env=child_environment(PYTHONHASHSEED="12345"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert done.stderr == ""
    assert content_sha256(out) == content_sha256(made)


def test_the_date_and_random_identifiers_are_gone(made: Path) -> None:
    spec = read(made).spec
    assert not any("date" in key for key in spec.description.metadata.userDefined)
    told = json.loads((made / "Manifest.json").read_text())
    assert told["rootModelIdentifier"] in told["itemInfoEntries"]
    # coremltools' own reader agrees that it is a package.
    model = ct.models.MLModel(str(made), skip_model_load=True)
    assert model.get_spec().description.input[0].name == "image"


def test_outputs_change_with_one_changed_weight(package: Path) -> None:
    """The executor reads the package and nothing else."""
    inputs = make_inputs(adopted(package).inputs, 0)
    before = exporter().evaluate(package, inputs)
    weights = package / "Data/com.apple.CoreML/weights/weight.bin"
    data = bytearray(weights.read_bytes())
    data[-8:-4] = np.float32(3.0).tobytes()
    weights.write_bytes(bytes(data))
    after = exporter().evaluate(package, inputs)
    assert before is not None
    assert after is not None
    assert not np.allclose(before[0], after[0])


def test_a_coremltools_without_functions_and_states_is_too_old(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """7."""
    old = SimpleNamespace(description=SimpleNamespace(input=(), output=()))
    monkeypatch.setattr(import_module("coremltools.proto.Model_pb2"), "Model", lambda: old)
    with pytest.raises(StageError, match="functions and states") as caught:
        read(package)
    assert caught.value.kind == "unavailable"
    assert "8 or later" in (caught.value.hint or "")
