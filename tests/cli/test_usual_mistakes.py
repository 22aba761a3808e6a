"""The usual mistakes and what the command line answers, in one file that a reviewer can read.

``LATBENCH_UPDATE_GOLDEN=1 pytest tests/cli/test_usual_mistakes.py`` writes the file anew.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path

import pytest

from latbench.cli import main
from support import onnx_files

GOLDEN = Path(__file__).parent.parent / "golden" / "usual-mistakes.txt"

MISTAKES = """
latbench rnu
latbench run
latbench run mobilevig_tii --backend fake
latbench run foo.pt --backend fake
latbench run missing.onnx
latbench run broken.onnx --protocol latbench-fixed@1
latbench run without.onnx --protocol latbench-fixed@1
latbench run net.py:make --backend fake
latbench run there.py:absent
latbench run no.such.module:make --backend fake
latbench run mobilevig_ti --backend ort
latbench run mobilevig_ti --backend fake --device iphone-13-mini
latbench run mobilevig_ti --backend fake --device ipone-13-mini
latbench run mobilevig_ti --backend fake --threads 0
latbench run mobilevig_ti --backend fake --threads many
latbench run mobilevig_ti --backend fake --batch 0
latbench run mobilevig_ti --backend fake --resolution 224x
latbench run mobilevig_ti --backend fake --precision fp15
latbench run mobilevig_ti --backend fake --precision fp16 --calibration images
latbench run mobilevig_ti --backend fake --option speed=1
latbench run mobilevig_ti --backend fake --option speed
latbench run mobilevig_ti --backend fake --option noise=loud --protocol latbench-fixed@1
latbench run mobilevig_ti --backend fake --weights missing.safetensors
latbench run mobilevig_ti --backend fake --protocol latbench-worm
latbench run mobilevig_ti --backend fake --budget 0
latbench run mobilevig_ti --backend fake --target 0
latbench run mobilevig_ti --backend fake --timeout 0
latbench run mobilevig_ti --backend fake --deadline 5
latbench run mobilevig_ti --backend fake --resume
latbench run mobilevig_ti --backend fake --protocol timm@1 --require-precision
latbench run --sweep missing.yaml
latbench run --sweep broken.yaml
latbench compare mobilevig_ti
latbench compare mobilevig_ti threads --backend fake
latbench compare threads=1 threads=2 --backend fake
latbench compare mobilevig_ti mobilevig_s --backend fake --margin 0
latbench compare mobilevig_ti mobilevig_s --backend fake --protocol cold-start@1
latbench compare 01m 01n --records
latbench plan
latbench export mobilevig_ti --format onxx
latbench export missing.onnx
latbench verify missing.onnx
latbench verify text.txt
latbench show 01zzzz
latbench show --plot x.png
latbench table --format latx
latbench history --since yesterday
latbench models mobilevig
latbench backends onnxrt
latbench devices iphone
latbench protocols latbench-worm
latbench claims check
latbench claims check mobilevig-ti-latencyy
latbench claims check --all --backend fake
latbench claims show nothing
latbench claims add missing.yaml
latbench claims explain 01zzzz --against 01yyyy
latbench bundle create out.zip
latbench bundle verify text.txt
latbench bundle verify missing.zip
latbench import text.txt
latbench plot pareto x.png
latbench show --registry nowhere/registry.db
latbench show --registry postgresql://user:secret@localhost:1/db
latbench completion tcsh
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a few broken files, an empty registry, 80 columns and no terminal."""
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    onnx_files.without_inputs(tmp_path / "without.onnx")
    (tmp_path / "broken.yaml").write_text("models: [mobilevig_ti\n")
    (tmp_path / "there.py").write_text("def make():\n    raise SystemExit\n")
    (tmp_path / "text.txt").write_text("hello\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LATBENCH_REGISTRY", str(tmp_path / "registry.db"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("os.get_terminal_size", lambda *_: os.terminal_size((80, 24)))
    from latbench.store.registry import Registry

    with Registry.open(str(tmp_path / "registry.db")):
        pass
    return tmp_path


def answer(command: str, place: Path, monkeypatch: pytest.MonkeyPatch, capfd: object) -> str:
    """Standard error and output, and the exit status, without what differs between machines."""
    monkeypatch.setattr(sys, "argv", shlex.split(command))
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capfd.readouterr()  # type: ignore[attr-defined]
    text = (err + out).replace(str(place), "…").rstrip()
    text = re.sub(r"\b01[0-9a-z]{24}\b", "RECORD-ID", text)
    text = re.sub(r"\b01[0-9a-z]{5,12}\b(?! lists)", "SHORT-ID", text)
    text = re.sub(r"load \d+\.\d+", "load 0.00", text)
    text = re.sub(r"[^·\n]*, \d+ CPUs?\b|\d+ usable CPUs?", " CPU", text)
    text = re.sub(r"\bamd-[\w-]+|\bintel-[\w-]+|\b\w+-\d+cpu\b", "this-machine", text)
    return f"$ {command}\n{text}\n[exit status {ended.value.code}]\n"


def test_the_usual_mistakes_are_answered_in_words(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    commands = MISTAKES.strip().splitlines()
    answers = [answer(command, place, monkeypatch, capfd) for command in commands]
    text = "\n".join(answers)
    for each in answers:
        assert "Traceback" not in each, each
        assert "secret" not in each.partition("\n")[2], each
        assert re.search(r"exit status [1234]\]", each), each
    if os.environ.get("LATBENCH_UPDATE_GOLDEN"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()
