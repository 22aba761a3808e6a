"""``latbench claims explain`` on the fake backend, whose truth is known."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from latbench.host.info import read_machine, this_device
from latbench.schema.codec import encode_record
from latbench.schema.record import Fallback
from support.command_line import COMMAND, QUICK, Latbench, wait_for_workers
from support.records import make_record

FAKE = ("--model", "mobilevig_ti", "--backend", "fake")
STILL = ("--option", "noise=0", "--option", "between=0")
CLAIM = """\
schema: 1
sources:
- {{id: paper, title: A paper}}
claims:
- id: planted
  model: mobilevig_ti
  says: {says}
  source: {{id: paper, where: Table 1}}
  conditions: {{device: {device}, backend: fake, compute_unit: cpu, batch: 1, resolution: 224}}
  open: [os, backend_version, precision, threads, input, protocol, warmup_calls, calls, statistic]
  by: authors
"""
LATENCY = '{kind: value, metric: latency, figure: "1.0", unit: ms}'


def take(latbench: Latbench, *arguments: str) -> str:
    """Measure; the record's id."""
    done = latbench("run", *FAKE, *QUICK, *STILL, "--json", *arguments)
    assert done.status == 0, done
    return str(done.json["record"]["id"])


def explained(latbench: Latbench, a: str, b: str, *arguments: str) -> dict[str, Any]:
    done = latbench("claims", "explain", a, "--against", b, "--json", *arguments)
    assert done.status == 0, done
    found: dict[str, Any] = done.json
    return found


def shares(found: dict[str, Any]) -> dict[str, float]:
    return {part["factor"]: part["share"]["ratio"] for part in found["parts"] if part["share"]}


def test_planted_factors_are_told_apart(latbench: Latbench) -> None:
    a = take(latbench, "--threads", "1")
    b = take(latbench, "--threads", "2", "--option", "scale=2")
    found = explained(latbench, a, b)
    assert shares(found) == pytest.approx({"threads": 1, "option scale": 2})
    assert found["ratio"] == pytest.approx(2)
    assert found["residual"]["ratio"] == pytest.approx(1)
    assert found["a_again_ns"] == pytest.approx(found["a_ns"])
    assert found["b_again_ns"] == pytest.approx(found["b_ns"])
    assert (found["design"], found["rounds"], found["configurations"]) == ("factorial", 3, 4)
    assert len(set(found["records"])) == 12
    stored = latbench("show", found["records"][0], "--json").json["record"]
    assert stored["request"]["threads"] in (1, 2)
    back = explained(latbench, b, a, "--rounds", "1")
    assert shares(back) == pytest.approx({"threads": 1, "option scale": 0.5})
    assert all(part["share"]["interval"] is None for part in back["parts"])


def test_protocol_regime_and_statistic_are_told_apart(latbench: Latbench) -> None:
    slow_at_first = ("--threads", "1", "--option", "warmup=30")
    a = take(latbench, *slow_at_first)
    done = latbench("run", *FAKE, *STILL, *slow_at_first, "--protocol", "timm@1", "--json")
    found = explained(latbench, a, done.json["record"]["id"], "--rounds", "1")
    assert {part["factor"]: part["how"] for part in found["parts"]} == {
        "protocol": "measured",
        "regime": "computed",
        "statistic": "computed",
    }
    assert found["explained"]["ratio"] == pytest.approx(found["ratio"])
    text = latbench("claims", "explain", a, "--against", done.json["record"]["id"], "--no-measure")
    assert text.status == 0
    assert re.search(r"^protocol .*--no-measure", text.out, re.MULTILINE)
    assert re.search(r"^regime .*warm .*all timed calls .*from stored samples", text.out, re.M)
    assert re.search(r"^residual ", text.out, re.MULTILINE)


def test_more_than_three_factors_one_at_a_time(latbench: Latbench) -> None:
    a = take(latbench, "--threads", "1")
    options = [x for o in ("scale=2", "warmup=6", "ar1=0.1") for x in ("--option", o)]
    b = take(latbench, "--threads", "2", *options)
    found = explained(latbench, a, b, "--rounds", "1")
    assert (found["design"], found["configurations"]) == ("one at a time", 10)
    assert shares(found)["option scale"] == pytest.approx(2)


def test_a_configuration_that_fails_is_left_out(latbench: Latbench, tmp_path: Path) -> None:
    """What can still be told is told: threads from A's end, where the broken option is not set."""
    a = take(latbench, "--threads", "1")
    b = take(latbench, "--threads", "2")
    record = latbench("show", b, "--json").json["record"]
    record["id"] = "01m86kmv4b6a5884ma62zcdt3z"
    record["request"]["options"]["scale"] = "much"
    (tmp_path / "broken.json").write_text(json.dumps(record))
    assert latbench("import", "broken.json").status == 0
    found = explained(latbench, a, record["id"], "--rounds", "1")
    assert found["design"] == "one at a time"
    assert shares(found) == pytest.approx({"threads": 1})
    assert "could not be measured: option scale is not a number: 'much'" in found["notes"][0]
    parts = {part["factor"]: part for part in found["parts"]}
    assert (parts["option scale"]["how"], parts["option scale"]["share"]) == ("fields", None)


@pytest.fixture
def claims(tmp_path: Path) -> Path:
    folder = tmp_path / "claims"
    folder.mkdir()
    (tmp_path / "devices.yaml").write_text(
        "schema: 1\ndevices:\n- {id: bench-cpu, name: Bench, kind: server}\n"
    )
    return folder


def test_a_claim_and_what_it_leaves_open(latbench: Latbench, tmp_path: Path, claims: Path) -> None:
    (claims / "own.yaml").write_text(CLAIM.format(says=LATENCY, device="bench-cpu"))
    places = {
        "LATBENCH_CLAIMS": str(claims),
        "LATBENCH_DEVICES": str(tmp_path / "devices.yaml"),
    }
    record = take(latbench, "--threads", "2")
    done = latbench("claims", "explain", "planted", "--against", record, "--json", **places)
    assert done.status == 0, done
    parts = {part["factor"]: part for part in done.json["parts"]}
    assert parts["device"]["how"] == "fields"
    assert "the other device is bench-cpu" in parts["device"]["why"]
    assert parts["threads"]["range"] == pytest.approx([1, 1])
    assert parts["statistic"]["range"][0] <= 1 <= parts["statistic"]["range"][1]
    assert parts["os"]["how"] == "open"
    assert done.json["a_again_ns"] is None
    assert done.json["b_again_ns"] == pytest.approx(done.json["b_ns"])
    assert parts["os"]["range"] is None
    assert done.json["residual"]["ratio"] == pytest.approx(done.json["ratio"])
    assert not any(part.startswith("option") for part in parts)


@pytest.mark.parametrize(
    ("says", "words"),
    [
        ('{kind: bound, metric: latency, figure: "80", unit: ms, sense: below}', "is a bound"),
        ("{kind: value, metric: latency, figure: failed, unit: ms}", "is not a single latency"),
    ],
)
def test_claims_without_a_latency(
    latbench: Latbench, tmp_path: Path, claims: Path, says: str, words: str
) -> None:
    (claims / "own.yaml").write_text(CLAIM.format(says=says, device="bench-cpu"))
    places = {
        "LATBENCH_CLAIMS": str(claims),
        "LATBENCH_DEVICES": str(tmp_path / "devices.yaml"),
    }
    record = take(latbench, "--threads", "1")
    done = latbench("claims", "explain", "planted", "--against", record, **places)
    assert done.status == 2
    assert words in done.err


def test_bad_input(latbench: Latbench, tmp_path: Path) -> None:
    a = take(latbench, "--threads", "1")
    other = latbench("run", "--model", "mobilevig_s", "--backend", "fake", *QUICK, "--json")
    failed = latbench("run", *FAKE, *QUICK, "--option", "misbehave=error", "--json")
    instead = make_record(id="01m86kmv4b6a5884ma62zcdt3y")
    instead = msgspec.structs.replace(
        instead,
        request=msgspec.structs.replace(instead.request, backend="coreml"),
        fallback=Fallback(reason="no Mac", hint=None),
    )
    (tmp_path / "instead.json").write_bytes(encode_record(instead))
    assert latbench("import", "instead.json").status == 0
    for one, two, words in (
        ("nothing-of-that-name", a, "no claim has this id"),
        (a, "nothing", "no record 'nothing'"),
        (a, a, "both sides are record"),
        (a, other.json["record"]["id"], "different models: mobilevig_ti and mobilevig_s"),
        (failed.json["record"]["id"], a, "the run failed"),
        ("tinynet-e-macs", failed.json["record"]["id"], "the run failed"),
        (instead.id, a, "is not evidence about that backend"),
        ("mobilevig-ti-latency-iphone13mini", other.json["record"]["id"], "is about MobileViG-Ti"),
        ("tinynet-e-macs", a, "does not state a latency"),
    ):
        done = latbench("claims", "explain", one, "--against", two)
        assert done.status == 2, done
        assert words in done.err, done
        assert ("no claim has this id" in done.err) == (one == "nothing-of-that-name")
        assert done.out == ""
    b = take(latbench, "--threads", "2")
    for arguments, words in (
        (("--budget", "inf"), "the budget must be above 0"),
        (("--budget", "1e30"), "the budget must be above 0"),
        (("--budget", "nan"), "the budget must be above 0"),
        (("--no-measure", "--rounds", "3"), "--rounds cannot be combined"),
        (
            ("--no-measure", "--budget", "2", "--order-seed", "1"),
            "--budget, --order-seed cannot be combined",
        ),
    ):
        done = latbench("claims", "explain", a, "--against", b, *arguments)
        assert done.status == 2, done
        assert words in done.err, done


def test_a_claim_from_here_and_a_record_from_elsewhere(
    latbench: Latbench, tmp_path: Path, claims: Path
) -> None:
    """Measurements start from the record: a claim has no settings of its own to start from."""
    here = this_device(read_machine()).id
    (claims / "own.yaml").write_text(
        CLAIM.format(says=LATENCY, device=here).replace("batch: 1", "batch: 2")
    )
    (tmp_path / "devices.yaml").write_text(
        f"schema: 1\ndevices:\n- {{id: {here}, name: Here, kind: server}}\n"
    )
    record = latbench("show", take(latbench, "--threads", "1"), "--json").json["record"]
    record["id"] = "01m86kmv4b6a5884ma62zcdt3z"
    record["device"]["id"] = "bench-cpu"
    (tmp_path / "elsewhere.json").write_text(json.dumps(record))
    assert latbench("import", "elsewhere.json").status == 0
    places = {
        "LATBENCH_CLAIMS": str(claims),
        "LATBENCH_DEVICES": str(tmp_path / "devices.yaml"),
    }
    arguments = ("planted", "--against", record["id"], "--rounds", "1", "--json")
    done = latbench("claims", "explain", *arguments, **places)
    assert done.status == 0, done
    assert shares(done.json).keys() == {"batch"}
    assert (done.json["a_again_ns"], done.json["b_again_ns"]) == (None, None)


def test_weights_that_have_changed(latbench: Latbench, tmp_path: Path) -> None:
    records = []
    for id, threads in (("01m86kmv4b6a5884ma62zcdt3x", "1"), ("01m86kmv4b6a5884ma62zcdt3y", "2")):
        record = latbench("show", take(latbench, "--threads", "1"), "--json").json["record"]
        record["id"] = id
        record["model"]["weights"] = "sha256:" + "0" * 64
        record["request"]["weights"] = str(tmp_path / "weights.pth")
        record["request"]["options"]["scale"] = threads
        records.append(record)
    (tmp_path / "weights.pth").write_bytes(b"others")
    for record in records:
        (tmp_path / "one.json").write_text(json.dumps(record))
        assert latbench("import", "one.json").status == 0
    pair = (records[0]["id"], "--against", records[1]["id"])
    done = latbench("claims", "explain", *pair)
    assert done.status == 2, done
    assert f"others now than in record {records[0]['id']}" in done.err
    assert latbench("claims", "explain", *pair, "--no-measure").status == 0


def test_a_file_that_is_gone(latbench: Latbench, tmp_path: Path) -> None:
    """Its records still tell what they tell."""
    here = this_device(read_machine())
    for id, threads in (("01m86kmv4b6a5884ma62zcdt3x", "1"), ("01m86kmv4b6a5884ma62zcdt3y", "2")):
        record = make_record(id=id, model="gone.onnx", device=here.id)
        assert record.runtime is not None
        settings = {**record.runtime.settings, "threads": threads}
        record = msgspec.structs.replace(
            record,
            model=msgspec.structs.replace(record.model, source="file", weights="file"),
            runtime=msgspec.structs.replace(record.runtime, settings=settings),
        )
        (tmp_path / f"{id}.json").write_bytes(encode_record(record))
        assert latbench("import", f"{id}.json").status == 0
    pair = ("01m86kmv4b6a5884ma62zcdt3x", "--against", "01m86kmv4b6a5884ma62zcdt3y")
    done = latbench("claims", "explain", *pair)
    assert done.status in (0, 2)
    if (os.cpu_count() or 1) > 1:
        assert done.status == 2
        assert "cannot read the model file gone.onnx" in done.err
    assert latbench("claims", "explain", *pair, "--no-measure").status == 0


def test_nothing_can_be_measured(latbench: Latbench) -> None:
    a = take(latbench, "--threads", "1")
    b = take(latbench, "--threads", "1", "--option", "scale=2")
    done = latbench("claims", "explain", a, "--against", b, LATBENCH_FAKE_UNAVAILABLE="1")
    assert done.status == 3
    assert "not one round could be measured" in done.err
    assert "the fake device is unplugged" in done.err


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds workers in /proc")
def test_interrupted(latbench: Latbench, environment: dict[str, str], tmp_path: Path) -> None:
    a = take(latbench, "--threads", "1", "--option", "real_time=yes")
    b = take(latbench, "--threads", "1", "--option", "real_time=yes", "--option", "scale=2")
    command = subprocess.Popen(
        [*COMMAND, "claims", "explain", a, "--against", b],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for_workers(command.pid, 1)
    command.send_signal(signal.SIGINT)
    out, err = command.communicate(timeout=60)
    assert command.returncode == 3, (out, err)
    assert "interrupted: 0 complete rounds of 3 count" in err
    assert "Traceback" not in err
