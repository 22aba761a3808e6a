"""Precisions below fp32, through the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support.command_line import Latbench
from support.environment import TINY

QUICK = ("--protocol", "latbench-fixed@1", "--processes", "1", "--warmup", "2", "--calls", "3")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Noise of all kinds of brightness."""
    image = pytest.importorskip("PIL.Image")
    draw = np.random.default_rng(0)
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(6):
        pixels = draw.integers(0, 40 * (i + 1), (40, 48, 3), dtype=np.uint8)
        image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


@pytest.mark.torch
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_accuracy_is_told(latbench: Latbench, precision: str) -> None:
    done = latbench("run", "--model", TINY, "--precision", precision, *QUICK, "--json")
    assert done.status == 0, done.err + done.out
    artifact = done.json["record"]["artifact"]
    assert artifact["precision"] == precision
    parity = artifact["parity"]
    assert parity["inputs"] == 8
    assert 0.98 < parity["cosine"] <= 1
    assert parity["top1_agreement_ppm"] >= 500_000
    assert 0 < parity["max_rel_error"] < 0.2
    assert artifact["counts"]["macs"] == artifact["model_counts"]["macs"]
    assert artifact["counts"]["parameter_bytes"] < artifact["model_counts"]["parameter_bytes"]
    assert ("seeded noise" in done.err) == (precision == "int8")
    shown = latbench("run", "--model", TINY, "--precision", precision, *QUICK)
    assert "accuracy" in shown.out
    assert "top-1 agrees" in shown.out


@pytest.mark.torch
def test_calibrated_on_images(latbench: Latbench, images: Path) -> None:
    run = ("run", "--model", TINY, "--precision", "int8", *QUICK, "--json")
    done = latbench(*run, "--calibration", images)
    assert done.status == 0, done.err
    assert "seeded noise" not in done.err
    record = done.json["record"]
    assert record["request"]["calibration"] == str(images)
    assert record["artifact"]["details"]["calibration"].startswith("images:6:")
    assert record["artifact"]["sha256"] != latbench(*run).json["record"]["artifact"]["sha256"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--precision", "int4"), "unknown precision 'int4'"),
        (("--precision", "int8", "--backend", "fake"), "supported: fp32"),
        (("--calibration", "x"), "add --precision int8"),
        (("--precision", "int8", "--calibration", "nowhere"), "no such folder"),
        (("--option", "opset=16"), "17 to 23"),
        (("--option", "route=fx"), "one of: torch.export, torchscript"),
        (("--option", "opsett=17"), "did you mean opset?"),
    ],
)
def test_what_cannot_be_is_told(latbench: Latbench, arguments: tuple[str, ...], words: str) -> None:
    done = latbench("run", "--model", TINY, *QUICK, *arguments)
    assert done.status == 2
    assert words in done.err


@pytest.mark.torch
def test_the_exporter_takes_its_options(latbench: Latbench) -> None:
    for opset in ("17", "20"):
        done = latbench(
            *("export", "--model", TINY, "--option", f"opset={opset}"),
            *("--option", "route=torchscript", "--json"),
        )
        assert done.status == 0, done.err
        details = done.json["artifact"]["details"]
        assert (details["opset"], details["route"]) == (opset, "torchscript")


@pytest.mark.torch
def test_outputs_in_a_dictionary_are_flattened(latbench: Latbench, tmp_path: Path) -> None:
    (tmp_path / "nested.py").write_text(
        "from torch import nn\n"
        "class Nested(nn.Module):\n"
        "    input_shape = (3, 16, 16)\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.conv = nn.Conv2d(3, 4, 3)\n"
        "    def forward(self, x):\n"
        "        y = self.conv(x)\n"
        "        return {'map': y, 'more': [y.mean((2, 3)), {'max': y.amax((2, 3))}]}\n"
        "class Nothing(Nested):\n"
        "    def forward(self, x):\n"
        "        return {'shape': tuple(x.shape)}\n"
    )
    done = latbench("run", "--model", "nested.py:Nested", *QUICK, "--json")
    assert done.status == 0, done.err + done.out
    shapes = [tensor["shape"] for tensor in done.json["record"]["artifact"]["outputs"]]
    assert shapes == [[1, 4, 14, 14], [1, 4], [1, 4]]
    empty = latbench("run", "--model", "nested.py:Nothing", *QUICK)
    assert empty.status == 3
    assert "dict without a tensor in it" in empty.out


@pytest.mark.slow
@pytest.mark.torch
def test_core_ml_inside_of_executorch_takes_fp16(latbench: Latbench) -> None:
    for package in ("executorch", "coremltools"):
        pytest.importorskip(package, reason=f"needs the `{package}` extra")
    done = latbench(
        *("export", "--model", TINY, "--format", "executorch", "--precision", "fp16"),
        *("--option", "delegate=coreml", "--json"),
    )
    assert done.status == 0, done.err
    counts, whole = (done.json["artifact"][name] for name in ("counts", "model_counts"))
    assert counts["parameter_bytes"] == whole["parameter_bytes"] // 2
    assert "halved" in done.json["artifact"]["details"]["counts"]
