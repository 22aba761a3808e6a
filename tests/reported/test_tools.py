"""What the outputs of other tools say, and which files are refused."""

from __future__ import annotations

import json
import random
from contextlib import suppress

import pytest

from latbench.analysis.reported_latency import ReportedLatency, reported_latency
from latbench.errors import UsageError
from latbench.reported.tools import AUTO, READERS, read_output, require_agreement
from latbench.schema.reported import StatedFacts, ToolResult
from support.tool_outputs import (
    AIHUB,
    AIHUB_MAJOR_0,
    BENCHMARK_APP,
    BENCHMARK_APP_2020,
    BENCHMARK_APP_2022,
    BENCHMARK_APP_CSV,
    BENCHMARK_APP_JSON,
    BENCHMARK_MODEL,
    EXECUTOR_RUNNER,
    EXECUTOR_RUNNER_2023,
    EXECUTOR_RUNNER_2024,
    GPU_BENCHMARK_MODEL,
    LITERT_BENCHMARK,
    LITERT_JSON,
    LITERT_MODEL,
    MESSAGE,
    OLD_BENCHMARK_MODEL,
    OLD_PERF_TEST,
    OUTPUTS,
    PERF_TEST,
    PERF_TEST_FILE,
    PERF_TEST_FILE_2025,
    QNN_RUNNER,
    RUN_MODEL,
    TRTEXEC,
    TRTEXEC_8,
    TRTEXEC_PROFILE,
    TRTEXEC_TIMES,
    XCODE,
    XCODE_WITHOUT_UNITS,
)


def read(text: str | bytes, tool: str = AUTO) -> ToolResult:
    return read_output(text if isinstance(text, bytes) else text.encode(), tool)


def test_log_of_benchmark_model() -> None:
    found = read(BENCHMARK_MODEL)
    assert (found.tool, found.form, found.backend) == ("benchmark_model", "text", "tflite")
    assert (found.model_file, found.threads) == ("/data/local/tmp/net_a.tflite", 4)
    # Microseconds; the line after the summary counts nodes.
    assert found.statistics_ns["latency"] == {
        **{"mean": 13_333_300, "min": 13_190_000, "max": 15_012_000, "std": 163_000},
        **{"p5": 13_201_000, "median": 13_305_000, "p95": 13_800_000},
    }
    assert found.statistics_ns["warm-up"] == {"mean": 13_502_700}
    assert found.once_ns == {"load": 21_500_000, "first inference": 14_100_000}
    assert found.counts == {"runs": 75, "warm-up runs": 37}
    assert found.memory_bytes == {"increase by load": 4_718_592, "increase": 12_845_056}
    assert "61 of 64 nodes, 2 partitions" in found.settings["delegates"]
    assert found.times_ns == {}


def test_log_of_an_old_benchmark_model() -> None:
    found = read(OLD_BENCHMARK_MODEL)
    assert found.statistics_ns["latency"]["mean"] == 8_810_500
    assert found.statistics_ns["latency"]["min"] == 8_700_000
    assert (found.once_ns, found.counts) == ({"load": 1_200_000}, {"runs": 50})


def test_log_of_benchmark_model_with_a_gpu_and_a_profile() -> None:
    found = read(GPU_BENCHMARK_MODEL)
    # Not the counts of the profile, which come after the summary.
    assert found.statistics_ns["latency"] == {
        "mean": 8_150_500,
        **{"min": 8_050_000, "max": 8_600_000, "std": 44_000},
    }
    assert found.counts == {"runs": 200, "warm-up runs": 60}
    assert found.settings["use gpu"] == "1"
    assert found.settings["signature to run"] == "detect"


def test_log_of_the_benchmark_model_of_litert() -> None:
    found = read(LITERT_MODEL)
    assert found.tool == "LiteRT benchmark_model"
    # The lines of counts have what the block rounds; the block has the rest.
    assert found.statistics_ns["latency"] == {
        **{"mean": 2_512_250, "min": 2_400_000, "max": 2_900_000, "std": 63_000},
        **{"p5": 2_410_000, "median": 2_500_000, "p95": 2_700_000},
    }
    assert found.once_ns == {"load": 45_250_000, "first inference": 3_300_000}
    assert found.counts == {"runs": 64, "warm-up runs": 12}
    assert found.memory_bytes == {"increase by load": 21_495_808, "increase": 25_165_824}
    assert found.settings["signature"] == "detect"
    # Without these lines, what is rounded stands, the deviation without a unit too.
    block = LITERT_MODEL[LITERT_MODEL.index("INFO: [benchmark_litert") :]
    rounded = read(block).statistics_ns["latency"]
    assert (rounded["mean"], rounded["std"]) == (2_510_000, 60_000)
    with pytest.raises(UsageError, match="no mean"):
        read(block.partition(" ms (64")[0])


def test_text_of_run_model() -> None:
    found = read(RUN_MODEL)
    assert (found.model_file, found.counts) == ("/data/local/tmp/net_a.tflite", {"runs": 20})
    assert found.statistics_ns["latency"] == {
        **{"mean": 2_790_000, "min": 2_400_000, "max": 9_100_000},
    }
    assert found.once_ns == {"first inference": 9_100_000}
    assert "include the first run" in found.notes[0]


def test_logs_of_executor_runner() -> None:
    found = read(EXECUTOR_RUNNER)
    assert (found.backend, found.model_file, found.threads) == ("executorch", "net_f.pte", 4)
    assert found.times_ns["latency"] == (9_000_000, 4_500_000, 4_250_000)
    assert found.statistics_ns["latency"] == {"mean": 5_916_667}
    assert found.once_ns == {"load": 12_500_000, "first inference": 9_000_000}
    assert "include the first run" in found.notes[0]
    older = read(EXECUTOR_RUNNER_2024)
    assert (older.statistics_ns["latency"], older.counts) == ({"mean": 4_500_000}, {"runs": 8})
    assert (older.times_ns, older.threads) == ({}, None)
    qnn = read(QNN_RUNNER)
    assert (qnn.tool, qnn.statistics_ns["latency"]) == ("qnn_executor_runner", {"mean": 875_000})
    assert "does not say whether" in qnn.notes[0]


@pytest.mark.parametrize("output", [LITERT_BENCHMARK, LITERT_JSON])
def test_litert_benchmark(output: str) -> None:
    found = read(output, "benchmark_model")
    assert (found.tool, found.model_file, found.threads) == (
        *("litert-benchmark", "/models/net_a.tflite"),
        2,
    )
    assert found.statistics_ns["latency"] == {
        **{"mean": 2_250_000, "min": 2_100_000, "max": 2_900_000, "median": 2_200_000},
        **{"std": 50_000, "p5": 2_120_000, "p95": 2_700_000},
    }
    assert found.once_ns == {"load": 9_250_000, "first inference": 3_500_000}
    assert found.counts == {"runs": 30, "warm-up runs": 5}
    assert found.throughput_milli == {"MB/s": 512_250}


def test_protobuf_of_benchmark_model() -> None:
    found = read(MESSAGE)
    assert found.form == "protobuf"
    assert found.statistics_ns["latency"] == {
        "mean": 2_250_000,
        "min": 2_125_000,
        "median": 2_187_500,
    }
    assert found.once_ns == {"load": 9_250_000, "first inference": 3_500_000}
    assert found.counts == {"runs": 30, "warm-up runs": 5}
    assert found.memory_bytes == {"increase by load": 65_536, "peak": 13_107_200}


def test_log_of_trtexec() -> None:
    found = read(TRTEXEC)
    assert (found.tool_version, found.backend) == ("10.3.0", "tensorrt")
    assert (found.model_file, found.device_name) == ("/m/net_b.onnx", "Board GPU 7")
    assert (found.date, found.batch, found.precision) == ("2026-03-04T05:06:07", None, None)
    assert found.settings["allowed precisions"] == "FP32+FP16"
    assert found.statistics_ns["latency"] == {
        **{"min": 3_700_010, "max": 4_100_000, "mean": 3_750_000, "median": 3_740_000},
        **{"p90": 3_800_000, "p99": 4_050_000},
    }
    assert found.statistics_ns["gpu compute"]["median"] == 3_640_000
    assert found.once_ns == {"compile": 49_500_000_000, "load": 12_500_000}
    assert found.counts == {"runs": 801, "warm-up runs": 55, "parallel requests": 1}
    assert found.throughput_milli == {"inferences/s": 266_813}


def test_log_of_trtexec_8() -> None:
    found = read(TRTEXEC_8)
    assert (found.tool_version, found.batch, found.precision) == ("8.2.1", 1, "int8")
    assert found.statistics_ns["latency"]["median"] == 1_440_000
    assert found.statistics_ns["end to end"]["p99"] == 2_850_000
    assert found.once_ns == {"load": 250_000_000}


@pytest.mark.parametrize(
    ("given", "version"), [("v8601", "8.6.1"), ("v8001", "8.0.1"), ("v11.1.0.106", "11.1.0.106")]
)
def test_versions_of_trtexec(given: str, version: str) -> None:
    assert read(TRTEXEC.replace("v100300", given)).tool_version == version


def test_exported_times_of_trtexec() -> None:
    found = read(TRTEXEC_TIMES)
    assert found.times_ns == {
        "latency": (3_600_000, 3_500_000),
        "gpu compute": (3_500_000, 3_400_000),
    }
    assert found.statistics_ns == {}
    assert "warm-up" in found.notes[0]


def test_exported_profile_of_trtexec() -> None:
    found = read(TRTEXEC_PROFILE)
    assert [(each.name, each.time_ns) for each in found.operators] == [
        ("conv1 + relu1", 200_000),
        ("fc", 300_000),
    ]
    assert (found.counts, found.statistics_ns) == ({"runs": 800}, {})


def test_text_of_perf_test() -> None:
    found = read(PERF_TEST)
    assert (found.backend, found.threads, found.counts) == ("onnxruntime", 2, {"runs": 250})
    assert found.statistics_ns["latency"] == {
        **{"mean": 5_000_123, "min": 4_800_000, "max": 9_900_000, "median": 4_950_000},
        **{"p90": 5_200_000, "p95": 5_500_000, "p99": 7_100_000, "p99.9": 9_900_000},
    }
    assert found.once_ns == {"load": 125_000_000, "first inference": 7_000_000}
    assert found.memory_bytes == {"peak": 73_400_320}


def test_results_file_of_perf_test() -> None:
    found = read(PERF_TEST_FILE)
    assert found.model_file == "net_c"
    assert found.times_ns["latency"] == (5_010_000, 4_920_000, 4_990_000)
    assert found.statistics_ns["latency"]["median"] == 4_990_000


def test_other_versions_of_perf_test() -> None:
    old = read(OLD_PERF_TEST)
    assert (old.counts, old.notes) == ({"runs": 250}, ())
    assert old.statistics_ns["latency"] == {
        **{"mean": 5_000_123, "min": 4_800_000, "max": 9_900_000, "median": 4_950_000}
    }
    assert "submission" in read(PERF_TEST).notes[0]
    new = read(PERF_TEST_FILE_2025)
    assert (new.model_file, new.memory_bytes) == ("net_c", {"peak": 73_400_320})
    assert new.times_ns == {
        "latency": (5_010_000, 4_920_000, 4_990_000),
        "submission": (1_010_000, 1_020_000, 1_030_000),
    }
    text = PERF_TEST + "Average inference time cost submission: 1.5 ms\n"
    assert read(text).statistics_ns["submission"] == {"mean": 1_500_000}


def test_benchmark_app() -> None:
    found = read(BENCHMARK_APP)
    assert (found.tool_version, found.threads, found.batch) == ("2026.4.1", 2, 1)
    assert found.statistics_ns["latency"] == {
        **{"median": 9_750_000, "mean": 9_800_000},
        **{"min": 950_250, "max": 12_250_000},
    }
    assert found.counts == {"runs": 200, "parallel requests": 2}
    assert found.once_ns["compile"] == 150_250_000


def test_older_texts_of_benchmark_app() -> None:
    found = read(BENCHMARK_APP_2020)
    assert (found.tool_version, found.batch) == ("2020.4.0", 1)
    # One line, which holds the median.
    assert found.statistics_ns["latency"] == {"median": 1_587_250_000}
    assert found.once_ns == {"read model": 110_500_000, "compile": 1_990_250_000}
    assert found.counts == {"runs": 156, "parallel requests": 4}
    found = read(BENCHMARK_APP_2020.replace("Latency: ", "Latency (90 percentile): "))
    assert found.statistics_ns["latency"] == {"p90": 1_587_250_000}
    found = read(BENCHMARK_APP_2022)
    assert found.statistics_ns["latency"] == {
        **{"median": 35_250_000, "mean": 36_500_000},
        **{"min": 18_750_000, "max": 88_500_000},
    }


def test_reports_of_benchmark_app() -> None:
    found = read(BENCHMARK_APP_CSV)
    assert (found.model_file, found.threads) == ("/m/net_d.xml", 4)
    assert found.statistics_ns["latency"] == {
        **{"p90": 5_250_000, "mean": 5_010_000},
        **{"min": 4_800_000, "max": 9_500_000},
    }
    assert found.counts["runs"] == 200
    other = read(BENCHMARK_APP_JSON)
    assert other.statistics_ns["latency"]["median"] == 4_900_000
    assert other.counts == {"runs": 200, "parallel requests": 4}
    assert other.settings["target device"] == "NPU"


def test_report_of_xcode() -> None:
    found = read(json.dumps(XCODE))
    assert found.times_ns == {
        "latency": (1_200_000, 1_100_000, 1_300_000),
        "load": (50_000_000, 40_000_000),
    }
    assert (found.model_file, found.device_name) == ("NetE", "Phone 9")
    assert found.settings == {"compute_units": "all", "os": "iOS 99.1"}
    assert [(each.name, each.unit) for each in found.operators] == [("y", "neuralEngine")]
    # What names a person's device is not kept.
    assert "SECRET" not in str(found)
    assert "Ada" not in str(found)
    found = read(json.dumps(XCODE_WITHOUT_UNITS))
    assert found.times_ns == {"latency": (2_000_000, 2_100_000)}
    assert (found.model_file, found.settings["compute_units"]) == ("NetE", "cpu_and_ne")
    assert found.operators == ()


def test_profile_of_aihub() -> None:
    found = read(json.dumps(AIHUB))
    assert found.statistics_ns == {"latency": {"estimated": 730_000}}
    assert found.times_ns["latency"] == (760_000, 730_000, 745_000)
    assert found.once_ns == {"load": 90_000_000, "warm load": 40_000_000}
    # The estimate is the least time, so the times themselves stand for the result.
    assert reported_latency(found) == ReportedLatency(
        statistic="median of its 3 times", value_ns=745_000
    )
    assert found.memory_bytes == {
        "peak": 4096,
        "peak of inference, least": 1000,
        "peak of inference, most": 2000,
    }
    assert [(each.unit, each.time_ns) for each in found.operators] == [
        ("NPU", 400_000),
        ("CPU", 300_000),
    ]
    found = read(json.dumps(AIHUB_MAJOR_0))
    assert reported_latency(found) == ReportedLatency(statistic="estimated", value_ns=950_000)
    assert (found.once_ns, found.memory_bytes) == ({"load": 80_000_000}, {})
    assert [(each.unit, each.time_ns) for each in found.operators] == [("NPU", None)]


@pytest.mark.parametrize("name", OUTPUTS)
def test_the_content_shows_the_tool(name: str) -> None:
    tool, content = OUTPUTS[name]
    assert read_output(content, AUTO) == read_output(content, tool)
    for other in READERS.keys() - {tool}:
        with pytest.raises(UsageError, match="not an output of") as caught:
            read_output(content, other)
        assert f"--from {tool}" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"hello", "none of the tools"),
        (2 * BENCHMARK_MODEL.encode(), "holds 2 results"),
        (2 * LITERT_BENCHMARK.encode(), "holds 2 results"),
        (2 * LITERT_MODEL.encode(), "holds 2 results"),
        (2 * RUN_MODEL.encode(), "holds 2 results"),
        (2 * EXECUTOR_RUNNER.encode(), "holds 2 results"),
        (RUN_MODEL.partition("All runs")[0].encode(), "no average"),
        (EXECUTOR_RUNNER_2023.encode(), "does not say how long"),
        (EXECUTOR_RUNNER.partition("Model executed")[0].encode(), "before the model was executed"),
        (EXECUTOR_RUNNER.replace("Iteration 2", "Iteration 7").encode(), "3 iterations of 3"),
        (EXECUTOR_RUNNER.replace("y 3 time", "y 0 time").encode(), "no inference"),
        (
            QNN_RUNNER.encode() + b"Execution of method forward failed with status 0x12\n",
            "failed with status 0x12",
        ),
        (2 * TRTEXEC.encode(), "holds 2 results"),
        (2 * PERF_TEST.encode(), "holds 2 results"),
        (2 * PERF_TEST_FILE.encode(), "holds 2 results"),
        (2 * BENCHMARK_APP.encode(), "holds 2 results"),
        (2 * BENCHMARK_APP_CSV.encode(), "holds 2 results"),
        (BENCHMARK_MODEL.partition("Inference timings")[0].encode(), "no line with its timings"),
        (TRTEXEC.partition("=== Perf")[0].encode(), "no performance summary"),
        (TRTEXEC.partition("Latency: min")[0].encode(), "no line `Latency"),
        (TRTEXEC.replace("PASSED", "FAILED").encode(), "trtexec failed"),
        (TRTEXEC.replace("3.75 ms", "3.75 fortnights").encode(), "unknown unit"),
        (TRTEXEC.replace("3.75 ms", "inf ms").encode(), "impossible"),
        (PERF_TEST.partition("Average")[0].encode(), "no average inference time"),
        (PERF_TEST_FILE.partition("net_c,0.00492")[0].encode() + b"net_c,0.1", "not a result"),
        (PERF_TEST_FILE.partition("\n")[2].encode(), "rows are missing"),
        (BENCHMARK_APP.partition("Latency:")[0].encode(), "no latency"),
        (BENCHMARK_APP_CSV.partition("latency")[0].encode(), "no latency"),
        (b"layerName;execStatus;layerType\nconv;EXECUTED;Conv\n", "times by layer"),
        (json.dumps({"deviceResults": {"predict": {}}}).encode(), "no deviceResults.predict"),
        (json.dumps({"execution_summary": {}}).encode(), "neither"),
        (MESSAGE[:20], "none of the tools"),
    ],
)
def test_refused(content: bytes, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        read_output(content, AUTO)


@pytest.mark.slow
@pytest.mark.parametrize("name", OUTPUTS)
def test_damage_is_an_error_in_words(name: str) -> None:
    """Cut, doubled and changed anywhere, a file is read or refused."""
    tool, content = OUTPUTS[name]
    draw = random.Random(name)
    for _ in range(60):
        at, length = draw.randrange(len(content)), draw.randrange(1, 12)
        texts = (b"", b"null", b"-1", b"[]", b"{}", b"1e9999999", b"\xff", b"\n", 5000 * b"9")
        new = draw.choice(texts)
        damaged = content[:at] + new + content[at + length :]
        with suppress(UsageError):
            read_output(damaged, tool)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_output_saved_by_other_shells(encoding: str) -> None:
    windows = PERF_TEST.replace("\n", "\r\n").encode(encoding)
    assert read_output(windows, AUTO) == read(PERF_TEST)


def test_the_user_cannot_contradict_the_file() -> None:
    require_agreement(read(PERF_TEST), StatedFacts(threads=2, backend="onnxruntime", batch=1))
    with pytest.raises(UsageError, match="threads is 2, and --threads says 4"):
        require_agreement(read(PERF_TEST), StatedFacts(threads=4))
