"""Arguments and file names of any bytes."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from latbench.file_names import stored_name
from latbench.schema.codec import encode_record
from support.command_line import QUICK, Latbench
from support.onnx_files import classifier
from support.records import make_record

NAME = os.fsdecode(b"m\xff")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="file names are text elsewhere")


@pytest.mark.parametrize(
    "command",
    [
        ("show", NAME),
        ("table", "--sweep", NAME),
        ("models", NAME),
        ("claims", "show", NAME),
        ("run", NAME),
        ("run", "mobilevig_ti", "--option", f"a={NAME}"),
        ("run", "timm:resnet18", "--model-arg", f"a={NAME}"),
        ("run", f"{NAME}.onnx"),
        (NAME,),
    ],
    ids=ascii,
)
def test_bytes_that_name_nothing_are_a_wrong_request(
    latbench: Latbench, tmp_path: Path, command: tuple[str, ...]
) -> None:
    (tmp_path / "record.json").write_bytes(encode_record(make_record(id="one")))
    assert latbench("import", "record.json").status == 0
    ended = latbench(*command)
    assert ended.status == 2, ended
    assert r"m\xff" in ended.err or r"m\udcff" in ended.err


def test_a_record_is_imported_from_any_name(latbench: Latbench, tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.json").write_bytes(encode_record(make_record(id="one")))
    assert latbench("import", f"{NAME}.json").status == 0
    assert latbench("show", "one", "--registry", "registry.db").status == 0


FILES = [
    os.fsdecode(b"\xff\xfe.onnx"),
    "with space.onnx",
    """it's "quoted".onnx""",
    "two\nlines.onnx",
    "-dash.onnx",
    "a:b.onnx",
    r"literal\xff.onnx",
    "\x1b[31mred.onnx",
]


@pytest.mark.parametrize("odd_file", [FILES[0], FILES[5], FILES[6]], ids=ascii)
def test_a_file_with_any_name_is_measured(
    latbench: Latbench, odd_file: str, tmp_path: Path
) -> None:
    classifier(tmp_path / odd_file)
    ran = latbench("run", *QUICK, "--json", "--", odd_file)
    assert ran.status == 0, ran
    assert ran.json["record"]["request"]["model"] == stored_name(odd_file)


@pytest.mark.parametrize("odd_file", [FILES[0], FILES[4]], ids=ascii)
def test_a_file_with_any_name_is_verified_and_exported(
    latbench: Latbench, odd_file: str, tmp_path: Path
) -> None:
    classifier(tmp_path / odd_file)
    verified = latbench("verify", "--json", "--", odd_file)
    assert verified.json["path"] == stored_name(odd_file)
    target = os.fsdecode(b"out\xff.onnx")
    exported = latbench("export", "--json", "--output", target, "--", odd_file)
    assert exported.json["path"] == r"out\xff.onnx"
    assert (tmp_path / target).is_file()


@pytest.mark.parametrize("odd_file", FILES, ids=ascii)
def test_a_command_names_the_file_as_a_shell_reads_it(
    latbench: Latbench, odd_file: str, tmp_path: Path
) -> None:
    classifier(tmp_path / odd_file)
    ended = latbench("inspect", "--json", "--", odd_file)
    assert ended.json["path"] == stored_name(odd_file)
    words = ended.json["next"][0].removeprefix("latbench run ")
    shell = ["bash", "-c", f"printf %s {words}"]
    read = os.fsdecode(subprocess.run(shell, capture_output=True, check=True).stdout)
    assert Path(read) == Path(odd_file)


def test_sides_of_a_comparison_have_any_name(latbench: Latbench, tmp_path: Path) -> None:
    names = (os.fsdecode(b"\xff.onnx"), "a,b=c.onnx")
    for name in names:
        classifier(tmp_path / name)
    ended = latbench("compare", *QUICK, "--json", names[0], r"model=a\,b=c.onnx")
    assert ended.status == 4, ended
    listed = latbench("show", "--json").json
    assert {row["model"] for row in listed} == {r"\xff.onnx", "a,b=c.onnx"}


def test_a_message_in_a_record_names_the_file(latbench: Latbench, tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.onnx").write_bytes(b"nothing")
    ended = latbench("run", *QUICK, f"{NAME}.onnx", "--json")
    assert ended.status == 3
    assert ended.json["record"]["outcome"]["failure"]["message"].startswith(r"m\xff.onnx")


def test_inputs_and_folders_have_any_name(latbench: Latbench, tmp_path: Path) -> None:
    import numpy as np

    folder = tmp_path / NAME
    folder.mkdir()
    classifier(folder / "model.onnx")
    with (folder / f"{NAME}.npy").open("wb") as file:
        np.save(file, np.ones((1, 3, 8, 8), dtype=np.float32))
    given = f"image={NAME}/{NAME}.npy"
    ended = latbench("run", *QUICK, f"{NAME}/model.onnx", "--input", given, "--json")
    assert ended.status == 0, ended
    assert ended.json["record"]["request"]["inputs"] == {"image": r"m\xff/m\xff.npy"}


def test_a_sweep_file_has_any_name(latbench: Latbench, tmp_path: Path) -> None:
    classifier(tmp_path / "model.onnx")
    (tmp_path / f"{NAME}.yaml").write_text("models: [model.onnx]\nbackends: [onnxruntime]\n")
    assert latbench("run", *QUICK, "--sweep", f"{NAME}.yaml").status == 0


def test_a_cache_that_runtimes_cannot_open_is_refused(latbench: Latbench, tmp_path: Path) -> None:
    classifier(tmp_path / "model.onnx")
    ended = latbench("export", "model.onnx", LATBENCH_CACHE=str(tmp_path / NAME))
    assert ended.status == 3
    assert r"m\xff" in ended.err
    assert "LATBENCH_CACHE" in ended.err


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_code_and_weights_have_any_name(latbench: Latbench, tmp_path: Path, kind: str) -> None:
    torch: Any = pytest.importorskip("torch", reason="needs the `export` extra")
    from safetensors.torch import save

    source = "import torch\n\n\ndef make():\n    return torch.nn.Conv2d(3, 4, 3)\n"
    (tmp_path / f"{NAME}.py").write_text(source)
    weights, path = torch.nn.Conv2d(3, 4, 3).state_dict(), tmp_path / f"{NAME}.{kind}"
    with path.open("wb") as file:
        torch.save(weights, file) if kind == "pth" else file.write(save(weights))
    asked = ("export", f"{NAME}.py:make", "--weights", path.name, "--resolution", "8")
    ended = latbench(*asked)
    assert ended.status == 0, ended
    described = latbench("inspect", path.name, "--json").json
    assert shlex.quote(path.name) not in described["next"][0]
    assert rf"$'m\xff.{kind}'" in described["next"][0]
