"""What goes in can be said: shapes and contents of inputs, and which outputs are accepted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support import onnx_files, tflite_files
from support.command_line import QUICK, Latbench

ONE = ("--threads", "1", *QUICK)

NETWORKS = """
import torch
from torch import nn


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, left, right):
        return self.layer(left) - self.layer(right)


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(9, 4)

    def forward(self, ids):
        return self.table(ids)


class Root(nn.Module):
    input_shape = (1, 8, 8)

    def forward(self, x):
        return x ** 0.5


class Example(nn.Linear):
    def __init__(self):
        super().__init__(6, 3)
        self.example_input_array = torch.zeros(1, 6)
"""


@pytest.fixture
def networks(tmp_path: Path) -> Path:
    path = tmp_path / "networks.py"
    path.write_text(NETWORKS)
    return path


def record_of(latbench: Latbench, *arguments: str | Path) -> Any:
    ended = latbench("run", *arguments, *ONE, "--json")
    assert ended.status == 0, ended
    return ended.json["record"]


def test_unnamed_axes_and_a_state_whose_first_axis_is_not_the_batch(
    latbench: Latbench, tmp_path: Path
) -> None:
    path = onnx_files.state(tmp_path / "s.onnx")
    refused = latbench("run", path, "--batch", "1", *ONE)
    assert refused.status == 2
    assert "dynamic axes of audio, state" in refused.err
    assert "--shape audio=1x? --shape state=2x?x16" in refused.err
    assert latbench("table", "--json").json == [], "a refused request leaves no record"
    found = record_of(latbench, path, "--shape", "audio=1x64", "--shape", "state=2x1x16")
    shapes = [tensor["shape"] for tensor in found["artifact"]["inputs"]]
    assert shapes == [[1, 64], [2, 1, 16]]
    assert found["request"]["shapes"] == {"audio": [1, 64], "state": [2, 1, 16]}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--shape", "adio=1x64"), "no input 'adio'"),
        (("--shape", "audio=1x64x2"), "'audio' has 2 axes, but 1x64x2 has 3"),
        (("--shape", "state=3x1x16"), "axis 0 of input 'state' is fixed at 2"),
        (("--shape", "1x64"), "has 2 inputs"),
        (("--shape", "audio=1xT"), "is not a shape"),
        (("--shape", "audio=1x64", "--shape", "audio=1x65"), "gives input 'audio' twice"),
        (
            ("--shape", "audio=2x64", "--batch", "1"),
            "two requested sizes: 2 by --shape, 1 by --batch",
        ),
        (("--input", "sound=1"), "no input 'sound'"),
        (("--input", "audio=missing.npy"), "missing.npy: No such file"),
        (("--input", "audio=nonsense"), "cannot read the input 'nonsense'"),
        (("--tolerance", "1"), "must be above 0 and below 1"),
        (("--signature", "x"), "have no signatures"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(
    latbench: Latbench, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    path = onnx_files.state(tmp_path / "s.onnx")
    given = {text.partition("=")[0] for text in arguments}
    rest = [
        text
        for name, text in (("audio", "audio=1x64"), ("state", "state=2x1x16"))
        if name not in given or "--input" in arguments
        for text in ("--shape", text)
    ]
    ended = latbench("run", path, *arguments, *rest, *ONE)
    assert ended.status == 2, ended
    assert words in ended.err
    registry = tmp_path / "registry.db"
    assert not registry.exists() or latbench("table", "--json").json == []


def test_a_value_that_decides_the_work_is_said_and_can_be_given(
    latbench: Latbench, tmp_path: Path
) -> None:
    path = onnx_files.gate(tmp_path / "g.onnx")
    seeded = latbench("run", path, *ONE, "--json")
    assert "seeded here: rate=" in seeded.err
    assert "rate=" in seeded.json["record"]["artifact"]["details"]["decided_by"]
    given = latbench("run", path, "--input", "rate=16000", *ONE, "--json")
    assert "seeded" not in given.err
    record = given.json["record"]
    assert record["artifact"]["inputs"][1]["content"] == "16000"
    assert "decided_by" not in record["artifact"]["details"]
    shown = latbench("show", record["id"]).out
    assert "rate scalar = 16000" in shown


def test_a_length_is_timed_and_counted_at_its_value(latbench: Latbench, tmp_path: Path) -> None:
    path = onnx_files.length(tmp_path / "l.onnx")
    outputs = {}
    for value in ("10", "64"):
        found = record_of(latbench, path, "--input", f"length={value}")
        outputs[value] = found["artifact"]["outputs"][0]["shape"]
        counts = found["artifact"]["counts"]
        assert counts is None or counts["macs"] == 8 * 4 * 3 * int(value)
    assert outputs == {"10": [1, 10], "64": [1, 64]}
    both = latbench("compare", f"{path},input=length=10", f"{path},input=length=64", *ONE, "--json")
    records = [latbench("show", both.json[side], "--json").json["record"] for side in "ab"]
    contents = [record["artifact"]["inputs"][0]["content"] for record in records]
    assert contents == ["10", "64"]


def test_arrays_come_from_files(latbench: Latbench, tmp_path: Path) -> None:
    path = onnx_files.length(tmp_path / "l.onnx")
    audio = np.full((1, 4, 64), 2, np.float32)
    np.savez(tmp_path / "both.npz", length=np.array([7]), audio=audio)
    found = record_of(latbench, path, "--input", tmp_path / "both.npz")
    assert found["artifact"]["outputs"][0]["shape"] == [1, 7]
    digests = [tensor["content"] for tensor in found["artifact"]["inputs"]]
    assert digests[0].endswith("#length")
    assert digests[1].endswith("#audio")
    again = record_of(latbench, path, "--input", tmp_path / "both.npz")
    assert again["artifact"] == found["artifact"]
    # Other bytes under the same name are other inputs.
    np.savez(tmp_path / "both.npz", length=np.array([9]), audio=audio)
    other = record_of(latbench, path, "--input", tmp_path / "both.npz")
    assert other["artifact"]["outputs"][0]["shape"] == [1, 9]


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.array([7.0]), "has type float64, the input int64"),
        (np.array([[7]]), "has 1 axes, but 1x1 has 2"),
        (np.array([{}], dtype=object), "without objects"),
        (None, "cannot read the arrays"),
    ],
)
def test_arrays_that_do_not_fit(latbench: Latbench, tmp_path: Path, array: Any, words: str) -> None:
    path = onnx_files.length(tmp_path / "l.onnx")
    if array is None:
        (tmp_path / "a.npy").write_bytes(b"not an array")
    else:
        np.save(tmp_path / "a.npy", array, allow_pickle=True)
    ended = latbench("run", path, "--input", "length=a.npy", *ONE)
    assert ended.status == 2, ended
    assert words in ended.err + ended.out


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("1.5", "holds whole numbers (int64)"),
        ("1e30", "out of range"),
        ("9:1", "not a range"),
        ("1,2", "has 1 elements, but 2 values"),
        ("random:x", "random:SEED"),
    ],
)
def test_values_that_do_not_fit(
    latbench: Latbench, tmp_path: Path, content: str, words: str
) -> None:
    path = onnx_files.length(tmp_path / "l.onnx")
    ended = latbench("run", path, "--input", f"length={content}", *ONE)
    assert ended.status == 2, ended
    assert words in ended.err


def test_indices_stay_within_their_tables(latbench: Latbench, tmp_path: Path) -> None:
    path = onnx_files.lookup(tmp_path / "l.onnx")
    sizes = ("--dim", "batch=1", "--dim", "seq=8")
    failed = latbench("run", path, *sizes, *ONE)
    assert failed.status == 3
    assert "type_ids of seeded zeros and ones" in failed.out
    assert "--input NAME=VALUE" in failed.out
    found = record_of(latbench, path, *sizes, "--input", "ids=0:49", "--input", "type_ids=0")
    assert [tensor["content"] for tensor in found["artifact"]["inputs"]] == ["0:49", "0"]


def test_inputs_of_a_range_the_network_is_made_for(
    latbench: Latbench, tmp_path: Path, networks: Path
) -> None:
    path = onnx_files.gamma(tmp_path / "g.onnx")
    failed = latbench("run", path, *ONE)
    assert failed.status == 3
    assert "not finite for x of seeded noise" in failed.out
    assert record_of(latbench, path, "--input", "0:1")["outcome"]["status"] == "measured"


def test_an_axis_may_be_empty(latbench: Latbench, tmp_path: Path) -> None:
    found = record_of(latbench, onnx_files.empty_axis(tmp_path / "e.onnx"))
    assert found["artifact"]["inputs"][0]["shape"] == [1, 0, 4]


def test_random_outputs_are_timed_only_when_asked_and_labelled(
    latbench: Latbench, tmp_path: Path
) -> None:
    path = onnx_files.noisy(tmp_path / "n.onnx")
    refused = latbench("run", path, *ONE)
    assert refused.status == 3
    assert "not deterministic: it has RandomNormalLike" in refused.out
    assert "--allow-nondeterministic" in refused.out
    timed = latbench("run", path, "--allow-nondeterministic", *ONE)
    assert timed.status == 0, timed
    assert "outputs      the outputs were not checked" in timed.out


@pytest.mark.parametrize("given", ["text:red, blue", "t.npy"])
def test_strings_are_given(latbench: Latbench, tmp_path: Path, given: str) -> None:
    np.save(tmp_path / "t.npy", np.array([["blue", "red"]]))
    onnx_files.words(tmp_path / "w.onnx")
    record = record_of(latbench, "w.onnx", "--input", f"t={given}", "--profile")
    (spec,) = record["artifact"]["inputs"]
    assert (spec["dtype"], spec["shape"]) == ("string", [1, 2])
    assert spec["content"] == (given if given.startswith("text:") else spec["content"])
    settings = record["runtime"]["settings"]
    assert settings["binding"] == "none: ONNX Runtime binds no strings"
    assert record["outcome"]["profile"]["operators"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((), "input 't' holds strings, and none is given"),
        (("--input", "0:1"), "input 't' holds strings, not 0:1"),
        (("--input", "t=n.npy"), "has type int64, the input string"),
        (("--input", "t=i.png"), "holds strings, not the pixels"),
    ],
)
def test_strings_that_are_none(
    latbench: Latbench, tmp_path: Path, given: tuple[str, ...], words: str
) -> None:
    np.save(tmp_path / "n.npy", np.array([[1, 2]]))
    pytest.importorskip("PIL.Image").new("RGB", (4, 4)).save(tmp_path / "i.png")
    ended = latbench("run", onnx_files.words(tmp_path / "w.onnx"), *given, *ONE)
    assert ended.status == 2, ended
    assert words in ended.err


def test_outputs_without_numbers_are_not_checked(latbench: Latbench, tmp_path: Path) -> None:
    """As those of classifiers that answer with the name of a class."""
    ran = latbench("run", onnx_files.with_strings(tmp_path / "s.onnx"), "--input", "text:a", *ONE)
    assert ran.status == 0, ran
    assert "no output is a tensor of numbers: y (a tensor of strings)" in ran.out


def test_strings_of_tflite_files(latbench: Latbench, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    path = tflite_files.words(tmp_path / "w.tflite", echo=True)
    asked = latbench("run", path, *ONE)
    assert asked.status == 2
    assert "input 't' holds strings, and none is given" in asked.err
    assert "--input t=text:VALUE" in latbench("inspect", path).out
    record = record_of(latbench, path, "--input", "text:red", "--option", "xnnpack=off")
    assert record["outcome"]["checks"][0]["max_rel_error"] == 0
    assert record["artifact"]["details"]["not_compared"] == "t (string)"


@pytest.mark.torch
def test_networks_of_several_inputs(latbench: Latbench, networks: Path) -> None:
    pair = f"{networks}:Pair"
    asked = latbench("run", "--model", pair, *ONE)
    assert asked.status == 2
    assert "takes 2 inputs (left, right)" in asked.err
    assert "--shape left=" in asked.err
    found = record_of(
        latbench,
        "--model",
        pair,
        "--shape",
        "left=1x4",
        "--shape",
        "right=1x4",
        "--input",
        "right=0",
    )
    assert [tensor["name"] for tensor in found["artifact"]["inputs"]] == ["left", "right"]
    assert found["artifact"]["inputs"][1]["content"] == "0"
    assert found["artifact"]["parity"]["max_rel_error"] < 1e-5


@pytest.mark.torch
def test_integers_ranges_and_declared_examples(latbench: Latbench, networks: Path) -> None:
    words = f"{networks}:Words"
    floats = latbench("export", words, "--shape", "1x3", "--output", "w.onnx")
    assert floats.status == 3
    assert "--shape NAME=1x128:int64" in floats.err
    done = latbench(
        *("export", words, "--shape", "ids=1x3:int64", "--input", "ids=0:8", "--json"),
        *("--output", "w.onnx"),
    )
    (tensor,) = done.json["artifact"]["inputs"]
    assert (tensor["name"], tensor["dtype"], tensor["content"]) == ("ids", "int64", "0:8")
    assert latbench("export", f"{networks}:Root", "--output", "r.onnx").status == 3
    assert (
        latbench("export", f"{networks}:Root", "--input", "0:1", "--output", "r.onnx").status == 0
    )
    example = latbench("export", f"{networks}:Example", "--json", "--output", "e.onnx")
    assert example.json["artifact"]["inputs"][0]["shape"] == [1, 6]


@pytest.mark.torch
def test_a_shape_is_the_same_as_batch_and_resolution(latbench: Latbench, tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(
        "from torch import nn\n\n\ndef make():\n    return nn.Conv2d(3, 4, 3)\n"
    )
    digests = {
        latbench("export", "one.py:make", *sizes, "--output", "o.onnx", "--json").json["artifact"][
            "sha256"
        ]
        for sizes in (
            ("--shape", "2x3x16x24"),
            ("--shape", "input=2x3x16x24"),
            ("--batch", "2", "--resolution", "16x24"),
        )
    }
    assert len(digests) == 1
    twice = latbench("export", "one.py:make", "--shape", "2x3x16x24", "--batch", "1")
    assert twice.status == 2
    assert "--batch 1 contradicts --shape 2x3x16x24" in twice.err


def test_an_image_is_an_input(latbench: Latbench, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    image.new("RGB", (20, 30), (10, 200, 30)).save(tmp_path / "i.png")
    path = onnx_files.classifier(tmp_path / "c.onnx")
    found = record_of(latbench, path, "--input", "i.png")
    assert found["artifact"]["inputs"][0]["content"].startswith("sha256:")
    text = latbench("run", onnx_files.identity(tmp_path / "x.onnx"), "--input", "i.png", *ONE)
    assert text.status == 2
    assert "not an image of 1 or 3 channels" in text.err


def test_sweeps_take_shapes_and_inputs(latbench: Latbench, tmp_path: Path) -> None:
    path = onnx_files.length(tmp_path / "l.onnx")
    (tmp_path / "s.yaml").write_text(
        f"models: [{path}]\nthreads: [1]\nprotocol: latbench-fixed@1\n"
        "inputs: ['length=5']\n"
        f"points:\n- {{model: {path}, threads: 1, inputs: ['length=6']}}\n"
    )
    swept = latbench("run", "--sweep", "s.yaml", *QUICK[2:], "--json")
    assert swept.status == 0, swept
    assert len(swept.json["rows"]) == 2
    rows = latbench("history", "--model", path, "--json").json
    assert {row["input"].partition(" + ")[0] for row in rows} == {"length 1 = 5", "length 1 = 6"}


def test_a_tolerance_is_recorded(latbench: Latbench, tmp_path: Path) -> None:
    path = onnx_files.classifier(tmp_path / "c.onnx")
    found = record_of(latbench, path, "--tolerance", "0.001")
    assert found["request"]["tolerance"] == 0.001
    assert found["outcome"]["checks"][0]["tolerance"] == 0.001
