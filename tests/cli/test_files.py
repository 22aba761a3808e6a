"""Ready ONNX files, a user's own models, the cache and the places that are written to."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from support import onnx_files
from support.command_line import COMMAND, QUICK, Latbench, in_process, wait_for_workers
from support.environment import TINY, python_path


def cache_of(folder: Path) -> dict[str, str]:
    return {"LATBENCH_CACHE": str(folder / "cache")}


def test_a_ready_file_runs_without_torch(latbench: Latbench, tmp_path: Path) -> None:
    onnx_files.classifier(tmp_path / "c.onnx")
    ran = latbench("run", "--model", "c.onnx", "--threads", "1", *QUICK, "--json")
    assert ran.status == 0, ran.err
    record = ran.json["record"]
    assert record["model"]["source"] == "file"
    assert record["artifact"]["counts"]["macs"] == 4 * 27 * 64
    assert record["runtime"]["settings"]["threads"] == "1"
    assert record["runtime"]["settings"]["provider"] == "CPUExecutionProvider"
    assert record["outcome"]["checks"][0]["max_rel_error"] <= 1e-4


def test_dynamic_axes_need_a_value(latbench: Latbench, tmp_path: Path) -> None:
    onnx_files.classifier(tmp_path / "d.onnx", batch="N", side="S")
    ended = latbench("run", "--model", "d.onnx", *QUICK)
    assert ended.status == 2
    assert "no size given for the dynamic axes of image" in ended.err
    assert "--shape image=?x3x?x? with a number for each ?" in ended.err
    assert "--batch" in ended.err
    assert latbench("table", "--json").json == [], "a refused request leaves no record"
    ran = latbench(
        "run", "--model", "d.onnx", "--batch", "3", "--resolution", "16", *QUICK, "--json"
    )
    assert ran.status == 0, ran
    assert ran.json["record"]["artifact"]["inputs"][0]["shape"] == [3, 3, 16, 16]
    assert ran.json["record"]["artifact"]["outputs"][0]["shape"] == [3, 4]
    named = latbench(
        *("run", "--model", "d.onnx", "--dim", "N=2", "--dim", "S=8"), *QUICK, "--json"
    )
    assert named.json["record"]["artifact"]["inputs"][0]["shape"] == [2, 3, 8, 8]


def test_a_fixed_axis_stays_fixed(latbench: Latbench, tmp_path: Path) -> None:
    onnx_files.classifier(tmp_path / "c.onnx")
    ended = latbench("run", "--model", "c.onnx", "--batch", "4", *QUICK)
    assert ended.status == 2
    assert "fixed at 1" in ended.err


BAD = {
    "empty": lambda path: path.write_bytes(b""),
    "garbage": lambda path: path.write_bytes(b"\x08\x07 this is no model" * 50),
    "truncated": lambda path: path.write_bytes(
        onnx_files.classifier(path).read_bytes()[: path.stat().st_size // 2]
    ),
    "no inputs": onnx_files.without_inputs,
    "custom operator": onnx_files.with_custom_operator,
    "escaping data": lambda path: onnx_files.with_escaping_data(path, "../../../../etc/passwd"),
    "absolute data": lambda path: onnx_files.with_escaping_data(path, "/etc/passwd"),
    "cycle": onnx_files.with_cycle,
    "greedy": onnx_files.asking_for_much_memory,
}
WORDS = {
    "no inputs": "no inputs",
    "custom operator": "acme.secret::Warp",
}


@pytest.mark.parametrize("what", BAD)
def test_bad_files_are_refused_in_words(latbench: Latbench, tmp_path: Path, what: str) -> None:
    BAD[what](tmp_path / "bad.onnx")
    ended = latbench("run", "--model", "bad.onnx", *QUICK)
    assert ended.status in (2, 3), ended
    told = ended.out + ended.err
    assert WORDS.get(what, "bad.onnx") in told or "cannot execute" in told, told
    assert "root:" not in told


def test_lack_of_memory_is_told_as_such(latbench: Latbench, tmp_path: Path) -> None:
    onnx_files.asking_for_much_memory(tmp_path / "greedy.onnx")
    ended = latbench("run", "--model", "greedy.onnx", *QUICK, "--json")
    assert ended.status == 3
    failure = ended.json["record"]["outcome"]["failure"]
    assert failure["kind"] == "out_of_memory"
    assert "smaller batch" in failure["hint"]


def test_workspaces_of_killed_programs_are_removed(latbench: Latbench, tmp_path: Path) -> None:
    onnx_files.classifier(tmp_path / "c.onnx")
    old, new = (tmp_path / "cache/tmp" / name for name in ("old", "new"))
    for left in (old, new):
        left.mkdir(parents=True)
        (left / "half.onnx").write_bytes(b"half")
    os.utime(old, (0, 0))
    assert latbench("run", "--model", "c.onnx", *QUICK, **cache_of(tmp_path)).status == 0
    assert [path.name for path in (tmp_path / "cache/tmp").iterdir()] == ["new"]


@pytest.mark.parametrize("name", ["missing.onnx", "folder.onnx"])
def test_no_file_at_all(latbench: Latbench, tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.onnx").mkdir()
    ended = latbench("run", "--model", name, *QUICK)
    assert ended.status == 2
    assert name in ended.err


@pytest.mark.torch
def test_a_users_model_from_export_to_record(latbench: Latbench, tmp_path: Path) -> None:
    ran = latbench("run", "--model", TINY, *QUICK, "--json")
    assert ran.status == 0, ran
    artifact = ran.json["record"]["artifact"]
    assert artifact["counts"] == artifact["model_counts"]
    assert artifact["parity"]["max_rel_error"] < 1e-5
    assert artifact["inputs"][0]["shape"] == [1, 3, 32, 32]
    # BatchNorm is folded: scale and shift are gone into the convolution.
    assert artifact["model_counts"]["parameters"] == 8 * 27 + 8 + 8 * 10 + 10
    assert artifact["trained_parameters"] == 8 * 27 + 8 + 2 * 8 + 8 * 10 + 10
    batched = latbench(
        "run", "--model", TINY, "--batch", "4", "--resolution", "48x64", *QUICK, "--json"
    )
    assert batched.json["record"]["artifact"]["inputs"][0]["shape"] == [4, 3, 48, 64]


@pytest.mark.torch
def test_a_cache_hit_imports_no_torch(latbench: Latbench, tmp_path: Path) -> None:
    first = latbench("run", "--model", TINY, *QUICK, "--json", **cache_of(tmp_path))
    broken = tmp_path / "broken"
    (broken / "torch").mkdir(parents=True)
    (broken / "torch/__init__.py").write_text("raise RuntimeError('torch was imported')")
    path = python_path(broken)
    second = latbench(
        "run", "--model", TINY, *QUICK, "--json", PYTHONPATH=path, **cache_of(tmp_path)
    )
    assert second.status == 0, second
    assert second.json["record"]["artifact"] == first.json["record"]["artifact"]
    fresh = latbench(
        "run", "--model", TINY, "--no-cache", *QUICK, PYTHONPATH=path, **cache_of(tmp_path)
    )
    assert fresh.status == 3
    assert "torch was imported" in fresh.out


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["artifacts", "references", "keys"])
def test_a_changed_cache_file_is_not_used(latbench: Latbench, tmp_path: Path, kind: str) -> None:
    first = latbench("run", "--model", TINY, *QUICK, "--json", **cache_of(tmp_path))
    (victim,) = (tmp_path / "cache" / kind).iterdir()
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 0xFF
    victim.write_bytes(content)
    again = latbench("run", "--model", TINY, *QUICK, "--json", **cache_of(tmp_path))
    assert again.status == 0, again
    assert "changed on disk" in again.err
    assert again.json["record"]["artifact"] == first.json["record"]["artifact"]
    assert [path.name for path in victim.parent.iterdir() if "changed" in path.name]
    quiet = latbench("run", "--model", TINY, *QUICK, **cache_of(tmp_path))
    assert quiet.err == ""


@pytest.mark.torch
def test_an_unavailable_backend_falls_back_and_says_so(latbench: Latbench) -> None:
    unplugged = {"LATBENCH_FAKE_UNAVAILABLE": "1"}
    arguments = ("run", "--model", TINY, "--backend", "fake", *QUICK)
    ran = latbench(*arguments, **unplugged)
    assert ran.status == 0, ran
    assert ran.out.splitlines()[0].startswith(
        "FALLBACK: fake could not run here (the fake device is unplugged); what follows is onnxruntime"
    )
    record = latbench(*arguments, "--json", **unplugged).json["record"]
    assert (record["request"]["backend"], record["backend"]) == ("fake", "onnxruntime")
    found = latbench("history", "--model", TINY, "--json").json
    assert [(row["backend"], row["fell_back_to"]) for row in found] == [("fake", "onnxruntime")] * 2
    assert latbench("history", "--backend", "onnxruntime", "--json").json == []
    strict = latbench(*arguments, "--strict", "--json", **unplugged)
    assert strict.status == 3
    failure = strict.json["record"]["outcome"]["failure"]
    assert (failure["stage"], failure["kind"]) == ("probe", "unavailable")
    assert failure["hint"] == "plug it in"


@pytest.mark.torch
def test_export_writes_a_checked_file(latbench: Latbench, tmp_path: Path) -> None:
    ended = latbench("export", "--model", TINY, "--output", "tiny.onnx")
    assert ended.status == 0, ended
    assert "parity" in ended.out
    ran = latbench("run", "--model", "tiny.onnx", *QUICK)
    assert ran.status == 0
    assert [path.name for path in tmp_path.glob("*.onnx*")] == ["tiny.onnx"]
    assert latbench("export", "--model", TINY, "--output", "no/such/folder/x.onnx").status == 3
    assert latbench("export", "--model", TINY, "--format", "onxx").status == 2


@pytest.mark.torch
@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("def factory(): raise ValueError('no weights today')", "no weights today"),
        ("def factory(): return 5", "int"),
        ("def other(): pass", "factory"),
        ("import nosuchmodule\ndef factory(): pass", "nosuchmodule"),
        ("def factory(:", "bad.py"),
        ("import os\ndef factory(): os._exit(9)", "status 9"),
        ("import os, signal\ndef factory(): os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
    ],
)
def test_a_users_mistakes_are_told(
    latbench: Latbench, tmp_path: Path, code: str, words: str
) -> None:
    (tmp_path / "bad.py").write_text(code)
    ended = latbench("run", "--model", "bad.py:factory", *QUICK)
    assert ended.status in (2, 3)
    assert words in ended.out + ended.err


@pytest.mark.torch
def test_files_that_a_users_code_reads_are_told(latbench: Latbench, tmp_path: Path) -> None:
    """They are no part of its identity, so an artifact of before would be found again."""
    (tmp_path / "net.py").write_text(
        "import json, pathlib, torch\n"
        "def factory():\n"
        "    size = json.loads(pathlib.Path(__file__).with_name('size.json').read_text())\n"
        "    pool = torch.nn.AdaptiveAvgPool2d(1)\n"
        "    return torch.nn.Sequential(torch.nn.Conv2d(3, size, 3), pool, torch.nn.Flatten())\n"
    )
    (tmp_path / "size.json").write_text("4")
    for _ in range(2):  # made, and found in the cache
        ran = latbench("run", "--model", "net.py:factory", *QUICK, "--json")
        assert ran.status == 0, ran
        assert "size.json, which is not part of its identity" in ran.err
        assert ran.json["record"]["artifact"]["details"]["reads"] == str(tmp_path / "size.json")


@pytest.mark.torch
@pytest.mark.parametrize(
    ("package", "imports"),
    [
        (False, "from .blocks import"),
        (False, "from net.blocks import"),
        (True, "from .blocks import"),
        (True, "from net.blocks import"),
        (True, "from blocks import"),
    ],
)
def test_a_file_imports_from_its_own_folder(
    environment: dict[str, str], tmp_path: Path, package: bool, imports: str
) -> None:
    """Two versions of a package, the second one also on PYTHONPATH: each side gets its own."""
    environment["PYTHONPATH"] = python_path(tmp_path / "head")
    for version, channels in (("base", 8), ("head", 32)):
        folder = tmp_path / version / "net"
        folder.mkdir(parents=True)
        if package:
            (folder / "__init__.py").touch()
        (folder / "blocks.py").write_text(
            f"import torch\ndef block(): return torch.nn.Conv2d(3, {channels}, 3)\n"
        )
        (folder / "model.py").write_text(
            f"import torch\n{imports} block\n"
            "def make(): return torch.nn.Sequential(\n"
            "    block(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())\n"
        )
    found = {}
    for version in ("base", "head"):
        factory = f"{version}/net/model.py:make"
        # Not as a program: nothing but the export's worker imports the factory.
        made = in_process(
            ["export", factory, "--resolution", "32", "--json"], environment, tmp_path
        )
        assert made.status == 0, made
        found[version] = made.json["artifact"]["counts"]["parameters"]
    assert found == {"base": 8 * 27 + 8, "head": 32 * 27 + 32}


@pytest.mark.parametrize("variable", ["LATBENCH_REGISTRY", "LATBENCH_CACHE"])
def test_places_that_cannot_be_written(latbench: Latbench, tmp_path: Path, variable: str) -> None:
    onnx_files.classifier(tmp_path / "c.onnx")
    ended = latbench("run", "--model", "c.onnx", *QUICK, **{variable: "/dev/null/place"})
    assert ended.status == 3
    assert "/dev/null/place" in ended.out + ended.err


def test_the_registry_may_be_a_server(latbench: Latbench, tmp_path: Path, postgresql: str) -> None:
    onnx_files.classifier(tmp_path / "c.onnx")
    ran = latbench(*("run", "--model", "c.onnx", "--registry", postgresql), *QUICK, "--json")
    assert ran.status == 0, ran
    shown = latbench("show", ran.json["record"]["id"], "--json", LATBENCH_REGISTRY=postgresql)
    assert shown.json == ran.json
    assert "c.onnx" in latbench("show", "--registry", postgresql).out


@pytest.mark.torch
def test_weights_from_a_file(latbench: Latbench, tmp_path: Path) -> None:
    import torch

    from support import models as tiny

    weights = tiny.factory().state_dict()
    torch.save(weights, tmp_path / "w.pth")
    arguments = ("run", "--model", TINY, *QUICK, "--weights")
    ran = latbench(*arguments, "w.pth", "--json")
    assert ran.status == 0, ran
    assert ran.json["record"]["model"]["weights"].startswith("sha256:")
    for damaged, words in (
        ({k: v for k, v in weights.items() if k != "5.bias"}, "1 missing: 5.bias"),
        ({**weights, "more": torch.zeros(1)}, "1 extra: more"),
        ({**weights, "5.bias": torch.zeros(3)}, "5.bias is 3, the model has 10"),
        (torch.nn.Linear(2, 2), "no tensor with a name of the model"),
    ):
        torch.save(damaged, tmp_path / "bad.pth")
        ended = latbench(*arguments, "bad.pth")
        assert ended.status == 2, ended
        assert words in ended.err
    assert latbench(*arguments, "none.pth").status == 2


def test_names_that_only_the_other_program_knows(latbench: Latbench) -> None:
    pytest.importorskip("torch", reason="building needs the `export` extra")
    if find_spec("timm") is None:
        pytest.skip("needs the `timm` extra")
    ended = latbench("run", "--model", "timm:mobilenetv2_10", *QUICK)
    assert ended.status == 2
    assert "mobilenetv2_100" in ended.err
    ended = latbench("run", "--model", TINY, *QUICK, "--option", "spinning=maybe")
    assert ended.status == 2
    assert "on, off" in ended.err
    ended = latbench("run", "--model", TINY, *QUICK, "--option", "provider=CoreMLExecutionProvider")
    assert ended.status == 3
    assert "has no provider CoreMLExecutionProvider" in ended.out


def fill(path: Path) -> None:
    """Write until there is no room."""
    with suppress(OSError), path.open("wb", buffering=0) as filler:
        while True:
            filler.write(b"x" * 1024)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 kB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "none", place]
    if os.getuid() != 0 or subprocess.run(mount, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here: that needs root")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_disk_that_fills_up_loses_no_measurement(
    latbench: Latbench, environment: dict[str, str], tmp_path: Path, small_disk: Path
) -> None:
    full = {"LATBENCH_REGISTRY": str(small_disk / "registry.db")}
    run = ("run", "--model", "mobilevig_ti", "--backend", "fake")
    assert latbench(*run, *QUICK, **full).status == 0
    # Three seconds of samples: the disk fills up in their midst.
    slow = (
        *("--protocol", "latbench-fixed@1", "--option", "real_time=yes"),
        *("--processes", "1", "--calls", "2000", "--block-calls", "200"),
    )
    running = subprocess.Popen(
        [*COMMAND, *run, *slow],
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**environment, **full},
    )
    wait_for_workers(running.pid, 1)  # the registry has been opened by then
    fill(small_disk / "filler")
    _, told = running.communicate(timeout=60)
    assert running.returncode == 3
    assert "Traceback" not in told
    assert "not lost" in told
    (left,) = tmp_path.glob("latbench-*.json")
    assert f"latbench import {left}" in told
    # Full from the start: refused before measuring where that can be seen, else nothing lost either.
    ended = latbench(*run, *QUICK, **full)
    assert ended.status == 3
    assert "make room" in ended.err or "not lost" in ended.err
    (small_disk / "filler").unlink()
    assert latbench("import", left, **full).status == 0
    assert latbench("show", left.stem.removeprefix("latbench-"), **full).status == 0


LONG = "x" * 300


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "--model", f"{LONG}.onnx"),
        ("run", "--model", f"{LONG}.strange"),
        ("run", "--model", f"{LONG}.py:factory"),
        ("run", "--model", "mobilevig_ti", "--weights", LONG),
        ("run", "--model", "mobilevig_ti", "--precision", "int8", "--calibration", LONG),
        ("export", "--model", "mobilevig_ti", "--format", "fake", "--output", LONG),
    ],
)
def test_names_that_are_too_long_for_a_file(latbench: Latbench, arguments: tuple[str, ...]) -> None:
    assert latbench(*arguments).status in (2, 3)


def test_other_weights_beside_the_same_graph_are_another_artifact(
    latbench: Latbench, tmp_path: Path
) -> None:
    import onnx

    model = onnx.load(onnx_files.classifier(tmp_path / "c.onnx"))
    onnx.save_model(
        model,
        tmp_path / "c.onnx",
        save_as_external_data=True,
        location="c.onnx.data",
        size_threshold=0,
    )
    export = ("export", "--model", "c.onnx", "--json")
    before = latbench(*export)
    assert before.status == 0, before.err
    again = latbench(*export)
    assert again.json["artifact"] == before.json["artifact"]
    graph, data = (tmp_path / "c.onnx").read_bytes(), tmp_path / "c.onnx.data"
    data.write_bytes((2 * np.fromfile(data, np.float32)).tobytes())
    after = latbench(*export)
    assert after.status == 0, after.err
    assert (tmp_path / "c.onnx").read_bytes() == graph
    assert after.json["artifact"]["sha256"] != before.json["artifact"]["sha256"]


def test_sizes_and_axes_that_nothing_has_are_refused(latbench: Latbench, tmp_path: Path) -> None:
    onnx_files.identity(tmp_path / "vector.onnx")
    onnx_files.classifier(tmp_path / "open.onnx", batch="N", side=8)
    for arguments, words in (
        (("vector.onnx", "--resolution", "320"), "no input of the file has a resolution"),
        (("open.onnx", "--batch", "4", "--dim", "N=2"), "2 by --dim, 4 by --batch"),
        (("mobilevig_ti", "--backend", "fake", "--dim", "foo=7"), "has no axis named foo"),
    ):
        ended = latbench("run", "--model", *arguments, *QUICK)
        assert ended.status == 2, ended
        assert words in ended.err


@pytest.mark.torch
@pytest.mark.skipif(find_spec("torchvision") is None, reason="needs torchvision")
def test_a_users_network_may_use_torchvision(latbench: Latbench, tmp_path: Path) -> None:
    """Beside a CPU build of torch, the torchvision of PyPI cannot load its compiled part."""
    (tmp_path / "net.py").write_text(
        "import torch, torchvision\n"
        "from torchvision.ops import nms\n"
        "def plain(): return torchvision.models.squeezenet1_1()\n"
        "class Calls(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        return nms(x[0, 0, :8, :4], x[0, 0, :8, 0], 0.5)\n"
        "def calls(): return Calls()\n"
    )
    for name in ("net.py:plain", "torchvision.models:squeezenet1_1"):
        ran = latbench("run", name, "--resolution", "64", "--threads", "1", *QUICK)
        assert ran.status == 0, ran
    ran = latbench("run", "net.py:calls", "--resolution", "64", *QUICK)
    if ran.status == 3:
        assert "install the two of one release" in ran.out


@pytest.mark.torch
@pytest.mark.parametrize(
    ("forward", "words"),
    [
        ("functional.dropout(x.mean((2, 3)), 0.5, training=True)", "are not deterministic"),
        ("x.mean((2, 3)) / 0", "are not finite"),
    ],
)
def test_the_reference_is_to_blame_before_the_file(
    latbench: Latbench, tmp_path: Path, forward: str, words: str
) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "from torch.nn import functional\n"
        "class Net(nn.Module):\n"
        "    input_shape = (3, 16, 16)\n"
        f"    def forward(self, x): return {forward}\n"
    )
    ran = latbench("run", "net.py:Net", *QUICK)
    assert ran.status == 3
    assert words in ran.out.splitlines()[0]
    assert "differs from" not in ran.out


def test_a_file_with_a_random_operator_is_named(latbench: Latbench, tmp_path: Path) -> None:
    onnx_files.random(tmp_path / "r.onnx")
    ran = latbench("run", "r.onnx", *QUICK)
    assert ran.status == 3
    assert "not deterministic: it has RandomNormalLike" in ran.out.splitlines()[0]
