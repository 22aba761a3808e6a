"""A true and a false claim of each kind, measured and judged by one command on the fake backend."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import latbench as package
from latbench.host.info import read_machine, this_device
from support.command_line import COMMAND, Latbench, wait_for_workers

HERE = this_device(read_machine()).id
CONDITIONS = {
    **{"device": HERE, "backend": "fake", "batch": 1, "resolution": 224},
    **{"precision": "fp32", "threads": 1},
}
OPEN = ["os", "backend_version", "compute_unit", "input"]
OPEN += ["protocol", "warmup_calls", "calls", "statistic"]


MODELS = ("mobilevig_ti", "mobilevig_m", "mobilevig_s", "mobilevig_b")


@pytest.fixture(scope="module")
def truth() -> dict[str, float]:
    """Milliseconds that the fake device takes for each of the models, in the order of MODELS."""
    found = {}
    for name in MODELS:
        artifact = package.export(name, format="fake", batch=1, resolution=224)
        found[name] = json.loads(artifact.path.read_text())["latency_ns"] / 1e6
    assert list(found.values()) == sorted(found.values())
    return found


def planted(truth: Mapping[str, float]) -> dict[str, tuple[str, dict[str, Any]]]:
    """Id -> model and statement; whether it is true stands in the id."""
    fast, near, far, slow = MODELS
    quick, long = truth[fast], truth[slow]
    assert truth[near] / quick < 1.08 < 1.12 < truth[far] / quick
    time = {"metric": "latency"}
    ms = {"metric": "latency", "unit": "ms"}
    rate = {"metric": "throughput", "unit": "images/s"}
    than = {"against": slow, "sense": "less"}
    tolerance = {"tolerance_percent": 10, "tolerance_from": "registry", "metric": "latency"}
    fps = {"true": 1e3 / quick, "false": 0.8e3 / quick}
    return {
        "true-value": (fast, {"kind": "value", "figure": f"{quick:.3f}", **ms}),
        "false-value": (fast, {"kind": "value", "figure": f"{quick * 1.2:.3f}", **ms}),
        "true-rate": (fast, {"kind": "value", "figure": f"{fps['true']:.1f}", **rate}),
        "false-rate": (fast, {"kind": "value", "figure": f"{fps['false']:.1f}", **rate}),
        "true-bound": (
            fast,
            {"kind": "bound", "figure": f"{quick * 1.1:.3f}", "sense": "below", **ms},
        ),
        "false-bound": (
            fast,
            {"kind": "bound", "figure": f"{quick * 0.9:.3f}", "sense": "below", **ms},
        ),
        "true-ratio": (
            fast,
            {"kind": "ratio", "figure": f"{long / quick:.2f}", "unit": "x", **than, **time},
        ),
        "false-ratio": (
            fast,
            {"kind": "ratio", "figure": f"{long / quick * 1.2:.2f}", "unit": "x", **than, **time},
        ),
        "true-difference": (
            fast,
            {"kind": "difference", "figure": f"{long - quick:.3f}", **than, **ms},
        ),
        "false-difference": (
            fast,
            {"kind": "difference", "figure": f"{(long - quick) * 0.8:.3f}", **than, **ms},
        ),
        "true-ordering": (fast, {"kind": "ordering", **than, **time}),
        "false-ordering": (fast, {"kind": "ordering", **than, **time, "sense": "more"}),
        "true-parity": (fast, {"kind": "parity", "against": near, **tolerance}),
        "false-parity": (fast, {"kind": "parity", "against": far, **tolerance}),
    }


def plant(tmp_path: Path, truth: Mapping[str, float]) -> dict[str, str]:
    """The claims and the device in files; the environment that names them."""
    claims = [
        {
            "id": id,
            "model": model,
            "says": says,
            "source": {"id": "paper", "where": "Table 1"},
            "conditions": CONDITIONS,
            "open": OPEN,
            "by": "authors",
        }
        for id, (model, says) in planted(truth).items()
    ]
    tree = {"schema": 1, "sources": [{"id": "paper", "title": "A paper"}], "claims": claims}
    (tmp_path / "own.yaml").write_text(json.dumps(tree))
    device = {"id": HERE, "name": "this one", "kind": "unknown", "transport": "local"}
    (tmp_path / "devices.yaml").write_text(json.dumps({"schema": 1, "devices": [device]}))
    return {
        "LATBENCH_DEVICES": str(tmp_path / "devices.yaml"),
        "LATBENCH_CLAIMS": str(tmp_path / "own.yaml"),
    }


def answers(found: Any) -> dict[str, set[str]]:
    """Id -> what was said of it by any question."""
    told = {}
    for each in found:
        verdict = each["verdict"]
        given = [a for a in (verdict["value"], verdict["static"]) if a is not None]
        told[each["claim"]["id"]] = {a["answer"] for a in (*given, *verdict["ordering"])}
    return told


def test_planted_claims_are_told_apart(
    latbench: Latbench, tmp_path: Path, truth: dict[str, float]
) -> None:
    places = plant(tmp_path, truth)
    check = ("claims", "check", "--source", "paper", "--json")
    before = latbench(*check, **places)
    assert before.status == 4
    assert set().union(*answers(before.json).values()) == {"inconclusive"}

    ended = latbench(*check, "--measure", "--backend", "fake", **places)
    assert ended.status == 1, ended.err
    told = answers(ended.json)
    assert len(told) == 14
    for id, given in told.items():
        true = id.startswith("true")
        if id == "false-ratio" or id == "false-difference":
            # Its direction is as claimed, its size is not.
            assert given == {"confirmed", "refuted"}, (id, given)
        else:
            assert given == {"confirmed" if true else "refuted"}, (id, given)

    # Nothing is left to measure, and the same is said of the same records.
    again = latbench(*check, "--measure", "--backend", "fake", **places)
    assert "nothing left" in again.err
    assert again.json == ended.json
    (stored, first) = latbench("claims", "history", "true-value", "--json", **places).json
    assert stored["answers"][0]["answer"] == "confirmed"
    assert first["answers"][0]["answer"] == "inconclusive"
    assert len(stored["answers"][0]["records"]) >= 1


def test_fake_records_say_nothing_of_other_claims(
    latbench: Latbench, tmp_path: Path, truth: dict[str, float]
) -> None:
    ended = latbench(
        *("claims", "check", "mobilevig-ti-faster-mnv2-140", "--json"),
        *("--measure", "--backend", "fake"),
    )
    assert ended.status == 4
    assert "1 of 1" in ended.err
    assert answers(ended.json) == {"mobilevig-ti-faster-mnv2-140": {"inconclusive"}}


def test_what_fails_is_told_and_an_interruption_keeps_the_rest(
    latbench: Latbench, tmp_path: Path, truth: dict[str, float], environment: dict[str, str]
) -> None:
    places = plant(tmp_path, truth)
    check = ("claims", "check", "--source", "paper", "--json", "--measure", "--backend", "fake")
    unplugged = latbench(*check, **places, LATBENCH_FAKE_UNAVAILABLE="1")
    assert unplugged.status == 4
    assert "nothing left to measure on this machine" in unplugged.err

    process = subprocess.Popen(
        [*COMMAND, *check],
        env={**environment, **places},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    told = ""
    while "1 of " not in told:
        told += process.stderr.readline()
    wait_for_workers(process.pid, 1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert "interrupted: repeat the command to resume" in err
    assert process.returncode == 3
    first = answers(json.loads(out))
    assert set().union(*first.values()) > {"inconclusive"}

    rest = latbench(*check, **places)
    total = int(told.split("latbench: ")[1].split()[0])
    assert f"{total - 1} measurement" in rest.err
    assert "inconclusive" not in set().union(*answers(rest.json).values())


def test_wrong_uses(latbench: Latbench) -> None:
    alone = latbench("claims", "check", "--all", "--backend", "fake")
    assert alone.status == 2
    assert "--backend requires --measure" in alone.err
    unknown = latbench("claims", "check", "--all", "--measure", "--backend", "onnx")
    assert unknown.status == 2
    assert "onnxruntime" in unknown.err
    history = ("claims", "history", "mobilevig-ti-faster-mnv2-140")
    assert latbench(*history).status == 3
    latbench("claims", "check", "mobilevig-ti-faster-mnv2-100")
    never = latbench(*history)
    assert never.status == 2
    assert "latbench claims check mobilevig-ti-faster-mnv2-140" in never.err
