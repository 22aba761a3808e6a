"""``latbench compare``, ``plan``, ``protocols`` and ``show --plot``, on the fake backend."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import msgspec
import pytest

from latbench.schema.codec import encode_record
from support.command_line import COMMAND, QUICK, Latbench, wait_for_workers
from support.records import make_record

COMMON = ("--model", "mobilevig_ti", "--backend", "fake", "--threads", "1")
FEW = ("--calls", "40", "--block-calls", "10", "--warmup", "5")
"""Enough for a verdict; the number of processes is left to the protocol."""


def ids(out: str) -> list[str]:
    (line,) = (line for line in out.splitlines() if line.startswith("  records"))
    return line.split()[1:3]


@pytest.mark.parametrize(
    ("scale", "verdict", "words"),
    [
        ("1", "same", "A and B are the same within ±2%"),
        ("1.1", "slower", "B is 1.1"),
        ("0.9", "faster", "B is 1.1"),
    ],
)
def test_verdicts_and_what_is_stored(
    latbench: Latbench, scale: str, verdict: str, words: str
) -> None:
    quiet = "noise=0.005,between=0.001"
    done = latbench("compare", quiet, f"{quiet},scale={scale}", *COMMON, *FEW)
    assert done.status == 0, done
    assert done.err == ""
    first, *rest = done.out.splitlines()
    assert first.startswith(words)
    assert verdict in first
    assert [line.split()[0] for line in rest[:2]] == ["A", "B"]
    assert "A and B are the same file" in done.out
    one, two = ids(done.out)
    a, b = (latbench("show", id, "--json").json["record"] for id in (one, two))
    assert a["interleaved"]["comparison"] == b["interleaved"]["comparison"]
    assert (a["interleaved"]["part"], b["interleaved"]["part"]) == (0, 1)
    assert a["protocol"]["name"] == a["request"]["protocol"].split("@")[0] == "latbench-compare"
    stored = latbench("compare", "--records", one, two, "--json")
    assert stored.status == 0
    assert stored.json["comparison"]["verdict"] == verdict
    assert [side["id"] for side in stored.json["sides"]] == [a["id"], b["id"]]
    assert all(side["latency_ns"] > 1e6 for side in stored.json["sides"])
    assert stored.json["comparison"]["interleaved"] is True


def test_gates(latbench: Latbench) -> None:
    sides = ("noise=0.005,between=0.001", "noise=0.005,between=0.001,scale=1.2")
    for gate, status in (("slower", 1), ("different", 1), ("faster", 0)):
        done = latbench("compare", *sides, *COMMON, *FEW, "--fail-if", gate)
        assert done.status == status, done


def test_cannot_tell_says_what_it_would_take(latbench: Latbench) -> None:
    done = latbench(
        *("compare", "between=0.1,draw=1", "between=0.1,draw=2", *COMMON, *FEW),
        *("--processes", "7", "--json"),
    )
    assert done.status == 4, done
    assert done.json["comparison"]["verdict"] == "inconclusive"
    assert done.json["comparison"]["to_tell"]["processes"] > 7


def test_a_worker_that_dies_in_the_middle_leaves_what_was_measured(latbench: Latbench) -> None:
    done = latbench("compare", "scale=1", "misbehave=crash,at=time", *COMMON, *FEW)
    assert done.status == 3
    assert done.out.startswith("INCONCLUSIVE")
    assert "B failed at time (crash): the runtime crashed (SIGSEGV)" in done.out
    one, two = (latbench("show", id, "--json").json["record"] for id in ids(done.out))
    assert (one["outcome"]["status"], two["outcome"]["status"]) == ("interrupted", "failed")
    assert len(one["outcome"]["traces"][0]["warmup_ns"]) == 5


def test_a_side_that_cannot_be_opened_is_told(latbench: Latbench) -> None:
    done = latbench("compare", "scale=1", "misbehave=error,at=open", *COMMON, *FEW)
    assert done.status == 3
    assert "B failed at" in done.out


def test_a_cache_that_cannot_be_written_is_a_failure_that_is_stored(
    latbench: Latbench, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    cache = str(tmp_path / "file")
    done = latbench("compare", "scale=1", "scale=1.1", *COMMON, *FEW, LATBENCH_CACHE=cache)
    assert done.status == 3
    assert "A failed at export (error): cannot write to the artifact cache" in done.out
    assert len(ids(done.out)) == 2


def test_an_interrupted_comparison_is_stored(
    latbench: Latbench, environment: dict[str, str], tmp_path: Path
) -> None:
    slow = "real_time=yes"
    running = subprocess.Popen(
        [*COMMAND, "compare", slow, f"{slow},scale=1.1", *COMMON, "--calls", "2000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=environment,
        start_new_session=True,
    )
    wait_for_workers(running.pid, 4)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=30)
    assert running.returncode == 3, err
    assert "Traceback" not in err
    assert "was interrupted" in out
    assert len(latbench("show", "--json").json) == 1  # both are of one group
    assert len(ids(out)) == 2


def test_a_killed_worker_in_a_comparison(
    latbench: Latbench, environment: dict[str, str], tmp_path: Path
) -> None:
    slow = "real_time=yes"
    running = subprocess.Popen(
        [*COMMAND, "compare", slow, slow, *COMMON, "--calls", "2000", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    victim = min(wait_for_workers(running.pid, 2))
    os.kill(victim, signal.SIGKILL)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 3, err
    comparison = json.loads(out)["comparison"]
    assert comparison["verdict"] == "inconclusive"
    assert "SIGKILL" in comparison["reasons"][0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("compare", "mobilevig_ti", "threads=two"), "threads must be an integer"),
        (("compare", "threads=1", "threads=2"), "has no model"),
        (("compare", "mobilevig_ti", "mobilevig_s,small"), "KEY=VALUE"),
        (("compare", "mobilevig_ti", "mobilevig_ti,nois=1"), "nois"),
        (("compare", "mobilevig_ti", "mobilevig_xx"), "mobilevig_s"),
        (("compare", "mobilevig_ti", "mobilevig_ti", "--margin", "0"), "margin"),
        (("compare", "mobilevig_ti", "mobilevig_ti", "--margin", "nan"), "margin"),
        (("compare", "mobilevig_ti", "mobilevig_ti", "--protocol", "nothing"), "protocol"),
        (("compare", "mobilevig_ti", "mobilevig_ti,resolution=big"), "224"),
        (("compare", "mobilevig_ti"), "B"),
        (("run", "--model", "mobilevig_ti", "--protocol", "tim@1"), "timm@1"),
        (("run", "--model", "mobilevig_ti", "--budget", "0"), "budget"),
        (("run", "--model", "mobilevig_ti", "--budget", "nan"), "budget"),
        (("run", "--model", "mobilevig_ti", "--target", "-1"), "target"),
        (
            ("run", "--model", "mobilevig_ti", "--protocol", "timm", "--require-precision"),
            "--target",
        ),
        (("plan", "--model", "mobilevig_ti", "--effect", "0"), "effect"),
        (("protocols", "latbench-wram"), "latbench-warm@1"),
        (("show", "--plot", "x.png"), "ID"),
    ],
)
def test_requests_that_make_no_sense(
    latbench: Latbench, arguments: tuple[str, ...], words: str
) -> None:
    latbench("run", *COMMON, *QUICK)
    backend = ("--backend", "fake") if arguments[0] in ("compare", "run", "plan") else ()
    ended = latbench(*arguments, *backend)
    assert ended.status == 2, ended
    assert ended.out == ""
    assert words in ended.err


def stored(tmp_path: Path, latbench: Latbench, **changes: object) -> str:
    record = msgspec.structs.replace(make_record(), **changes)
    path = tmp_path / f"{record.id}.json"
    path.write_bytes(encode_record(record))
    assert latbench("import", path).status == 0
    return record.id


def test_records_under_other_conditions_are_refused(latbench: Latbench, tmp_path: Path) -> None:
    one = stored(tmp_path, latbench, id="a" * 26)
    base = make_record()
    before = msgspec.structs.replace(base.environment.before, usable_cpus=1, turbo=True)
    environment = msgspec.structs.replace(base.environment, before=before)
    two = stored(tmp_path, latbench, id="b" * 26, environment=environment)
    done = latbench("compare", "--records", one, two)
    assert done.status == 2
    assert "environment.before.usable_cpus: 2 and 1" in done.err
    assert "environment.before.turbo: None and True" in done.err
    assert latbench("compare", "--records", one, one).status == 2
    three = stored(tmp_path, latbench, id="c" * 26)
    done = latbench("compare", "--records", one, three)
    assert done.status == 4
    assert "at least 6 processes" in done.out


def test_protocols_are_listed_and_described(latbench: Latbench) -> None:
    listed = latbench("protocols").out
    for name in ("latbench-warm@1", "modelbench@1", "trtexec@10", "duty-cycle@1"):
        assert f"\n{name} " in f"\n{listed}"
    assert "20 times" in latbench("protocols", "modelbench").out
    described = latbench("protocols", "latbench-warm@1", "--json").json
    assert described["target_ppm"] == 10_000
    whole = latbench("protocols", COLUMNS="").out
    assert len(latbench("protocols", "--json").json) == len(whole.splitlines()) - 1


@pytest.mark.parametrize(
    ("protocol", "statistic"),
    [
        ("modelbench@1", "trimmed mean"),
        ("timm@1", "mean"),
        ("tflite-benchmark@1", "mean"),
        ("coreml-performance@1", "mean"),
        ("fai-pep@1", "mean"),
        ("loadgen-singlestream@1", "p90"),
        ("trtexec@10", "p50"),
        ("levit-throughput@1", "throughput"),
        ("cold-start@1", "median of load and first inference"),
        ("latbench-quick@1", None),
        ("latbench-quick@2", None),
    ],
)
def test_every_protocol_runs_and_reports_its_statistic(
    latbench: Latbench, protocol: str, statistic: str | None
) -> None:
    """Times of the fake backend are simulated, so those of a minute are over at once."""
    done = latbench("run", *COMMON, "--protocol", protocol, "--json")
    assert done.status == 0, done
    record, summary = done.json["record"], done.json["summary"]
    assert f"{record['protocol']['name']}@{record['protocol']['version']}" == protocol
    if statistic is not None:
        assert summary["reported"]["statistic"] == statistic
    assert summary["reported"]["value"] > 0
    traces = record["outcome"]["traces"]
    expected = {"modelbench@1": 20, "cold-start@1": 10, "latbench-quick@1": 6}.get(protocol, 1)
    expected = 12 if protocol == "latbench-quick@2" else expected
    assert len(traces) == expected
    shown = latbench("show", record["id"])
    assert shown.status == 0
    assert protocol in shown.out


def test_fixed_rate_runs_are_duty_cycled(latbench: Latbench) -> None:
    done = latbench(
        *("run", *COMMON, "--protocol", "duty-cycle@1", "--processes", "1"),
        *("--warmup", "1", "--calls", "15", "--json"),
    )
    assert done.status == 0
    assert "duty-cycled" in {regime["name"] for regime in done.json["summary"]["regimes"]}


def test_precision_that_is_not_reached_has_its_exit_status(latbench: Latbench) -> None:
    wild = ("run", *COMMON, "--option", "between=0.2", "--budget", "3", *FEW)
    done = latbench(*wild)
    assert done.status == 0
    assert "not reached" in done.out
    assert latbench(*wild, "--require-precision").status == 4
    calm = ("run", *COMMON, "--option", "between=0.001", *FEW, "--require-precision")
    assert latbench(*calm).status == 0


def test_a_budget_too_small_for_one_process(latbench: Latbench) -> None:
    done = latbench("run", *COMMON, "--budget", "0.001", "--json")
    assert done.status == 0
    assert done.json["record"]["outcome"]["stopped"] == "budget"
    assert done.json["summary"]["reliability"] in ("inconclusive", "unreliable")


def test_a_sentinel_is_timed_beside_and_told(latbench: Latbench) -> None:
    done = latbench("run", *COMMON, "--verbose")
    assert re.search(r"normalized +\d\.\d+x the sentinel \(95% CI .*\); fake-sentinel@1", done.out)
    crashed = latbench("run", *COMMON, "--verbose", LATBENCH_FAKE_SENTINEL="crash")
    assert crashed.status == 0
    assert "the sentinel failed and was left out" in crashed.err
    assert "sentinel lost: the runtime crashed (SIGSEGV)" in crashed.out


def test_a_plan_tells_where_the_variance_comes_from(latbench: Latbench) -> None:
    spread = ("--option", "between=0.03", "--option", "noise=0.01")
    done = latbench("plan", *COMMON, *spread, "--builds", "2", "--json")
    assert done.status == 0, done
    plan = done.json["plan"]
    parts = {part["level"]: part["deviation"] for part in plan["components"]}
    assert parts["process"] == pytest.approx(0.03, rel=0.6)
    assert parts["iteration"] == pytest.approx(0.01, rel=0.3)
    assert parts["block"] < 0.01
    assert parts["build"] == 0.0
    assert len(done.json["pilots"]) == 2
    precise, _, effect = plan["estimates"]
    # 1.96 * 1.2533 * 3 % / 1 %, squared.
    assert 15 <= precise["processes"] <= 160
    assert effect["processes"] < precise["processes"]
    text = latbench("plan", *COMMON, *spread).out
    assert "build      not varied" in text
    assert re.match(r"±1% takes about \d+ (s|min) \(\d+ processes\)\n", text)


def test_a_plan_names_a_command_that_does_it(latbench: Latbench) -> None:
    """Times by the protocol that the command will use, and with the options that this needs."""
    wild = ("--option", "between=0.05", "--target", "1")
    precise = latbench("plan", *COMMON, *wild, "--json").json["plan"]["estimates"][0]
    # Of its own blocks a process takes a second at least, and the sentinel's share more.
    assert precise["seconds"] > 1.2 * precise["processes"]
    assert re.fullmatch(
        r"latbench run mobilevig_ti --backend fake .*--option between=0.05 --target 1 "
        rf"--processes {precise['processes']} --budget \d+",
        precise["how"],
    )
    small = latbench("plan", *COMMON, "--option", "between=0.01", "--effect", "1", "--json")
    effect = small.json["plan"]["estimates"][2]
    # A comparison would stop at ±1 %, and within its margin all is the same.
    assert effect["how"].startswith("latbench compare mobilevig_ti OTHER --backend fake")
    assert f"--margin 0.5 --processes {effect['processes']}" in effect["how"]
    hopeless = latbench("plan", *COMMON, *wild[:2], "--target", "0.1", "--json")
    assert hopeless.json["plan"]["estimates"][0]["how"] is None


def test_a_plan_whose_pilot_fails_says_so(latbench: Latbench) -> None:
    done = latbench("plan", *COMMON, "--option", "misbehave=crash")
    assert done.status == 3
    assert "SIGSEGV" in done.out


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_a_record_is_drawn(latbench: Latbench, tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("matplotlib", reason="needs the `plot` extra")
    record = latbench("run", *COMMON, *QUICK, "--json").json["record"]["id"]
    path = tmp_path / f"trace.{suffix}"
    assert latbench("show", record, "--plot", path).status == 0
    start = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[suffix]
    assert path.read_bytes().startswith(start)
    assert list(tmp_path.glob(".trace*")) == []
    assert latbench("show", record, "--plot", tmp_path / "x.doc").status == 2
    ended = latbench("show", record, "--plot", tmp_path / "nowhere" / "x.png")
    assert ended.status == 3
    assert "cannot write" in ended.err


def test_cold_starts_are_not_compared_in_turn(latbench: Latbench) -> None:
    done = latbench("compare", *COMMON, "--protocol", "cold-start@1", "scale=1", "scale=1.1")
    assert done.status == 2
    assert "times first inferences only" in done.err


def test_a_protocol_of_one_process_says_beforehand_that_it_cannot_tell(latbench: Latbench) -> None:
    done = latbench("compare", *COMMON, "--protocol", "timm@1", "scale=1", "scale=1.1")
    assert done.status == 4, done
    assert "timm@1 has 1 process; a verdict needs at least 6: --processes 6" in done.err


def test_a_cold_start_is_no_latency_in_tables(latbench: Latbench) -> None:
    assert latbench("run", *COMMON, "--protocol", "cold-start@1").status == 0
    text = latbench("table").out
    assert "median of load and first inference" in text
    (row,) = latbench("table", "--format", "json").json
    assert (row["median_ns"], row["protocol"]) == (None, "cold-start@1")
