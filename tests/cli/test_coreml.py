"""Core ML through the command line: the real coremltools in workers, with its compiled part replaced
(see ``support.mac``). What is shown is the way there and back, not what a Mac does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from latbench.analysis.parity import TOLERANCE
from support.command_line import QUICK, Ended, in_process
from support.coreml import on_a_mac, write_functions, write_image_program, write_stateful
from support.environment import ROOT, TINY
from support.mac.facts import mac_environment

pytest.importorskip("coremltools", reason="needs the `coreml` extra")
pytest.importorskip("torch", reason="needs the `export` extra")

pytestmark = pytest.mark.torch
HERE = ("--backend", "coreml", *QUICK, "--processes", "1", "--json")


@pytest.fixture
def on_mac(environment: dict[str, str], tmp_path: Path) -> Callable[..., Ended]:
    """Run a model as on a Mac of a version."""

    def run(*arguments: str | Path, macos: str = "15.5") -> Ended:
        changed = {**environment, **mac_environment(tmp_path, macos)}
        with on_a_mac(tmp_path, macos):
            command = ["run", "--model", *map(str, arguments), *HERE]
            return in_process(command, changed, tmp_path)

    return run


def test_a_record_of_the_stand_in_is_none_of_a_mac(
    on_mac: Callable[..., Ended], tmp_path: Path
) -> None:
    options = ("--precision", "fp16", "--option", "compute_units=cpu_and_ne")
    ran = on_mac(TINY, *options)
    assert ran.status == 0, ran
    record = ran.json["record"]
    runtime = record["runtime"]
    assert runtime["version"].startswith("macOS 15.5 (stand-in), coremltools ")
    assert runtime["settings"]["macos_build"] == "stand-in"
    assert runtime["settings"]["clock"] == "runtime"
    assert runtime["settings"]["input_arrays"] == "float32"
    assert runtime["settings"]["compute_units"] == "cpu_and_ne"
    assert runtime["placement"]["units"] == {"neural_engine": 5}
    assert runtime["placement"]["known"] == "planned"
    assert "Linux" in record["device"]["os"]["value"]
    block = record["outcome"]["traces"][0]["blocks"][0]
    pairs = zip(block["sample_ns"], block["beside_ns"]["call"], strict=True)
    assert all(own < call for own, call in pairs)
    assert record["outcome"]["checks"][0]["max_rel_error"] < 0.01


def test_a_package_for_a_newer_system(on_mac: Callable[..., Ended], tmp_path: Path) -> None:
    ran = on_mac(write_stateful(tmp_path / "state.mlpackage"), macos="14.7")
    assert ran.status == 3
    failure = ran.json["record"]["outcome"]["failure"]
    assert failure["message"].startswith("Core ML cannot load ")
    assert "specification version 9" in failure["message"]


@pytest.mark.slow
def test_packages_of_other_kinds_are_measured(on_mac: Callable[..., Ended], tmp_path: Path) -> None:
    image = on_mac(write_image_program(tmp_path / "image.mlpackage", "BGR"))
    settings = image.json["record"]["runtime"]["settings"]
    assert (settings["input"], settings["input_bits"]) == ("image", "8")
    gray = on_mac(write_image_program(tmp_path / "gray.mlpackage", "GRAYSCALE_FLOAT16"))
    assert gray.json["record"]["artifact"]["precision"] == "fp32"
    assert gray.json["record"]["outcome"]["checks"][0]["tolerance"] == TOLERANCE["fp16"]
    both = on_mac(write_functions(tmp_path / "both.mlpackage"), "--signature", "large")
    assert both.json["record"]["artifact"]["outputs"][0]["shape"] == [2, 4, 3, 3]
    states = on_mac(write_stateful(tmp_path / "state.mlpackage"))
    assert "states" in states.json["record"]["runtime"]["settings"]
    for ran in (image, gray, both, states):
        assert ran.status == 0, ran
        assert ran.json["record"]["outcome"]["status"] == "measured"


@pytest.mark.slow
def test_the_runner_passes_the_conformance_suite(tmp_path: Path) -> None:
    suite = ROOT / "tests" / "conformance" / "test_runners.py"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-k",
        "coreml",
        suite,
    ]
    environment = {**os.environ, **mac_environment(tmp_path)}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
    assert "failed" not in done.stdout
