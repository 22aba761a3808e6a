from __future__ import annotations

import io
import json
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from latbench.api import ExportSpec, RunOptions, StageError, UsageError, make_inputs
from latbench_exporters.torch import count, exporter
from latbench_runners.torch.runner import runner
from support.artifacts import ExportedFile
from support.environment import child_environment
from support.models import TinyModel
from support.records import make_artifact

pytestmark = pytest.mark.torch
pytest.importorskip("torch", reason="needs the `export` extra")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ExportedFile:
    path = tmp_path_factory.mktemp("torch") / "tiny.pt2"
    exported = exporter().export(TinyModel(), ExportSpec(), path)
    return ExportedFile(
        path=path, exported=exported, artifact=make_artifact(path, exported, "torch")
    )


def session_of(made: ExportedFile, path: Path | None = None, **extra: str):
    inputs = make_inputs(made.artifact.inputs, 0)
    options = RunOptions(threads=1, extra=extra)
    return runner().open(made.artifact, path or made.path, inputs, options)


def test_nothing_is_pickled_in_the_file(tiny: ExportedFile) -> None:
    with zipfile.ZipFile(tiny.path) as archive:
        for info in archive.infolist():
            content = archive.read(info)
            assert not content.startswith((b"\x80\x02", b"\x80\x04", b"PK")), info.filename
            assert b"site-packages" not in content, "no path of the machine that made it"


@pytest.mark.slow
def test_another_process_writes_the_same_bytes(tiny: ExportedFile, tmp_path: Path) -> None:
    path = tmp_path / "by_another_name.pt2"
    code = (
        "import sys; from pathlib import Path; from support.models import TinyModel;"
        "from latbench.api import ExportSpec; from latbench_exporters.torch import exporter;"
        f"exporter().export(TinyModel(), ExportSpec(), Path({str(path)!r}))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=child_environment())
    assert path.read_bytes() == tiny.path.read_bytes()


def rewritten(path: Path, target: Path, **changed: bytes | None) -> Path:
    """The archive with the content of some members (by the end of their names) replaced."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            content = old.read(info)
            for name, replacement in changed.items():
                if info.filename.endswith(name.replace("__", ".")) and replacement is not None:
                    content = replacement
            new.writestr(info.filename, content)
    return target


def test_parts_that_could_execute_code_are_refused(tiny: ExportedFile, tmp_path: Path) -> None:
    import torch

    pickled = io.BytesIO()
    torch.save((torch.zeros(1),), pickled)
    with zipfile.ZipFile(tiny.path) as archive:
        names = {info.filename.rpartition("/")[2]: info.filename for info in archive.infolist()}
        weights = json.loads(archive.read(names["model_weights_config.json"]))
        graph = json.loads(archive.read(names["model.json"]))
    next(iter(weights["config"].values()))["use_pickle"] = True
    graph["guards_code"] = ["__import__('os').abort()"]
    cases = {
        "model__pt": pickled.getvalue(),
        "model_weights_config__json": json.dumps(weights).encode(),
        "models/model__json": json.dumps(graph).encode(),
    }
    for k, (name, content) in enumerate(cases.items()):
        path = rewritten(tiny.path, tmp_path / f"{k}.pt2", **{name: content})
        with pytest.raises(StageError, match="could execute code"), session_of(tiny, path):
            pass
    path = tmp_path / "library.pt2"
    path.write_bytes(tiny.path.read_bytes())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/data/aotinductor/model/model.so", b"\x7fELF")
    with pytest.raises(StageError, match=r"model\.so"), session_of(tiny, path):
        pass


class Executed:
    """Unpickled, it tells."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_objects_among_the_constants_are_not_unpickled(tiny: ExportedFile, tmp_path: Path) -> None:
    """PyTorch tells them from tensors by their name alone, whatever else is said of them."""
    config = json.dumps({"config": {"x": {**entry_of(tiny), "path_name": "opaque_obj_0"}}})
    path = rewritten(tiny.path, tmp_path / "x.pt2", model_constants_config__json=config.encode())
    with zipfile.ZipFile(path, "a") as archive:
        content = pickle.dumps(Executed(tmp_path / "executed"))
        archive.writestr("archive/data/constants/opaque_obj_0", content)
    with (
        pytest.raises(StageError, match=r"execute code.*opaque_obj_0"),
        session_of(tiny, path),
    ):
        pass
    assert not (tmp_path / "executed").exists()


def entry_of(made: ExportedFile) -> dict[str, object]:
    """What the archive says of one weight."""
    with zipfile.ZipFile(made.path) as archive:
        name = next(name for name in archive.namelist() if name.endswith("weights_config.json"))
        found: dict[str, object] = next(iter(json.loads(archive.read(name))["config"].values()))
    return found


def test_symbols_are_not_evaluated(tiny: ExportedFile, tmp_path: Path) -> None:
    entry = entry_of(tiny)
    symbol = {"as_expr": {"expr_str": "__import__('os').abort()", "hint": None}}
    entry["tensor_meta"]["sizes"][0] = symbol  # type: ignore[index]
    config = json.dumps({"config": {"x": entry}}).encode()
    with zipfile.ZipFile(tiny.path) as archive:
        graph = json.loads(archive.read("archive/models/model.json"))
    graph["graph_module"]["graph"]["tensor_values"]["conv2d"]["sizes"][0] = symbol
    for k, changed in enumerate(
        (
            {"model_weights_config__json": config},
            {"models/model__json": json.dumps(graph).encode()},
        )
    ):
        path = rewritten(tiny.path, tmp_path / f"{k}.pt2", **changed)
        with pytest.raises(StageError, match="code when loaded: expr_str"), session_of(tiny, path):
            pass


@pytest.mark.parametrize("target", ["torch.hub.load", "torch.ops.load_library", "math.sin"])
def test_only_operators_are_called(tiny: ExportedFile, tmp_path: Path, target: str) -> None:
    with zipfile.ZipFile(tiny.path) as archive:
        graph = json.loads(archive.read("archive/models/model.json"))
    graph["graph_module"]["graph"]["nodes"][1]["target"] = target
    content = json.dumps(graph).encode()
    path = rewritten(tiny.path, tmp_path / "x.pt2", **{"models/model__json": content})
    with pytest.raises(StageError, match=target), session_of(tiny, path):
        pass


def test_a_member_by_two_names_is_refused(tiny: ExportedFile, tmp_path: Path) -> None:
    """PyTorch's reader may take the one that was not looked at."""
    path = tmp_path / "x.pt2"
    path.write_bytes(tiny.path.read_bytes())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/models/MODEL.json", archive.read("archive/models/model.json"))
    with pytest.raises(StageError, match=r"models/model\.json"), session_of(tiny, path):
        pass


def test_what_cannot_be_loaded_is_told_in_words(tiny: ExportedFile, tmp_path: Path) -> None:
    with zipfile.ZipFile(tiny.path) as archive:
        graph = json.loads(archive.read("archive/models/model.json"))
    graph["graph_module"]["graph"]["nodes"][1]["target"] = "torch.ops.aten.no_such.default"
    del graph["graph_module"]["signature"]
    path = rewritten(
        tiny.path, tmp_path / "x.pt2", **{"models/model__json": json.dumps(graph).encode()}
    )
    with pytest.raises(StageError, match=r"PyTorch cannot load x\.pt2"), session_of(tiny, path):
        pass


def test_what_the_runner_would_refuse_is_not_written(tmp_path: Path) -> None:
    import torch

    class Counting(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image.flatten()[image.flatten() > 0].sum(0, keepdim=True) + image.nonzero().size(
                0
            )

    model = TinyModel()
    model._module = Counting()  # type: ignore[assignment]
    with pytest.raises(StageError, match="neither a tensor nor a fixed size"):
        exporter().export(model, ExportSpec(), tmp_path / "out.pt2")
    assert not (tmp_path / "out.pt2").exists()


def test_a_damaged_file_is_told_in_words(tiny: ExportedFile, tmp_path: Path, damaged) -> None:
    for content in damaged(tiny.path):
        path = tmp_path / "bad.pt2"
        path.write_bytes(content)
        with pytest.raises(StageError), session_of(tiny, path):
            pass


def test_fp16_halves_the_parameters_and_keeps_the_module(tmp_path: Path) -> None:
    model = TinyModel()
    exported = exporter().export(model, ExportSpec(precision="fp16"), tmp_path / "half.pt2")
    assert exported.counts is not None
    assert exported.counts.parameter_bytes == 2 * exported.counts.parameters
    assert exported.inputs[0].dtype == exported.outputs[0].dtype == "float16"
    assert next(model.module().parameters()).element_size() == 4


def test_work_is_counted_as_it_is_in_the_model() -> None:
    """Constant factors, however they are reached; not products of two activations."""
    import torch
    from torch import nn

    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2)
            self.table = nn.Parameter(torch.rand(5, 6))
            self.head = nn.Linear(6, 3)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            tokens = self.up(image).flatten(2).transpose(1, 2)
            tokens = tokens @ self.table.transpose(0, 1) @ (self.table * 2)
            return self.head(torch.softmax(tokens @ tokens.transpose(1, 2), -1) @ tokens)

    counts = count(torch.export.export(Mixed().eval(), (torch.rand(2, 4, 3, 3),)))
    assert counts is not None
    assert counts.operators == {"conv": 1, "linear": 3}
    up = 2 * 4 * 9 * (3 * 2 * 2)
    assert counts.macs == up + 2 * 36 * (6 * 5 + 5 * 6 + 6 * 3)
    assert counts.parameters == 4 * 3 * 4 + 6 + 30 + 18 + 3


def test_a_model_that_cannot_be_traced_says_why(tmp_path: Path) -> None:
    import torch

    class Undecided(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image * 2 if image.sum() > 0 else image

    model = TinyModel()
    model._module = Undecided()  # type: ignore[assignment]
    with pytest.raises(StageError, match=r"torch\.export cannot trace"):
        exporter().export(model, ExportSpec(), tmp_path / "out.pt2")


def test_layouts_give_the_same_outputs(tiny: ExportedFile) -> None:
    outputs = []
    for layout in ("contiguous", "channels_last"):
        with session_of(tiny, memory_format=layout) as session:
            session.run()
            outputs.append(session.outputs()[0])
            assert session.settings()["memory_format"] == layout
            assert session.settings()["threads"] == "1"
    np.testing.assert_allclose(*outputs, atol=1e-6)


def test_each_node_is_timed(tiny: ExportedFile) -> None:
    with session_of(tiny) as session:
        session.run()
        profile = session.profile(2)
        assert session.placement().units == {"cpu": 5}
    assert profile.operators[0].kind == "aten.conv2d.default"
    assert len(profile.operators) == 5


@pytest.mark.slow
def test_compiled_it_gives_the_same_outputs(tiny: ExportedFile) -> None:
    with session_of(tiny) as session:
        session.run()
        expected = session.outputs()[0]
    with session_of(tiny, mode="compile") as session:
        session.run()
        np.testing.assert_allclose(session.outputs()[0], expected, atol=1e-5)
        assert session.settings()["mode"] == "compile"
        assert session.profile(1) is None


def test_compiling_without_a_compiler_says_so(tiny: ExportedFile, monkeypatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(StageError, match=r"C\+\+ compiler"), session_of(tiny, mode="compile"):
        pass


@pytest.mark.parametrize(
    "extra",
    [
        {"mode": "fast"},
        {"device": "tpu"},
        {"memory_format": "nhwc"},
        {"tf32": "yes"},
        {"tf32": "on"},
        {"tf32": "on", "device": "mps"},
    ],
)
def test_values_that_make_no_sense_are_refused(tiny: ExportedFile, extra: dict[str, str]) -> None:
    with pytest.raises(UsageError), session_of(tiny, **extra):
        pass


def test_a_device_that_is_not_here_is_unavailable(tiny: ExportedFile) -> None:
    import torch

    absent = "mps" if torch.cuda.is_available() else "cuda"
    with pytest.raises(StageError, match=absent) as caught, session_of(tiny, device=absent):
        pass
    assert caught.value.kind == "unavailable"
