from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from latbench.analysis.parity import check_counts, cosine
from latbench.api import (
    ExportSpec,
    RunOptions,
    StageError,
    TensorSpec,
    UsageError,
    make_inputs,
)
from latbench.schema.artifact import Counts
from latbench_exporters.executorch.exporter import _without_chance, exporter
from latbench_exporters.executorch.program import _precision, read
from latbench_runners.executorch import runner
from support.artifacts import ExportedFile
from support.environment import child_environment
from support.models import TinyModel
from support.records import make_artifact

pytestmark = pytest.mark.torch
pytest.importorskip("executorch", reason="needs the `executorch` extra")

MACS = 2 * (8 * 16 * 16 * 27 + 8 * 10)
SETS = [make_inputs(TinyModel.inputs(None), seed) for seed in range(4)]  # type: ignore[arg-type]


def made_with(folder: Path, precision: str = "fp32", **options: str) -> ExportedFile:
    path = folder / "tiny.pte"
    spec = ExportSpec(precision=precision, options=options, calibration=SETS)
    exported = exporter().export(TinyModel(), spec, path)
    return ExportedFile(
        path=path, exported=exported, artifact=make_artifact(path, exported, "executorch")
    )


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ExportedFile:
    return made_with(tmp_path_factory.mktemp("xnnpack"))


@pytest.fixture(scope="module")
def portable(tmp_path_factory: pytest.TempPathFactory) -> ExportedFile:
    return made_with(tmp_path_factory.mktemp("portable"), delegate="portable")


def session_of(made: ExportedFile, path: Path | None = None, seed: int = 0):
    inputs = make_inputs(made.artifact.inputs, seed)
    return runner().open(made.artifact, path or made.path, inputs, RunOptions(threads=1))


def test_work_is_read_back_whoever_does_it(tiny: ExportedFile, portable: ExportedFile) -> None:
    for made in (tiny, portable):
        assert made.exported.counts is not None
        assert made.exported.counts.macs == MACS
        assert made.exported.counts.operators == {"conv": 1, "linear": 1}
        assert made.exported.counts.parameters == 8 * 27 + 8 + 80 + 10
    assert tiny.exported.details["delegates"] == "XnnpackBackend"
    assert tiny.exported.details["partitions"] == "1"
    assert tiny.exported.details["kernels"] == "0"
    assert portable.exported.details["delegates"] == "none"
    assert portable.exported.details["partitions"] == "1"
    assert portable.exported.details["kernels"] == "5"
    assert "1 aten::convolution" in portable.exported.details["kernel_names"]


def test_depthwise_transposed_and_bounded_operators_are_counted(tmp_path: Path) -> None:
    import torch
    from torch import nn

    model = TinyModel()
    model._module = nn.Sequential(
        nn.Conv2d(3, 4, 1),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, padding=1, groups=4),
        nn.Hardtanh(-1, 1),
        nn.ConvTranspose2d(4, 6, 2, stride=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 10),
    ).eval()
    exported = exporter().export(model, ExportSpec(), tmp_path / "all.pte")
    expected = 2 * (32 * 32 * (3 * 4 + 4 * 9 + 4 * 6 * 4) + 6 * 10)
    assert exported.counts is not None
    assert exported.counts.macs == expected
    assert exported.counts.operators == {"conv": 3, "linear": 1}
    assert exported.counts.parameters == sum(
        p.numel() for p in model.module().parameters() if isinstance(p, torch.Tensor)
    )


def test_a_branch_that_was_folded_away_is_found(tiny: ExportedFile) -> None:
    assert tiny.exported.counts is not None
    model = Counts(
        macs=MACS + 100,
        parameters=tiny.exported.counts.parameters,
        parameter_bytes=tiny.exported.counts.parameter_bytes,
        operators={"conv": 2, "linear": 1},
    )
    with pytest.raises(StageError, match="the model has 2 conv"):
        check_counts(model, tiny.exported.counts)


@pytest.mark.slow
def test_another_process_writes_the_same_bytes(tiny: ExportedFile, tmp_path: Path) -> None:
    path = tmp_path / "again.pte"
    code = (
        "from pathlib import Path; from support.models import TinyModel;"
        "from latbench.api import ExportSpec; from latbench_exporters.executorch.exporter import exporter;"
        f"exporter().export(TinyModel(), ExportSpec(), Path({str(path)!r}))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=child_environment())
    assert path.read_bytes() == tiny.path.read_bytes()


@pytest.mark.slow
def test_int8_is_quantised_and_close(tiny: ExportedFile, tmp_path: Path) -> None:
    made = made_with(tmp_path, "int8")
    counts = made.exported.counts
    assert counts is not None
    assert tiny.exported.counts is not None
    assert counts.operators == tiny.exported.counts.operators
    assert counts.macs == MACS
    assert counts.parameter_bytes < 0.5 * tiny.exported.counts.parameter_bytes
    assert read(made.path).precision == "int8"
    inputs = make_inputs(made.artifact.inputs, 7)
    exact, rough = (exporter().evaluate(m.path, inputs) for m in (tiny, made))
    assert exact is not None
    assert rough is not None
    assert 0.95 < (cosine(exact, rough) or 0) < 1
    with pytest.raises(StageError, match="calibration"):
        exporter().export(TinyModel(), ExportSpec(precision="int8"), tmp_path / "none.pte")


@pytest.mark.slow
def test_core_ml_makes_a_file_that_cannot_run_here(tmp_path: Path) -> None:
    pytest.importorskip("coremltools")
    if sys.platform == "darwin":
        pytest.skip("it can run here")
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    one, two = (made_with(folder, "fp16", delegate="coreml") for folder in folders)
    assert one.path.read_bytes() == two.path.read_bytes()
    assert one.exported.details["delegates"] == "CoreMLBackend"
    assert "traced graph" in one.exported.details["counts"]
    assert read(one.path).precision == "unknown", "what Core ML computes in is not read back"
    assert exporter().evaluate(one.path, SETS[0]) is None
    with pytest.raises(StageError, match="does not have CoreMLBackend") as caught, session_of(one):
        pass
    assert caught.value.kind == "unavailable"


def test_partitions_are_runs_of_one_unit(tmp_path: Path) -> None:
    """A kernel between two delegated parts makes three; kernels in a row are one."""
    import torch
    from torch import nn

    class Between(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            found = self.first(image)
            return self.second(torch.erf(torch.erf(found)))

    model = TinyModel()
    model._module = Between().eval()  # type: ignore[assignment]
    details = exporter().export(model, ExportSpec(), tmp_path / "between.pte").details
    assert details["kernel_names"] == "2 aten::erf"
    assert details["partitions"] == "3"


@pytest.mark.parametrize(
    ("types", "kernels", "name"),
    [
        ({"fp32"}, [], "fp32"),
        ({"fp32", "fp16"}, [], "fp16"),
        ({"fp32", "bf16"}, [], "bf16"),
        ({"fp32", "qint8", "qcint8", "qint32"}, [], "int8"),
        ({"fp32", "qdint8", "qcint8"}, [], "unknown"),
        ({"fp32", "qcint4"}, [], "unknown"),
        ({"fp32"}, ["quantized_decomposed::quantize_per_tensor"], "unknown"),
        ({"fp64"}, [], "unknown"),
    ],
)
def test_precision_has_a_name_only_where_it_is_known(
    types: set[str], kernels: list[str], name: str
) -> None:
    assert _precision(types, (), kernels) == name


def test_uuids_follow_the_content() -> None:
    drawn = b'{"id": "B79FA7B8-0A95-41AE-A356-49AFF40ED5ED", "same": '
    drawn += b'"b79fa7b8-0a95-41ae-a356-49aff40ed5ed"}'
    again = drawn.replace(b"B79F", b"1234").replace(b"b79f", b"1234")
    assert _without_chance(drawn) == _without_chance(again) != drawn
    assert len(_without_chance(drawn)) == len(drawn)
    one, other = _without_chance(drawn).split(b'"')[3::4]
    assert one == other.upper()
    assert _without_chance(drawn + b" ").split(b'"')[3] != one


def test_the_parts_of_a_package_are_in_one_order() -> None:
    """They are listed by their UUIDs, whose order is drawn too."""
    first, second = "11111111-" + "2222-" * 3 + "3" * 12, "99999999-" + "2222-" * 3 + "3" * 12
    manifests = []
    for model, weights in ((first, second), (second, first)):
        parts = {model: {"name": "model"}, weights: {"name": "weights"}}
        whole = {"itemInfoEntries": dict(sorted(parts.items())), "rootModelIdentifier": model}
        manifests.append(_without_chance(json.dumps(whole, indent=4).encode()))
    assert manifests[0] == manifests[1]
    root = json.loads(manifests[0])
    assert root["itemInfoEntries"][root["rootModelIdentifier"]] == {"name": "model"}


def test_ready_files_are_taken_as_they_are(tiny: ExportedFile, tmp_path: Path) -> None:
    out = tmp_path / "out.pte"
    exported = exporter().adopt(tiny.path, ExportSpec(batch=2, resolution=(32, 32)), out)
    assert out.read_bytes() == tiny.path.read_bytes()
    assert exported.precision == "fp32"
    assert exported.counts == tiny.exported.counts
    for spec in (
        ExportSpec(batch=3),
        ExportSpec(resolution=(64, 64)),
        ExportSpec(precision="int8"),
        ExportSpec(options={"delegate": "xnnpack"}),
        ExportSpec(dims={"N": 2}),
    ):
        with pytest.raises(UsageError):
            exporter().adopt(tiny.path, spec, tmp_path / "refused.pte")


def test_sizes_that_no_input_has_are_refused(
    tiny: ExportedFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for shape, spec, what in (
        ((2, 8), ExportSpec(resolution=(8, 8)), "resolution"),
        ((), ExportSpec(batch=1), "batch"),
    ):
        inputs = (TensorSpec(name="input_0", shape=shape, dtype="float32"),)
        told = replace(read(tiny.path), inputs=inputs)
        monkeypatch.setattr(
            import_module("latbench_exporters.executorch.exporter"),
            "read",
            lambda path, told=told: told,
        )
        with pytest.raises(UsageError, match=f"no input of the file has a {what}"):
            exporter().adopt(tiny.path, spec, tmp_path / "refused.pte")


def test_damaged_files_are_told_in_words(tiny: ExportedFile, tmp_path: Path, damaged) -> None:
    for content in damaged(tiny.path):
        path = tmp_path / "bad.pte"
        path.write_bytes(content)
        with pytest.raises(StageError, match=r"bad\.pte"):
            exporter().adopt(path, ExportSpec(), tmp_path / "out.pte")
        with pytest.raises(StageError), session_of(tiny, path):
            pass


def test_the_plan_may_reuse_the_inputs_place(portable: ExportedFile) -> None:
    """Executed again without setting its inputs this program gives something else."""
    inputs = make_inputs(portable.artifact.inputs, 3)
    expected = exporter().evaluate(portable.path, inputs)
    assert expected is not None
    with session_of(portable, seed=3) as session:
        for _ in range(3):
            session.run()
            np.testing.assert_array_equal(session.outputs()[0], expected[0])


def test_profiles_name_kernels_and_what_a_delegate_does(
    tiny: ExportedFile, portable: ExportedFile
) -> None:
    with session_of(tiny) as session:
        session.run()
        profile = session.profile(3)
        placement = session.placement()
    kinds = [operator.kind for operator in profile.operators]
    assert any(kind.startswith("Convolution") for kind in kinds)
    assert any(kind.startswith("Fully Connected") for kind in kinds)
    assert {o.unit for o in profile.operators} == {"delegate"}
    assert placement.units == {"XnnpackBackend": 7}
    assert (placement.known, placement.partitions) == ("planned", 1)
    with session_of(portable) as session:
        session.run()
        profile = session.profile(3)
        assert session.placement().units == {"portable kernels": 5}
    assert profile.operators[0].kind == "convolution.out"
    assert len(profile.operators) == 5


@pytest.mark.parametrize(
    ("precision", "options"),
    [("fp32", {"delegate": "qnn"}), ("int8", {"delegate": "portable"})],
)
def test_values_that_make_no_sense_are_refused(
    tmp_path: Path, precision: str, options: dict[str, str]
) -> None:
    with pytest.raises(UsageError, match="delegate"):
        made_with(tmp_path, precision, **options)
