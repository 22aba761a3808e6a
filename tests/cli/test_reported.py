"""Results of other tools through the command line: imported, listed, never taken for measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from latbench.cli.import_ import FROM
from latbench.reported.tools import READERS
from latbench.schema.codec import encode_record
from support.command_line import Latbench
from support.onnx_files import classifier
from support.records import make_record, make_trace
from support.tflite_files import adder
from support.tool_outputs import BENCHMARK_MODEL, OUTPUTS, PERF_TEST, TRTEXEC, XCODE

TOOLS_OF_VENV = Path(sys.executable).parent
STATED = ("--model", "net_b", "--device", "board-1", "--precision", "fp16")


def imported(latbench: Latbench, path: Path, text: str, *options: str) -> str:
    path.write_text(text)
    done = latbench("import", path, "--from", "auto", *options)
    assert (done.status, done.err) == (0, "")
    return done.out.strip()


def test_every_tool_can_be_named() -> None:
    assert (*READERS, "auto") == FROM


def test_show_says_who_reports_it(latbench: Latbench, tmp_path: Path) -> None:
    id = imported(latbench, tmp_path / "b.log", TRTEXEC, *STATED)
    shown = latbench("show", id).out
    first, *rest = shown.splitlines()
    assert first.startswith(
        "REPORTED by trtexec 10.3.0, not measured by latbench: 3.74 ms (median)"
    )
    assert "net_b" in first
    assert "board-1" in first
    assert "CI" not in shown
    assert any(line.split()[0] == "evidence" and "none" in line for line in rest)
    tree = latbench("show", id, "--json").json["reported"]
    assert (tree["kind"], tree["file"], len(tree["sha256"])) == ("reported", "b.log", 64)
    assert tree["stated"]["device"] == "board-1"
    assert tree["result"]["device_name"] == "Board GPU 7"
    assert tree["result"]["statistics_ns"]["latency"]["mean"] == 3_750_000


@pytest.mark.parametrize("command", ["show", "history", "table"])
def test_lists_mark_it(latbench: Latbench, tmp_path: Path, command: str) -> None:
    record = make_record(id="one", traces=[make_trace(0, [10, 11, 12])])
    (tmp_path / "one.json").write_bytes(encode_record(record))
    assert latbench("import", "one.json").status == 0
    imported(latbench, tmp_path / "b.log", TRTEXEC, *STATED)
    assert "3.74 ms median, reported by trtexec 10.3.0" in latbench(command).out
    rows = {row["status"]: row for row in latbench(command, "--json").json}
    assert rows["reported"]["reported_by"] == "trtexec 10.3.0"
    assert rows["reported"]["median_ns"] is None
    assert (rows["reported"]["statistic"], rows["reported"]["reported"]) == ("median", 3_740_000)
    assert rows["measured"]["reported_by"] is None
    # Conditions apply to it as to records, and a protocol is one that it cannot meet.
    for wanted, statuses in (
        (("--model", "net_b"), ["reported"]),
        (("--device", "board-1"), ["reported"]),
        (("--precision", "fp16", "--backend", "tensorrt"), ["reported"]),
        (("--model", "other"), []),
        (("--model", "net_b", "--protocol", record.protocol.name), []),
    ):
        found = latbench(command, *wanted, "--json").json
        assert [row["status"] for row in found] == statuses


def test_a_newer_result_does_not_hide_a_record(latbench: Latbench, tmp_path: Path) -> None:
    record = make_record(id="one", traces=[make_trace(0, [10, 11, 12])])
    (tmp_path / "one.json").write_bytes(encode_record(record))
    latbench("import", "one.json")
    same = ("--model", record.model.name, "--device", record.device.id)
    imported(latbench, tmp_path / "c.txt", PERF_TEST, *same)
    assert {row["status"] for row in latbench("table", "--json").json} == {"measured", "reported"}


def test_nothing_measures_with_it(latbench: Latbench, tmp_path: Path) -> None:
    id = imported(latbench, tmp_path / "b.log", TRTEXEC, *STATED)
    for arguments in (
        ("compare", "--records", id, id),
        ("profile", id),
        ("show", id, "--plot", "x.png"),
        ("claims", "explain", id, "--against", id),
    ):
        done = latbench(*arguments)
        assert done.status == 2
        assert "reported by trtexec 10.3.0, not measured by latbench" in done.err


def test_its_json_and_a_bundle_move_it(latbench: Latbench, tmp_path: Path) -> None:
    id = imported(latbench, tmp_path / "b.log", TRTEXEC, *STATED)
    (tmp_path / "shown.json").write_text(latbench("show", id, "--json").out)
    assert latbench("bundle", "create", "e.zip", id).status == 0
    assert latbench("bundle", "verify", "e.zip", "--json").json["reported"] == [id]
    assert "REPORTED by trtexec" in latbench("bundle", "show", "e.zip").out
    expected = latbench("show", id, "--json").json
    for number, arguments in enumerate((("import", "shown.json"), ("bundle", "import", "e.zip"))):
        other = ("--registry", str(tmp_path / f"{number}.db"))
        assert latbench(*arguments, *other).status == 0
        assert latbench("show", id, "--json", *other).json == expected
    assert "skipped 1 already stored" in latbench("bundle", "import", "e.zip").out


def test_all_or_nothing_and_once(latbench: Latbench, tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(BENCHMARK_MODEL)
    (tmp_path / "cut.log").write_text(BENCHMARK_MODEL[:300])
    done = latbench("import", "--from", "benchmark_model", "a.log", "cut.log")
    assert done.status == 2
    assert "cut.log: the log of benchmark_model has no line with its timings" in done.err
    assert latbench("show").status == 3  # nothing created a registry
    done = latbench("import", "--from", "benchmark_model", "a.log", "a.log", "--json")
    assert len(done.json) == 1
    again = latbench("import", "--from", "benchmark_model", "a.log")
    assert again.status == 3
    assert f"{done.json[0]} is the same result of a.log" in again.err
    # Said more about, it is another entry.
    assert latbench("import", "--from", "benchmark_model", "a.log", "--model", "m").status == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--from", "trtexec"), "looks like the output of perf_test"),
        (("--from", "perf_test", "--precision", "fp31"), "unknown precision"),
        (("--from", "perf_test", "--date", "yesterday"), "is not a date"),
        (("--from", "perf_test", "--threads", "3"), "threads is 2, and --threads says 3"),
        (("--from", "perftest"), "is not one of"),
        (("--model", "x"), "--model requires --from"),
    ],
)
def test_refused(latbench: Latbench, tmp_path: Path, options: tuple[str, ...], words: str) -> None:
    (tmp_path / "c.txt").write_text(PERF_TEST)
    done = latbench("import", "c.txt", *options)
    assert done.status == 2
    assert words in done.err + done.out


def test_a_folder_of_xcode(latbench: Latbench, tmp_path: Path) -> None:
    folder = tmp_path / "NetE.mlperf"
    folder.mkdir()
    assert latbench("import", folder, "--from", "xcode").status == 2
    (folder / "report.json").write_text(json.dumps(XCODE))
    done = latbench("import", folder, "--from", "xcode")
    assert done.status == 0
    first = latbench("show", done.out.strip()).out.splitlines()[0]
    assert "1.20 ms (median of its 3 times)  NetE · coreml · Phone 9" in first


@pytest.mark.parametrize("name", OUTPUTS)
def test_every_output_is_shown(latbench: Latbench, tmp_path: Path, name: str) -> None:
    tool, content = OUTPUTS[name]
    (tmp_path / "file").write_bytes(content)
    id = latbench("import", "file", "--from", tool).out.strip()
    assert latbench("show", id).out.startswith("REPORTED by ")
    for form in ("markdown", "latex", "matrix", "csv"):
        assert "reported by" in latbench("table", "--format", form).out.replace(
            "reported_by", "reported by"
        )


@pytest.mark.slow
def test_what_benchmark_app_really_writes(latbench: Latbench, tmp_path: Path) -> None:
    program = TOOLS_OF_VENV / "benchmark_app"
    if not program.exists():
        pytest.skip("needs OpenVINO")
    model = classifier(tmp_path / "net.onnx")
    command = [str(program), "-m", str(model), "-niter", "5", "-hint", "latency"]
    for report in ((), ("-json_stats",)):
        folder = ["-report_type", "no_counters", "-report_folder", str(tmp_path)]
        done = subprocess.run(
            [*command, *folder, *report], capture_output=True, text=True, check=True
        )
    (tmp_path / "out.txt").write_text(done.stdout)
    files = ("out.txt", "benchmark_report.csv", "benchmark_report.json")
    ids = latbench("import", "--from", "benchmark_app", *files, "--json").json
    for id in ids:
        found = latbench("show", id, "--json").json["reported"]["result"]
        assert {"median", "mean", "min", "max"} <= found["statistics_ns"]["latency"].keys()
        assert found["counts"]["runs"] >= 5


@pytest.mark.slow
def test_what_litert_benchmark_really_writes(latbench: Latbench, tmp_path: Path) -> None:
    program = TOOLS_OF_VENV / "litert-benchmark"
    if not program.exists():
        pytest.skip("needs ai-edge-litert")
    model = adder(tmp_path / "net.tflite")
    command = [str(program), f"--model={model}", "--num_runs=5", "--result_json=r.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    if done.returncode:
        pytest.skip(f"litert-benchmark does not run here: {done.stderr[-200:]}")
    (tmp_path / "log.txt").write_text(done.stderr + done.stdout)
    ids = latbench("import", "--from", "benchmark_model", "r.json", "log.txt", "--json").json
    for id in ids:
        found = latbench("show", id, "--json").json["reported"]["result"]
        assert found["counts"]["runs"] == 5
        assert "mean" in found["statistics_ns"]["latency"]


def test_it_stands_beside_a_claim_and_decides_nothing(latbench: Latbench, tmp_path: Path) -> None:
    claim = "mobilevig-ti-latency-iphone13mini"
    (before,) = latbench("claims", "check", claim, "--question", "value", "--json").json
    assert "reported" not in latbench("claims", "show", claim).out
    id = imported(
        latbench,
        tmp_path / "b.log",
        TRTEXEC,
        *("--model", "mobilevig_ti", "--device", "iphone-13-mini"),
    )
    line = "reported, decides nothing: mobilevig_ti 3.74 ms (median) by trtexec 10.3.0 on "
    for command in (("check", claim, "--question", "value"), ("show", claim)):
        done = latbench("claims", *command)
        assert line in done.out
        assert id in done.out
    (after,) = latbench("claims", "check", claim, "--question", "value", "--json").json
    assert after.pop("reported") == [id]
    assert before.pop("reported") == []
    assert after == before
    page = latbench("claims", "check", claim, "--question", "value", "--format", "markdown").out
    assert "## Reported by other tools" in page
    # A claim about another network, or about no latency, has nothing to do with it.
    for other in ("mobilenetv2-140-latency-iphone13mini-mobilevig", "tinynet-e-macs"):
        assert "reported, decides nothing" not in latbench("claims", "show", other).out


def test_the_python_api_imports_and_reads_it(tmp_path: Path) -> None:
    import latbench as api

    path, registry = tmp_path / "b.log", str(tmp_path / "r.db")
    path.write_text(TRTEXEC)
    entry = api.import_reported(path, model="net_b", precision="fp16", registry=registry)
    assert entry.result.statistics_ns["latency"]["median"] == 3_740_000
    with api.Registry.open(registry) as store:
        assert store.reported() == (entry,)
        assert store.entry(entry.id[:-2]) == entry
        with pytest.raises(api.UsageError, match="not measured by latbench"):
            store.get(entry.id)
        assert store.remove_reported([entry.id]) == (entry.id,)
        assert store.reported() == ()
    path.write_text(PERF_TEST)
    with pytest.raises(api.UsageError, match="threads is 2"):
        api.import_reported(path, threads=9, registry=registry)
