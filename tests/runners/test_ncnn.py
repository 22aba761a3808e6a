from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from latbench.api import ExportSpec, RunOptions, StageError, UsageError, make_inputs
from latbench_exporters.ncnn.exporter import exporter
from latbench_exporters.ncnn.graph import read
from latbench_runners.ncnn import NEEDS, runner
from support.artifacts import ExportedFile
from support.environment import child_environment
from support.models import TinyModel
from support.records import make_artifact

pytestmark = pytest.mark.torch
pytest.importorskip("ncnn", reason="needs the `ncnn` extra")
pytest.importorskip("torch", reason="needs the `export` extra")


def made_with(folder: Path, model: TinyModel, precision: str = "fp32") -> ExportedFile:
    path = folder / "tiny.ncnn"
    exported = exporter().export(model, ExportSpec(precision=precision), path)
    artifact = msgspec.structs.replace(make_artifact(path, exported, "ncnn"), precision=precision)
    return ExportedFile(path=path, exported=exported, artifact=artifact)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ExportedFile:
    return made_with(tmp_path_factory.mktemp("ncnn"), TinyModel())


def session_of(made: ExportedFile, path: Path | None = None, **extra: str):
    inputs = make_inputs(made.artifact.inputs, 0)
    options = RunOptions(threads=1, extra=extra)
    return runner().open(made.artifact, path or made.path, inputs, options)


def test_only_the_two_files_are_kept(tiny: ExportedFile) -> None:
    assert sorted(part.name for part in tiny.path.iterdir()) == ["model.bin", "model.param"]


def test_a_batch_is_one_image_after_the_other(tiny: ExportedFile) -> None:
    assert tiny.exported.inputs[0].shape == (2, 3, 32, 32)
    assert tiny.exported.outputs[0].shape == (2, 10)
    inputs = make_inputs(tiny.exported.inputs, 1)
    both = exporter().evaluate(tiny.path, inputs)
    second = exporter().evaluate(tiny.path, [array[1:] for array in inputs])
    assert both is not None
    assert second is not None
    np.testing.assert_array_equal(both[0][1:], second[0])
    with session_of(tiny) as session:
        assert session.settings()["batch"] == "one image at a time"


def test_every_kind_of_layer_is_counted(tmp_path: Path) -> None:
    import torch
    from torch import nn

    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(
                nn.Conv2d(3, 4, 1),
                nn.Conv2d(4, 4, 3, padding=1, groups=4),
                nn.ConvTranspose2d(4, 6, 2, stride=2),
            )
            self.norm = nn.LayerNorm(6)
            self.mix = nn.Linear(6, 10, bias=False)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.mix(self.norm(self.stem(image).flatten(2).transpose(1, 2)))

    model = TinyModel()
    model._module = Tokens().eval()  # type: ignore[assignment]
    counts = made_with(tmp_path, model).exported.counts
    assert counts is not None
    assert counts.operators == {"conv": 3, "linear": 1}
    assert counts.macs == 2 * 32 * 32 * (3 * 4 + 4 * 9 + 4 * 6 * 4 + 4 * 6 * 10)
    assert counts.parameters == sum(p.numel() for p in model.module().parameters())


def test_fp16_halves_the_weights(tiny: ExportedFile, tmp_path: Path) -> None:
    half = made_with(tmp_path, TinyModel(), "fp16")
    assert half.exported.counts is not None
    assert tiny.exported.counts is not None
    assert half.exported.counts.parameters == tiny.exported.counts.parameters
    # Biases stay as they are.
    assert half.exported.counts.parameter_bytes == 2 * (8 * 27 + 80) + 4 * 18
    with session_of(half) as session:
        session.run()
        assert session.settings()["precision"] == "fp32", "widened when it is loaded"


def test_what_ncnn_lacks_is_named(tmp_path: Path) -> None:
    import torch

    class Windows(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            windows = image.reshape(image.shape[0], 3, 4, 8, 4, 8).permute(0, 2, 4, 3, 5, 1)
            return windows.reshape(-1, 64, 3).softmax(1)

    model = TinyModel()
    model._module = Windows().eval()  # type: ignore[assignment]
    with pytest.raises(StageError, match=r"no layer for .*reshape"):
        made_with(tmp_path, model)


def test_parts_of_tensors_are_converted(tmp_path: Path) -> None:
    """pnnx knows slices, not ``narrow``, and shapes as numbers, not ``expand_as``."""
    import torch

    class Roll(torch.nn.Conv2d):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            image = super().forward(image)
            rolled = torch.cat((image.narrow(3, 5, 27), image.narrow(3, 0, 5)), 3)
            return rolled + image.new_zeros(1).expand_as(image)

    model = TinyModel()
    model._module = Roll(3, 3, 1).eval()  # type: ignore[assignment]
    made = made_with(tmp_path, model)
    inputs = make_inputs(made.exported.inputs, 4)
    outputs = exporter().evaluate(made.path, inputs)
    assert outputs is not None
    expected = model.module()(torch.from_numpy(inputs[0])).detach().numpy()
    np.testing.assert_allclose(outputs[0], expected, atol=1e-5)


@pytest.mark.slow
def test_another_process_writes_the_same_bytes(tiny: ExportedFile, tmp_path: Path) -> None:
    path = tmp_path / "again.ncnn"
    code = (
        "from pathlib import Path; from support.models import TinyModel;"
        "from latbench.api import ExportSpec; from latbench_exporters.ncnn.exporter import exporter;"
        f"exporter().export(TinyModel(), ExportSpec(), Path({str(path)!r}))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=child_environment())
    for name in ("model.param", "model.bin"):
        assert (path / name).read_bytes() == (tiny.path / name).read_bytes()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nothing of the kind\n",
        "7767517\n3 3\nInput in0 0 1 in0\n",
        "7767517\n1 1\nInput in0 0 x in0\n",
        "7767517\n2 2\nInput in0 0 1 in0\ntorch.roll r 1 1 in0 out0\n",
    ],
)
def test_a_graph_that_makes_no_sense_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.param").write_text(text)
    with pytest.raises(StageError):
        read(tmp_path)


def test_damaged_weights_do_not_open(tiny: ExportedFile, tmp_path: Path) -> None:
    for name in ("model.param", "model.bin"):
        broken = tmp_path / f"{name}.ncnn"
        broken.mkdir()
        for part in tiny.path.iterdir():
            content = part.read_bytes()
            (broken / part.name).write_bytes(content[:200] if part.name == name else content)
        with pytest.raises(StageError, match="cannot load"), session_of(tiny, broken):
            pass


def test_a_lower_precision_is_said(tiny: ExportedFile) -> None:
    outputs = {}
    for arithmetic in ("fp32", "bf16"):
        with session_of(tiny, arithmetic=arithmetic) as session:
            session.run()
            outputs[arithmetic] = session.outputs()[0]
            assert session.settings().get("precision", "fp32") == arithmetic
    error = np.abs(outputs["fp32"] - outputs["bf16"]).max()
    assert 1e-5 < error < 1e-1


def test_what_the_cpu_does_not_compute_in_is_refused(tiny: ExportedFile, monkeypatch) -> None:
    """ncnn itself takes the option, keeps weights in fp16, and goes on in fp32."""
    import ncnn

    for name in NEEDS["fp16"]:
        monkeypatch.setattr(ncnn, name, lambda: 0)
    with pytest.raises(StageError, match="not support arithmetic fp16") as caught:
        session_of(tiny, arithmetic="fp16").__enter__()
    assert (caught.value.stage, caught.value.kind) == ("open", "unavailable")
    for name in NEEDS["fp16"]:
        monkeypatch.setattr(ncnn, name, lambda: 1)
    with session_of(tiny, arithmetic="fp16") as session:
        assert session.settings()["precision"] == "fp16"
    for name in NEEDS["bf16"]:
        monkeypatch.setattr(ncnn, name, lambda: 0)
    with pytest.raises(StageError, match="not support arithmetic bf16"):
        session_of(tiny, arithmetic="bf16").__enter__()


@pytest.mark.parametrize("extra", [{"arithmetic": "int8"}, {"light_mode": "yes"}])
def test_values_that_make_no_sense_are_refused(tiny: ExportedFile, extra: dict[str, str]) -> None:
    with pytest.raises(UsageError), session_of(tiny, **extra):
        pass


def test_a_converter_that_fails_is_told(tmp_path: Path, monkeypatch) -> None:
    import pnnx

    for status, kind in (("exit 3", "error"), ("kill -SEGV $$", "crash")):
        program = tmp_path / "pnnx"
        program.write_text(f"#!/bin/sh\necho layer unknown >&2\n{status}\n")
        program.chmod(0o755)
        monkeypatch.setattr(pnnx, "EXEC_PATH", str(program))
        with pytest.raises(StageError) as caught:
            made_with(tmp_path, TinyModel())
        assert caught.value.kind == kind
        assert "layer unknown" in (caught.value.detail or "")
