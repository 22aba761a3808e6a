"""`latbench claims`: list, show, validate, add, check."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import msgspec
import pytest

from latbench.schema.codec import encode_record
from latbench.schema.record import Fallback, Record
from support.command_line import Latbench
from support.records import make_record, make_trace

DEVICES = """\
schema: 1
devices:
- {id: bench-cpu, name: Bench, kind: server}
"""
OWN = """\
schema: 1
sources:
- {{id: paper, title: A paper}}
claims:
- id: planted
  model: mobilevig_ti
  says: {{kind: value, metric: latency, figure: "{figure}", unit: ms}}
  source: {{id: paper, where: Table 1}}
  conditions: {{device: bench-cpu, backend: onnxruntime, compute_unit: cpu, precision: fp32, threads: 2, batch: 1, resolution: 224}}
  open: [os, backend_version, input, protocol, warmup_calls, calls, statistic]
  by: authors
"""


def record(ms: float, id: str, *, requested: str = "onnxruntime") -> Record:
    traces = [
        make_trace(i, [round(ms * 1e6 * (1 + (i - 4) / 2000 + j % 7 / 5000)) for j in range(200)])
        for i in range(8)
    ]
    made = make_record(id=id, device="bench-cpu", traces=traces)
    request = msgspec.structs.replace(made.request, backend=requested)
    fallback = None if requested == made.backend else Fallback(reason="no Mac", hint=None)
    return msgspec.structs.replace(made, request=request, fallback=fallback)


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    """A device and a folder of claims of the test's own."""
    (tmp_path / "devices.yaml").write_text(DEVICES)
    (tmp_path / "claims").mkdir()
    return {
        "LATBENCH_DEVICES": str(tmp_path / "devices.yaml"),
        "LATBENCH_CLAIMS": str(tmp_path / "claims"),
    }


def plant(tmp_path: Path, figure: str) -> None:
    (tmp_path / "claims/own.yaml").write_text(OWN.format(figure=figure))


def test_list_and_its_filters(latbench: Latbench) -> None:
    headline = latbench("claims", "list", "--headline", "--json")
    assert headline.status == 0
    assert len(headline.json) == 72
    assert headline.json[0]["completeness"] == [7, 13]
    text = latbench("claims", "list", "--device", "iphone-13-mini", "--metric", "latency")
    assert "mobilevig-ti-latency-iphone13mini" in text.out
    assert "0.78 ms" in text.out
    assert "iphone-12" not in text.out
    ratios = latbench("claims", "list", "--kind", "ratio", "--model", "fbnet-b", "--json").json
    assert {each["claim"]["id"] for each in ratios} == {
        "fbnet-b-speedup-mnv2-130",
        "fbnet-b-smaller-than-mnv2-130",
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("list", "--model", "mobilevig_tii"), "no claim is about a model"),
        (("list", "--device", "iphone13mini"), "did you mean iphone-13-mini"),
        (("list", "--source", "mobilvig"), "did you mean mobilevig"),
        (("show", "mobilevig-ti-latency"), "mobilevig-ti-latency-iphone13mini"),
        (("check",), "--all"),
        (("check", "tinynet"), "unknown claim"),
        (("add",), "--template"),
        (("add", "nowhere.yaml"), "cannot read"),
    ],
)
def test_wrong_names(latbench: Latbench, arguments: tuple[str, ...], words: str) -> None:
    ended = latbench("claims", *arguments)
    assert ended.status == 2
    assert words in ended.err


def test_show(latbench: Latbench) -> None:
    text = latbench("claims", "show", "fbnet-b-speedup-mnv2-130").out
    for words in ("1812.03443", "1.5x less latency than MobileNetV2 x1.3", "1.46", "galaxy-s8"):
        assert words in text
    (shown,) = latbench("claims", "show", "slab-swin-latency", "--json").json
    assert shown["claim"]["conditions"]["calls"] == 300
    assert "device" in shown["claim"]["open"]


def test_a_bad_entry_is_told_and_the_others_are_used(
    latbench: Latbench, tmp_path: Path, places: dict[str, str]
) -> None:
    plant(tmp_path, "0.78")
    path = tmp_path / "claims/own.yaml"
    text = path.read_text()
    path.write_text(text + text.partition("claims:\n")[2].replace("bench-cpu", "bench-gpu"))
    told = latbench("claims", "validate", **places)
    assert told.status == 2
    assert f"{path}:12: claims[1].id: the id 'planted' is taken: {path}:5" in told.err
    listed = latbench("claims", "list", "--model", "mobilevig_ti", **places)
    assert listed.status == 2
    assert "planted" in listed.out
    assert "left out" in listed.err
    as_json = latbench("claims", "validate", "--json", **places)
    assert as_json.json["claims"] == 410
    assert len(as_json.json["errors"]) == 1
    assert latbench("claims", "validate").status == 0


def test_add(latbench: Latbench, tmp_path: Path, places: dict[str, str]) -> None:
    form = latbench("claims", "add", "--template")
    (tmp_path / "form.yaml").write_text(form.out)
    assert latbench("claims", "validate", "form.yaml", **places).status == 0
    added = latbench("claims", "add", "form.yaml", "--json", **places)
    assert added.json["claims"] == ["my-model-latency-pixel-8"]
    shown = latbench("claims", "show", "my-model-latency-pixel-8", **places)
    assert shown.status == 0
    again = latbench("claims", "add", "form.yaml", **places)
    assert again.status == 2
    assert "is taken" in again.err
    assert "my-paper" not in again.err
    (tmp_path / "bad.yaml").write_text(
        form.out.replace("batch: 1,", "batch: 1024,").replace("id: my-model-", "id: other-")
    )
    bad = latbench("claims", "add", "bad.yaml", **places)
    assert bad.status == 2
    assert "batch 1024 on a phone" in bad.err
    assert [path.name for path in (tmp_path / "claims").iterdir()] == ["form.yaml"]


def test_check_against_records(latbench: Latbench, tmp_path: Path, places: dict[str, str]) -> None:
    plant(tmp_path, "6.40")
    none = latbench("claims", "check", "planted", **places)
    assert none.status == 4
    assert "missing: the device bench-cpu" in none.out
    (tmp_path / "fallen.json").write_bytes(
        encode_record(record(6.4, "01m86kmv4b6a5884ma62zcdt3y", requested="coreml"))
    )
    assert latbench("import", "fallen.json").status == 0
    assert latbench("claims", "check", "planted", **places).status == 4
    (tmp_path / "record.json").write_bytes(encode_record(record(6.4, "01m86kmv4b6a5884ma62zcdt3x")))
    assert latbench("import", "record.json").status == 0
    good = latbench("claims", "check", "planted", **places)
    assert good.status == 0, good
    assert "confirmed: 6.40" in good.out
    plant(tmp_path, "5.10")
    bad = latbench("claims", "check", "planted", "--json", **places)
    assert bad.status == 1
    (found,) = bad.json
    assert found["verdict"]["value"]["answer"] == "refuted"
    assert found["verdict"]["value"]["records"] == ["01m86kmv4b6a5884ma62zcdt3x"]
    assert found["verdict"]["static"] is None


def test_questions_are_apart(latbench: Latbench, tmp_path: Path) -> None:
    """The size alone needs no registry and makes none."""
    ended = latbench("claims", "check", "mobilevig-ti-faster-mnv2-140", "--question", "static")
    assert "no claim asks this question" in ended.out
    assert not (tmp_path / "registry.db").exists()
    unverifiable = latbench("claims", "check", "--source", "fmvit", "--json")
    assert unverifiable.status == 4
    compared = [each for each in unverifiable.json if each["verdict"]["ordering"]]
    assert len(compared) == 3
    for found in compared:
        assert {a["answer"] for a in found["verdict"]["ordering"]} == {"unverifiable"}


@pytest.mark.torch
@pytest.mark.slow
def test_sizes_that_are_known(latbench: Latbench) -> None:
    if find_spec("timm") is None:
        pytest.skip("needs the `timm` extra")
    static = ("--question", "static")
    right = ("tinynet-e-macs", "ghostnetv2-100-macs", "tinyvit-21m-params")
    good = latbench("claims", "check", *right, *static)
    assert good.status == 0, good
    assert "21,198,568 parameters" in good.out
    wrong = latbench("claims", "check", *right, "fbnet-b-smaller-than-mnv2-130", *static, "--json")
    assert wrong.status == 1
    answers = {each["claim"]["id"]: each["verdict"]["static"]["answer"] for each in wrong.json}
    assert answers.pop("fbnet-b-smaller-than-mnv2-130") == "refuted"
    assert set(answers.values()) == {"confirmed"}


@pytest.mark.torch
@pytest.mark.slow
def test_files_in_the_working_directory_change_no_verdict(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """A module of the standard library that has a namesake there."""
    if find_spec("timm") is None:
        pytest.skip("needs the `timm` extra")

    def check(folder: Path) -> list[dict[str, object]]:
        command = [sys.executable, "-P", "-m", "latbench", "claims", "check"]
        question = ["tinyvit-21m-params", "--question", "static", "--json"]
        done = subprocess.run(
            [*command, *question],
            capture_output=True,
            check=True,
            cwd=folder,
            env={**environment, "LATBENCH_CACHE": str(folder / "cache")},
            timeout=300,
        )
        return [each["verdict"]["static"] for each in json.loads(done.stdout)]

    clean, planted = tmp_path / "clean", tmp_path / "planted"
    clean.mkdir()
    planted.mkdir()
    for name in ("json", "queue", "signal"):
        (planted / f"{name}.py").write_text("raise RuntimeError('not the standard library')\n")
    found = check(planted)
    assert found == check(clean)
    assert [each["answer"] for each in found] == ["confirmed"]
