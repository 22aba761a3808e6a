"""Every command, as text and as JSON, and the promises that hold for all of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from latbench.cli import COMMANDS
from support.command_line import QUICK, Latbench

HEAVY = ("numpy", "torch", "sqlalchemy", "alembic", "onnx", "onnxruntime", "rich", "yaml", "psutil")


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom latbench.cli import cli\n"
        f"try: cli.main({arguments!r}, standalone_mode=False)\n"
        "finally: print(sorted(set(sys.modules) & set(%r)), file=sys.stderr)" % (HEAVY,)
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(latbench: Latbench, name: str) -> None:
    assert name in latbench("--help").out
    ended = latbench(name, "--help")
    assert ended.status == 0
    assert "--json" in ended.out or name == "completion", (
        "a script for the shell is printed as it is"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("models",),
        ("models", "mobilevig_b"),
        ("backends",),
        ("backends", "onnxruntime"),
        ("devices",),
        ("devices", "iphone-13-mini"),
        ("devices", "local"),
        ("doctor",),
        ("show",),
        ("history", "--model", "mobilevig_ti", "--backend", "fake"),
    ],
)
def test_json_and_text(latbench: Latbench, arguments: tuple[str, ...]) -> None:
    assert latbench("run", "--model", "mobilevig_ti", "--backend", "fake", *QUICK).status == 0
    text = latbench(*arguments)
    assert text.status == 0, text.err
    assert text.out.strip()
    as_json = latbench(*arguments, "--json")
    assert as_json.status == 0
    assert as_json.json


def test_models_state_exact_counts(latbench: Latbench) -> None:
    counts = {entry["name"]: entry["parameters"] for entry in latbench("models", "--json").json}
    assert counts["mobilevig_ti"] == 5_271_074
    assert counts["mobilevig_b"] == 26_868_506


def test_unknown_names_offer_the_nearest(latbench: Latbench) -> None:
    for arguments, offered in (
        (("models", "mobilevig_x"), "mobilevig_"),
        (("backends", "onnx_runtime"), "onnxruntime"),
        (("devices", "pixel4"), "pixel-4"),
    ):
        ended = latbench(*arguments)
        assert ended.status == 2
        assert offered in ended.err


def test_doctor_names_what_is_broken(latbench: Latbench) -> None:
    ended = latbench("doctor", LATBENCH_REGISTRY="/dev/null/registry.db")
    assert ended.status == 3
    assert "no    registry" in ended.out
    ended = latbench("doctor", LATBENCH_CACHE="/dev/null/cache")
    assert ended.status == 3
    assert "no    cache" in ended.out


def test_a_record_travels_as_a_file(latbench: Latbench, tmp_path: Path) -> None:
    ran = latbench("run", "--model", "mobilevig_ti", "--backend", "fake", *QUICK, "--json").json
    path = tmp_path / "record.json"
    path.write_text(json.dumps(ran["record"]))
    other = {"LATBENCH_REGISTRY": str(tmp_path / "other.db")}
    assert latbench("import", path, **other).out.strip() == ran["record"]["id"]
    assert latbench("show", ran["record"]["id"], "--json", **other).json == ran
    again = latbench("import", path, **other)
    assert again.status != 0
    assert ran["record"]["id"] in again.err


def test_a_damaged_record_is_not_imported(latbench: Latbench, tmp_path: Path) -> None:
    ran = latbench("run", "--model", "mobilevig_ti", "--backend", "fake", *QUICK, "--json").json
    for damage, words in (
        ({"schema": 99}, "newer"),
        ({"id": 5}, "id"),
        ({"colour": "blue"}, "colour"),
    ):
        path = tmp_path / "record.json"
        path.write_text(json.dumps({**ran["record"], **damage}))
        ended = latbench("import", path)
        assert ended.status in (2, 3)
        assert words in ended.err
    path.write_text("{")
    assert latbench("import", path).status in (2, 3)


def test_a_user_adds_a_device(latbench: Latbench, tmp_path: Path) -> None:
    path = tmp_path / "devices.yaml"
    row = "schema: 1\ndevices:\n- id: shelf-7\n  name: Shelf 7\n  kind: board\n  transport: local\n"
    path.write_text(row)
    environment = {"LATBENCH_DEVICES": str(path)}
    assert latbench("devices", "shelf-7", **environment).status == 0
    ran = latbench(
        *("run", "--model", "mobilevig_ti", "--backend", "fake", "--device", "shelf-7"),
        *QUICK,
        "--json",
        **environment,
    )
    assert ran.json["record"]["device"]["id"] == "shelf-7"
    path.write_text(row + "  sco: null\n")
    ended = latbench("devices", **environment)
    assert ended.status == 2
    assert "devices.yaml:7" in ended.err
    assert "sco" in ended.err


def test_interrupted_pipe_is_not_an_error(environment: dict[str, str]) -> None:
    done = subprocess.run(
        f"{sys.executable} -m latbench devices | head -1",
        shell=True,
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.stderr == ""
