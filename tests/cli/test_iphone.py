"""Core ML and claims on a phone behind a Mac, through the command line.

devicectl, the app and Core ML are stand-ins (``support.mac``): what is shown is that a record goes
the whole way and that its claim is decided, in a registry of the test.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

import latbench as package
from latbench.audit import measure
from latbench.schema.protocol_catalog import WARM
from support.command_line import QUICK, Ended, in_process
from support.coreml import convolution, on_a_mac, write_program, write_stateful
from support.environment import python_path
from support.mac.facts import FOLDER, VARIABLE, tools
from support.mac.phone import StandInPhone, make_phone

pytestmark = pytest.mark.slow
CONDITIONS = {
    **{"device": "iphone-13-mini", "backend": "fake", "batch": 1, "resolution": 224},
    **{"precision": "fp32", "threads": 2},
}
OPEN = ["os", "backend_version", "compute_unit", "input"]
OPEN += ["protocol", "warmup_calls", "calls", "statistic"]


@pytest.fixture
def phone(tmp_path: Path) -> StandInPhone:
    """A phone and its Mac."""
    return make_phone(tmp_path / "mac")


@pytest.fixture
def on_phone(
    phone: StandInPhone,
    tmp_path: Path,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Ended]:
    """A command, with a phone whose app has Core ML of a version, or the fake backend."""
    config = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "XDG_DATA_HOME": str(tmp_path / "data")}
    for name, value in config.items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str | Path, macos: str = "15.5") -> Ended:
        found = phone.environment()
        path = f"{tools(tmp_path / 'mac-tools', macos)}:{found['PATH']}"
        bindings = {"PYTHONPATH": python_path(FOLDER), VARIABLE: macos, "PATH": path}
        changed = {**environment, **found, **bindings, **config}
        with on_a_mac(tmp_path, macos):
            return in_process(list(map(str, arguments)), changed, tmp_path)

    return run


def test_a_core_ml_model_on_a_phone(
    on_phone: Callable[..., Ended], phone: StandInPhone, tmp_path: Path
) -> None:
    pytest.importorskip("coremltools", reason="needs the `coreml` extra")
    phone.has_app("my-iphone", "coreml", same_as="iphone-13-mini")
    model = ("--backend", "coreml", "--device", "my-iphone", *QUICK, "--processes", "1", "--json")
    model_file = write_program(convolution, tmp_path / "c.mlpackage", (1, 3, 8, 8))
    ran = on_phone("run", "--model", model_file, *model, "--profile")
    assert ran.status == 0, ran
    record = ran.json["record"]
    assert record["environment"]["link"]["transport"] == "apple"
    assert record["device"]["same_as"] == "iphone-13-mini"
    assert record["runtime"]["placement"]["known"] == "planned"
    assert record["runtime"]["settings"]["clock"] == "runtime"
    assert record["outcome"]["checks"][0]["max_rel_error"] < 0.01
    # Core ML times no operators; what it plans for them is told instead.
    id = record["id"]
    assert "planned by MLComputePlan, not timed: " in on_phone("show", id).out
    shown = on_phone("profile", id)
    assert shown.status == 0, shown
    assert re.match(r"\d+ operators, planned by MLComputePlan, not timed: ", shown.out)
    assert "50.0%" in shown.out
    assert ",gpu,500000" in on_phone("profile", id, "--format", "csv").out
    assert on_phone("profile", id, "--json").json["plan"]["source"] == "MLComputePlan"
    refused = on_phone("profile", id, "--against", id)
    assert "a plan of its operators, but no times" in refused.err
    # The Mac could run it, the system of the phone cannot.
    refused = on_phone(
        "run", "--model", write_stateful(tmp_path / "s.mlpackage"), *model, macos="14.7"
    )
    assert refused.status == 3
    failure = refused.json["record"]["outcome"]["failure"]
    assert failure["message"].startswith("Core ML cannot load ")
    assert "specification version 9" in failure["message"]


def test_a_claim_about_a_phone_is_decided_by_a_record_of_it(
    on_phone: Callable[..., Ended],
    phone: StandInPhone,
    tmp_path: Path,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    short = msgspec.structs.replace(
        WARM, processes=6, max_processes=6, min_calls=20, min_ns=0, budget_ns=12 * 10**9
    )
    monkeypatch.setattr(measure, "WARM", short)
    artifact = package.export("mobilevig_ti", format="fake", batch=1, resolution=224)
    truth_ms = json.loads(artifact.path.read_text())["latency_ns"] / 1e6
    claims = [
        {
            "id": id,
            "model": "mobilevig_ti",
            "says": {"kind": "value", "figure": f"{ms:.3f}", "metric": "latency", "unit": "ms"},
            "source": {"id": "paper", "where": "Table 1"},
            "conditions": CONDITIONS,
            "open": OPEN,
            "by": "authors",
        }
        for id, ms in (("true-value", truth_ms), ("false-value", 1.2 * truth_ms))
    ]
    tree = {"schema": 1, "sources": [{"id": "paper", "title": "A paper"}], "claims": claims}
    (tmp_path / "own.yaml").write_text(json.dumps(tree))
    environment["LATBENCH_CLAIMS"] = str(tmp_path / "own.yaml")

    def check() -> dict[str, str]:
        ended = on_phone(
            *("claims", "check", "--source", "paper", "--device", "my-iphone"),
            *("--measure", "--backend", "fake", "--json"),
        )
        assert ended.status in (1, 4), ended
        return {each["claim"]["id"]: each["verdict"]["value"]["answer"] for each in ended.json}

    phone.has_app("my-iphone", "fake", same_as="iphone-13-mini")
    assert check() == {"true-value": "confirmed", "false-value": "refuted"}
