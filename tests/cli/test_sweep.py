"""Many points from one command, through the command line, on the fake backend."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from support.command_line import COMMAND, Latbench, wait_for_workers
from support.environment import TINY

FAST = ("--protocol", "latbench-fixed@1", "--processes", "1", "--warmup", "1", "--calls", "5")
MODELS = ("--model", "mobilevig_ti", "--model", "mobilevig_s")


def rows(done: object) -> list[dict[str, object]]:
    return done.json["rows"]  # type: ignore[attr-defined, no-any-return]


def test_every_combination_is_measured_once(latbench: Latbench) -> None:
    done = latbench(
        *("run", *MODELS, "--backend", "fake", "--batch", "1", "--batch", "2"),
        *("--threads", "1", "--threads", "2", *FAST, "--json"),
    )
    assert done.status == 0, done.err
    found = {(r["model"], r["input"], r["threads"]) for r in rows(done)}
    assert len(rows(done)) == len(found) == 8
    assert ("mobilevig_s", "2x3x224x224", 2) in found
    assert done.err.count("[8/8]") == 1
    assert "min left" in done.err or "s left" in done.err
    table = latbench("table", "--sweep", "latest", "--format", "csv")
    assert len(list(csv.DictReader(io.StringIO(table.out)))) == 8


def test_the_order_is_random_and_can_be_repeated(latbench: Latbench) -> None:
    arguments = ("run", *MODELS, "--backend", "fake", "--batch", "1", "--batch", "2", *FAST)

    def order(seed: int) -> list[str]:
        done = latbench(*arguments, "--order-seed", str(seed))
        return [line.partition("] ")[2].partition(":")[0] for line in done.err.splitlines()]

    assert order(3) == order(3)
    assert sorted(order(3)) == sorted(order(4))
    assert len({tuple(order(seed)) for seed in range(6)}) > 1


def test_a_point_that_fails_ends_nothing(latbench: Latbench, tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(
        "points:\n"
        "  - {model: mobilevig_ti, backend: fake, options: {misbehave: crash}}\n"
        "  - {model: mobilevig_ti, backend: fake, precision: int8}\n"
        "  - {model: mobilevig_s, backend: fake, batch: 2}\n"
    )
    done = latbench("run", "--sweep", "sweep.yaml", *FAST, "--json")
    assert done.status == 3
    assert sorted(str(r["status"]) for r in rows(done)) == ["failed", "measured"]
    (over,) = done.json["passed_over"]
    assert "cannot be exported in int8" in over["reason"]
    assert over["hint"] == "supported: fp32"
    shown = latbench("run", "--sweep", "sweep.yaml", *FAST)
    (skipped,) = (line for line in shown.out.splitlines() if line.startswith("skipped"))
    assert skipped.startswith("skipped: mobilevig_ti · fake · int8")
    assert skipped.endswith("(supported: fp32)")
    assert "SIGSEGV" in shown.out


def test_a_name_that_does_not_exist_ends_it_before_anything_is_measured(latbench: Latbench) -> None:
    done = latbench("run", *MODELS, "--model", "mobilvig_b", "--backend", "fake", *FAST)
    assert done.status == 2
    assert "mobilevig_b" in done.err
    assert latbench("show").status == 3


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("models: [a]\nbackend: fake\n", "sweep.yaml:2: backend: unknown key"),
        ("backends: [fake]\n", "names no models"),
        ("models: mobilevig_ti\n", "sweep.yaml:1: models: expected `array`"),
        ("models: [mobilevig_ti]\nbackends: [fake]\noptions: {nois: 1}\n", "expected `str`"),
        ("models: [mobilevig_ti]\nbackends: [fake]\noptions: {nois: 'a'}\n", "did you mean noise?"),
        (
            "points: [{backend: fake}]\n",
            "sweep.yaml:1: points[0]: object missing required field `model`",
        ),
        ("points: [{model: a, threads: '2'}]\n", "points[0].threads: expected `int | null`"),
        ("points: [{model: a, bakend: fake}]\n", "did you mean backend?"),
        ("points: [{model: a}]\nbackends: []\n", "sweep.yaml:2: backends: the list is empty"),
        ("models: [a]\nprecisions: []\n", "sweep.yaml:2: precisions: the list is empty"),
        ("models: [a]\nbatches: []\n", "sweep.yaml:2: batches: the list is empty"),
        ("models: [a]\nresolutions: []\n", "sweep.yaml:2: resolutions: the list is empty"),
        ("models: [a]\nthreads: []\n", "sweep.yaml:2: threads: the list is empty"),
        ("points: [{model: mobilevig_ti, backend: ''}]\n", "unknown backend ''"),
        (
            "models: [a]\ncalibration: i\n",
            "sweep.yaml:2: calibration: calibration requires precision int8",
        ),
        (
            "models: [a]\nprecisions: [int8]\npoints: [{model: a, calibration: i}]\n",
            "sweep.yaml:3: points[0].calibration: calibration requires precision int8 (got fp32)",
        ),
    ],
)
def test_a_wrong_file_is_told_with_its_line(
    latbench: Latbench, tmp_path: Path, content: str, words: str
) -> None:
    (tmp_path / "sweep.yaml").write_text(content)
    done = latbench("run", "--sweep", "sweep.yaml", *FAST)
    assert done.status == 2
    assert words in done.err


def test_it_survives_a_kill_and_goes_on_where_it_was(
    latbench: Latbench, environment: dict[str, str], tmp_path: Path
) -> None:
    arguments = [
        *("run", *MODELS, "--backend", "fake"),
        *("--batch", "1", "--batch", "2", "--batch", "3", *FAST),
    ]
    running = subprocess.Popen(
        [*COMMAND, *arguments], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
    )
    assert running.stderr is not None
    first = running.stderr.readline()
    assert first.startswith("[1/6]")
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    running.stderr.close()
    before = json.loads(latbench("table", "--sweep", "latest", "--format", "json").out)
    assert 1 <= len(before) < 6
    again = latbench(*arguments, "--resume", "--json")
    assert again.status == 0, again.err
    assert len(rows(again)) == 6
    assert {r["id"] for r in before} <= {r["id"] for r in rows(again)}
    assert f"[{len(before) + 1}/6]" in again.err
    # All there is: nothing is measured, the table is shown.
    assert latbench(*arguments, "--resume", "--json").json["rows"] == rows(again)


def test_an_interrupted_point_is_measured_again(
    latbench: Latbench, environment: dict[str, str], tmp_path: Path
) -> None:
    slow = ("--option", "real_time=yes", "--protocol", "latbench-fixed@1", "--calls", "2000")
    arguments = ["run", *MODELS, "--backend", "fake", *slow, "--processes", "1"]
    running = subprocess.Popen(
        [*COMMAND, *arguments], cwd=tmp_path, env=environment, stderr=subprocess.PIPE
    )
    wait_for_workers(running.pid, 1)
    time.sleep(0.5)
    running.send_signal(signal.SIGINT)
    assert running.wait(30) == 3
    assert running.stderr is not None
    running.stderr.close()
    assert {r["status"] for r in table(latbench)} == {"interrupted"}
    told = latbench(*arguments, "--order-seed", "1", "--option", "noise=0.02", "--calls", "3")
    assert "cut off" not in told.err


def table(latbench: Latbench) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(
        latbench("table", "--sweep", "latest", "--format", "json").out
    )
    return found


def test_a_table_in_every_form(latbench: Latbench, tmp_path: Path) -> None:
    latbench("run", *MODELS, "--backend", "fake", *FAST)
    text = latbench("table").out
    assert text.splitlines()[0].split()[:2] == ["model", "latency"]
    assert "backend fake" in text, "what all rows share is printed once"
    markdown = latbench("table", "--format", "markdown").out.splitlines()
    assert markdown[1].startswith("| --- | --- |")
    assert len(markdown) == 4
    latex = latbench("table", "--format", "latex").out
    assert "\\toprule" in latex
    assert "mobilevig\\_s & fake & fp32" in latex
    chosen = latbench("table", "--columns", "model,latency", "--sort", "-model").out.splitlines()
    assert [line.split()[0] for line in chosen] == ["model", "mobilevig_ti", "mobilevig_s"]
    (only,) = json.loads(latbench("table", "--model", "mobilevig_s", "--json").out)
    assert only["model"] == "mobilevig_s"
    assert "latency" in latbench("table", "--columns", "lat").err
    assert latbench("table", "--columns", "model", "--format", "csv").status == 2
    matrix = latbench("table", "--format", "matrix").out.splitlines()
    assert matrix[0] == "| model | fake |"
    assert matrix[2].startswith("| mobilevig_s | ")
    assert " ms" in matrix[2]
    found = json.loads(latbench("table", "--format", "json").out)
    assert all(isinstance(r["median_ns"], int) for r in found)
    assert latbench("table", "--format", "parquet").status == 2
    assert latbench("table", "--sweep", "no-such").status == 2
    pq = pytest.importorskip("pyarrow.parquet")
    assert latbench("table", "--format", "parquet", "--output", "t.parquet").status == 0
    assert pq.read_table(tmp_path / "t.parquet").to_pylist() == found


def test_what_only_the_exporting_program_can_tell_is_a_failed_point(
    latbench: Latbench, tmp_path: Path
) -> None:
    """A factory that is not there, a weights file that does not fit: one point of many."""
    (tmp_path / "net.py").write_text("x = 1\n")
    done = latbench(
        *("run", "--model", "net.py:make", "--model", "timm:no_such_model_at_all", *FAST, "--json"),
    )
    assert done.status == 3, done.err
    assert {r["status"] for r in rows(done)} == {"failed"}


def test_a_failure_is_at_the_stage_where_it_happened(latbench: Latbench) -> None:
    done = latbench(
        *("run", "--model", "mobilevig_ti", "--backend", "fake", *FAST, "--json"),
        *("--batch", "1", "--batch", "2", "--option", "noise=loud"),
    )
    assert done.status == 3
    for found in rows(done):
        record = latbench("show", str(found["id"]), "--json").json["record"]
        failure = record["outcome"]["failure"]
        assert (failure["stage"], record["artifact"]["format"]) == ("open", "fake")
        assert "option noise is not a number" in failure["message"]


def test_an_edited_network_is_another_sweep(latbench: Latbench, tmp_path: Path) -> None:
    source = (
        "from torch import nn\ndef one(): return nn.Conv2d(3, {}, 3)\ndef two(): return one()\n"
    )
    arguments = (
        "run",
        "--model",
        "net.py:one",
        "--model",
        "net.py:two",
        "--backend",
        "fake",
        *FAST,
    )
    (tmp_path / "net.py").write_text(source.format(4))
    first = latbench(*arguments, "--json")
    (tmp_path / "net.py").write_text(source.format(5))
    again = latbench(*arguments, "--resume", "--json")
    assert "there is no earlier sweep of exactly these points" in again.err
    assert first.json["sweep"] != again.json["sweep"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--sweep", "s.yaml", "--threads", "2"), "--threads conflicts with --sweep"),
        (("--sweep", "s.yaml", "--option", "noise=0"), "--option conflicts with --sweep"),
        ((*MODELS, "--device", "iphone-13-mini"), "is a description, not a device"),
        ((*MODELS, "--weights", "w.pth"), "set it in a point of a sweep file"),
        (("--model", "mobilevig_ti", "--resume"), "apply to sweeps only"),
        (("--model", "mobilevig_ti", "--order-seed", "1"), "apply to sweeps only"),
        ((*MODELS, "--calibration", "images"), "--calibration requires --precision int8"),
    ],
)
def test_options_that_would_be_ignored_are_refused(
    latbench: Latbench, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    (tmp_path / "s.yaml").write_text("models: [mobilevig_ti]\nbackends: [fake]\n")
    done = latbench("run", *arguments)
    assert done.status == 2, done
    assert words in done.err


def test_a_failed_run_shows_no_latency(latbench: Latbench) -> None:
    lies = ("--option", "misbehave=lie", "--option", "at=outputs")
    latbench("run", "--model", "mobilevig_ti", "--backend", "fake", *FAST, *lies)
    (found,) = json.loads(latbench("table", "--json").out)
    assert found["status"] == "failed"
    assert found["median_ns"] is None
    assert " ms" not in latbench("table", "--format", "matrix").out


def test_a_fallback_is_never_in_the_columns_of_what_was_asked_for(latbench: Latbench) -> None:
    pytest.importorskip("torch", reason="exporting needs the `export` extra")
    for backend in ("onnxruntime", "fake"):
        done = latbench(
            *("run", "--model", TINY, "--backend", backend, *FAST), LATBENCH_FAKE_UNAVAILABLE="1"
        )
        assert done.status == 0, done.err
    found = {r["backend"]: r for r in json.loads(latbench("table", "--json").out)}
    assert found["fake"]["fell_back_to"] == "onnxruntime"
    assert found["fake"]["format"] == "fake"
    assert found["fake"]["median_ns"] is found["fake"]["runtime"] is None
    assert found["fake"]["fallback_median_ns"] > 0
    # The record of ONNX Runtime's own is still the latest of its group.
    assert found["onnxruntime"]["median_ns"] > 0
    assert len(latbench("show", "--json").json) == 2
    assert "cannot run here; onnxruntime took" in latbench("show").out
