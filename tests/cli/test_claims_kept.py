"""`latbench claims check`: how it may be asked, and that keeping what it says never stops it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from latbench.audit import check
from latbench.audit.library import ClaimLibrary, load_claims
from latbench.claims.model import Claim
from latbench.claims.statements import KINDS, TIMED, Metric
from latbench.claims.verdict import QUESTIONS, CheckContext, Verdict
from latbench.cli import claim_options as options
from latbench.devices.catalog import load_devices
from latbench.schema.record import Record
from latbench.store.registry import Registry
from support.command_line import Latbench
from support.environment import ROOT
from support.records import make_record

CLAIM = "mobilevig-ti-latency-iphone13mini"
CHECK = ("claims", "check", CLAIM)


def stored(path: Path) -> int:
    with sqlite3.connect(path) as connection:
        (count,) = connection.execute("select count(*) from verdicts").fetchone()
    return int(count)


@pytest.mark.parametrize("command", [CHECK, ("papers",), ("table",)])
def test_a_folder_is_not_written_over(
    latbench: Latbench, tmp_path: Path, command: tuple[str, ...]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.tex").write_text("years of work")
    ended = latbench(*command, "--output", "out")
    assert ended.status == 2
    assert "is a directory" in ended.err
    assert (tmp_path / "out/thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*CHECK, "--all"), "not both"),
        ((*CHECK, "--model", "mobilevig_ti"), "not both"),
        ((*CHECK, "--headline"), "not both"),
        ((*CHECK, "--measure", "--question", "static"), "sizes are counted"),
        ((*CHECK, "--backend", "onnxruntime"), "requires --measure"),
        ((*CHECK, "--json", "--format", "markdown"), "contradict"),
        (("papers", "--json", "--format", "markdown"), "contradict"),
        (("table", "--json", "--format", "csv"), "contradict"),
    ],
)
def test_what_contradicts_itself_is_refused(
    latbench: Latbench, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    ended = latbench(*arguments)
    assert ended.status == 2
    assert words in ended.err
    assert not (tmp_path / "registry.db").exists()


def test_a_machine_of_ones_own_is_made_known(latbench: Latbench, tmp_path: Path) -> None:
    """By the row that the hint and docs/CLAIMS.md ask for."""
    form = latbench("claims", "add", "--template").out
    assert "device: pixel-8" in form
    (tmp_path / "own.yaml").write_text(form.replace("device: pixel-8", "device: amd-epyc-2cpu"))
    document = (ROOT / "docs/CLAIMS.md").read_text()
    (tmp_path / "devices.yaml").write_text(document.partition("```yaml\n")[2].partition("```")[0])
    refused = latbench("claims", "validate", "own.yaml")
    assert refused.status == 2
    assert "LATBENCH_DEVICES" in refused.err
    known = {"LATBENCH_DEVICES": str(tmp_path / "devices.yaml")}
    assert latbench("claims", "validate", "own.yaml", **known).status == 0


def test_help_has_every_exit_status(latbench: Latbench) -> None:
    told = " ".join(latbench("claims", "check", "--help").out.partition("Exit status")[2].split())
    for status in ("0 all", "1 one", "2 unknown", "4 not"):
        assert status in told


def test_the_options_are_those_of_the_core() -> None:
    """Written again there, so that help does not wait for the core."""
    assert set(options.KINDS) == set(KINDS)
    assert get_args(Metric) == options.METRICS
    check_command = import_module("latbench.cli.claims.check")
    assert check_command.QUESTIONS == QUESTIONS
    assert set(check_command.TIMED) == set(QUESTIONS) - {"static"}
    assert set(TIMED) <= set(options.METRICS)


def test_a_claim_that_is_named_twice_is_checked_once(latbench: Latbench, tmp_path: Path) -> None:
    ended = latbench("claims", "check", CLAIM, CLAIM, "--json")
    assert ended.status == 4
    assert [each["claim"]["id"] for each in ended.json] == [CLAIM]
    assert stored(tmp_path / "registry.db") == 1


def test_what_is_said_again_is_not_stored_again(latbench: Latbench, tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    for _ in range(2):
        latbench(*CHECK)
    assert stored(path) == 1
    with sqlite3.connect(path) as connection:
        connection.execute("update verdicts set body = replace(body, 'no records', 'none yet')")
        assert "none yet" in connection.execute("select body from verdicts").fetchone()[0]
    latbench(*CHECK)
    assert stored(path) == 1
    with sqlite3.connect(path) as connection:
        connection.execute(
            "update verdicts set body = replace(body, 'not testable here', 'refuted')"
        )
    latbench(*CHECK)
    assert stored(path) == 2


def test_an_old_verdict_that_cannot_be_read_stops_nothing(
    latbench: Latbench, tmp_path: Path
) -> None:
    latbench(*CHECK)
    with sqlite3.connect(tmp_path / "registry.db") as connection:
        connection.execute("""update verdicts set body = '{"of a newer": "latbench"}'""")
    ended = latbench(*CHECK)
    assert ended.status == 4
    assert "not testable here" in ended.out
    assert ended.err == ""
    history = latbench("claims", "history", CLAIM)
    assert history.status == 0
    assert "not testable here" in history.out
    assert "a newer latbench wrote it" in history.err


def test_what_cannot_be_stored_is_said_all_the_same(latbench: Latbench, tmp_path: Path) -> None:
    Registry.open(str(tmp_path / "registry.db")).__exit__(None, None, None)
    with sqlite3.connect(tmp_path / "registry.db") as connection:
        connection.execute(
            "create trigger none before insert on verdicts begin select raise(abort, 'no'); end"
        )
    ended = latbench(*CHECK)
    assert ended.status == 4
    assert "not testable here" in ended.out
    assert "the verdicts could not be stored" in ended.err


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A place that even root cannot write to, with a registry."""
    place = tmp_path / "mounted"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(place)]
    if os.getuid() != 0 or subprocess.run(mount, check=False).returncode:
        pytest.skip("a read-only disk cannot be mounted here: that needs root")
    try:
        with Registry.open(str(place / "registry.db")) as registry:
            registry.add(make_record())
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        yield place / "registry.db"
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_registry_that_may_only_be_read_is_read(latbench: Latbench, read_only: Path) -> None:
    ended = latbench(*CHECK, "--registry", read_only)
    assert ended.status == 4, ended
    assert "not testable here" in ended.out
    assert "the verdicts could not be stored" in ended.err


def test_records_come_in_the_order_of_the_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in one that changes from run to run."""
    shipped = load_claims(load_devices(None))
    claim = shipped.find("mobilevig-ti-faster-mnv2-140")
    assert claim.against is not None
    seen: list[list[str]] = []

    def spy(claim: Claim, records: list[Record], bench: CheckContext) -> Verdict:
        seen.append([record.model.name for record in records])
        return Verdict(claim=claim.id, value=None, ordering=(), static=None)

    monkeypatch.setattr(check, "verdict", spy)
    names = [(f"timm:one{i}", f"timm:two{i}") for i in range(20)]
    with Registry.open("sqlite://") as store:
        for mine, other in names:
            models = dict(shipped.models)
            for id, build in ((claim.model, mine), (claim.against, other)):
                models[id] = msgspec.structs.replace(models[id], build=build)
            registered: ClaimLibrary = msgspec.structs.replace(shipped, models=models)
            records = [make_record(model=other), make_record(model=mine)]
            monkeypatch.setattr(check, "read_for", lambda *_, found=records, **__: (found, []))
            check.check([claim], registered, store, device="", static=False)
    assert seen == [list(pair) for pair in names]
