"""``--weights`` and ``--weights-key`` from the command line to the record."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.command_line import QUICK, Latbench

torch = pytest.importorskip("torch", reason="needs the `export` extra")

pytestmark = [pytest.mark.torch, pytest.mark.slow]

NETWORK = """
from torch import nn

class Net(nn.Module):
    input_shape = (3, 8, 8)

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 10)

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))
"""


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A network beside its checkpoint of plain and averaged weights."""
    (tmp_path / "net.py").write_text(NETWORK)

    def weights(value: float) -> dict[str, object]:
        shapes = {"body.weight": (8, 3, 3, 3), "head.weight": (10, 8)}
        shapes |= {"body.bias": (8,), "head.bias": (10,)}
        return {f"module.{name}": torch.full(shape, value) for name, shape in shapes.items()}

    path = tmp_path / "w.pth"
    torch.save({"model": weights(0.1), "model_ema": weights(0.2), "epoch": 3}, path)
    return path


def test_the_weights_that_were_used_are_recorded(latbench: Latbench, checkpoint: Path) -> None:
    export = ("export", "net.py:Net", "--weights", checkpoint, "--json")
    averaged, plain = latbench(*export), latbench(*export, "--weights-key", "model")
    assert averaged.status == plain.status == 0, averaged.err + plain.err
    assert "model_ema.module is used; model.module fits too" in averaged.err
    assert averaged.json["artifact"]["details"]["weights_key"] == "model_ema"
    assert plain.json["artifact"]["details"]["weights_key"] == "model"
    assert "prefix 'module.' removed" in plain.err
    assert "fits too" not in plain.err
    assert averaged.json["artifact"]["sha256"] != plain.json["artifact"]["sha256"]


def test_each_side_of_a_comparison_has_a_key(latbench: Latbench, checkpoint: Path) -> None:
    done = latbench(
        *("compare", "weights_key=model", "weights_key=model_ema", "--model", "net.py:Net"),
        *("--weights", checkpoint, "--json", "--threads", "1", *QUICK),
    )
    assert done.status in (0, 4), done.err
    records = [latbench("show", done.json[side], "--json").json["record"] for side in "ab"]
    keys = [record["model"]["weights"].partition("#")[2] for record in records]
    assert keys == ["model", "model_ema"]


@pytest.mark.parametrize(
    ("options", "words", "hint"),
    [
        (("--weights-key", "model"), "--weights-key requires --weights", "add --weights"),
        (
            ("--weights", "w.pth", "--weights-key", "other"),
            "no tensor with a name of the model under 'other'",
            "the file has: model (4 tensors), model_ema (4 tensors), epoch (3)",
        ),
    ],
)
def test_a_wrong_key_is_refused(
    latbench: Latbench, checkpoint: Path, options: tuple[str, ...], words: str, hint: str
) -> None:
    done = latbench("export", "net.py:Net", *options)
    assert done.status == 2
    assert words in done.err
    assert hint in done.err


def test_a_damaged_checkpoint_is_an_invalid_request(latbench: Latbench, checkpoint: Path) -> None:
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    done = latbench("run", "net.py:Net", "--weights", checkpoint)
    assert done.status == 2, done
    assert "w.pth is a damaged checkpoint" in done.err
    assert "hint: truncated" in done.err
