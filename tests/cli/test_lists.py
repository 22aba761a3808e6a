"""``history``, ``show`` and ``table`` as lists: conditions, columns and formats; ``profile``."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import msgspec
import pytest

from latbench.schema.record import Record
from latbench.schema.trace import OperatorTime, Profile
from latbench.store.registry import Registry
from support.command_line import Latbench
from support.records import make_record, make_trace

NAME = "a|b<script>.onnx"
DAY_NS = 86_400 * 10**9
NEW_NS = 1_790_000_000_000_000_000
"""2026-09-21."""


def stored(i: int, **changes: object) -> Record:
    """The i-th record, a day after the one before; ``changes`` of the request, artifact, ..."""
    record = make_record(
        id=f"01{i:024d}",
        created_unix_ns=NEW_NS + i * DAY_NS,
        model=str(changes.get("model", "mobilevig_ti")),
        backend=str(changes.get("backend", "onnxruntime")),
        traces=[make_trace(p, [6_400_000 + 1000 * p] * 20) for p in range(6)],
    )
    assert record.artifact is not None
    options = changes.get("options", {})
    return msgspec.structs.replace(
        record,
        request=msgspec.structs.replace(record.request, options=options),
        artifact=msgspec.structs.replace(
            record.artifact, precision=changes.get("precision", "fp32")
        ),
        model=msgspec.structs.replace(record.model, weights=changes.get("weights", "seed:0")),
    )


@pytest.fixture
def registry(environment: dict[str, str]) -> None:
    with Registry.open(environment["LATBENCH_REGISTRY"]) as store:
        store.add_many(
            [
                stored(0),
                stored(1, precision="fp16"),
                stored(2, options={"graph_optimization": "disabled"}),
                stored(3, weights="sha256:abcdef0123456789"),
                stored(4, model=NAME, backend="tflite"),
            ]
        )


def ids(latbench: Latbench, *arguments: str) -> list[int]:
    return [int(row["id"][2:]) for row in latbench(*arguments, "--json").json]


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ((), [4, 3, 2, 1, 0]),
        (("mobilevig_ti",), [3, 2, 1, 0]),
        (("--model", NAME), [4]),
        (("mobilevig_ti", NAME), [4, 3, 2, 1, 0]),
        (("--precision", "fp16"), [1]),
        (("--precision", "fp16", "--precision", "fp32"), [4, 3, 2, 1, 0]),
        (("--option", "graph_optimization=disabled"), [2]),
        (("--option", "provider=CPUExecutionProvider"), [4, 3, 2, 1, 0]),
        (("--option", "form=trained"), []),
        (("--weights", "seed:0"), [4, 2, 1, 0]),
        (("--weights", "abcdef"), [3]),
        (("--weights", "sha256:abc"), [3]),
        (("--weights", "seed"), []),
        (("--backend", "tflite"), [4]),
        (("--device", "example-cpu-2cpu"), [4, 3, 2, 1, 0]),
        (("--device", "local"), []),
        (("--protocol", "latbench-fixed"), [4, 3, 2, 1, 0]),
        (("--protocol", "latbench-fixed@1"), [4, 3, 2, 1, 0]),
        (("--protocol", "latbench"), []),
        (("--since", "2026-09-24"), [4, 3]),
        (("--since", "999999999w"), [4, 3, 2, 1, 0]),
        (("--limit", "2"), [4, 3]),
        (("--precision", "fp32", "--weights", "seed:0", "--limit", "1"), [4]),
    ],
)
def test_history_finds_the_records_that_meet_the_conditions(
    registry: None, latbench: Latbench, conditions: tuple[str, ...], expected: list[int]
) -> None:
    assert ids(latbench, "history", *conditions) == expected


@pytest.mark.parametrize("command", ["show", "table"])
def test_the_latest_of_each_group_is_the_latest_that_meets_the_conditions(
    registry: None, latbench: Latbench, command: str
) -> None:
    assert ids(latbench, command) == [4, 3]
    assert ids(latbench, command, "--precision", "fp16") == [1]
    assert ids(latbench, command, "--weights", "seed:0", "--model", "mobilevig_ti") == [2]


def test_every_list_has_the_same_fields(registry: None, latbench: Latbench) -> None:
    rows = [latbench(name, "--json").json[0].keys() for name in ("history", "show", "table")]
    assert rows[0] == rows[1] == rows[2]
    assert {"id", "threads", "weights", "options", "protocol", "reliability"} <= rows[0]
    whole = latbench("history", "--format", "json").json
    assert (whole[0]["threads"], whole[0]["median_ns"]) == (2, 6_402_500)


def test_history_shows_what_differs_and_how_reliable_it_is(
    registry: None, latbench: Latbench
) -> None:
    text = latbench("history", "mobilevig_ti", COLUMNS="300").out
    (head, *_), (shared,) = text.splitlines(), [x for x in text.splitlines() if "all rows" in x]
    assert head.split() == [
        *("record", "when", "precision", "options", "weights", "latency", "reliability")
    ]
    for value in ("fp16", "graph_optimization=disabled", "sha256:abcdef012345", "reliable"):
        assert value in text
    assert "threads 2" in shared
    assert "protocol latbench-fixed@1" in shared


@pytest.mark.parametrize("columns", [80, 60])
@pytest.mark.parametrize("command", ["history", "show", "table"])
def test_a_list_fits_the_terminal(
    registry: None, latbench: Latbench, command: str, columns: int
) -> None:
    shown = latbench(command, COLUMNS=str(columns)).out
    assert max(map(len, shown.splitlines())) <= columns
    assert NAME in shown


def test_formats_escape_names(registry: None, latbench: Latbench) -> None:
    markdown = latbench("history", "--format", "markdown").out
    assert r"a\|b&lt;script>.onnx" in markdown
    assert "<script" not in latbench("table", "--format", "matrix").out
    latex = latbench("show", "--format", "latex").out
    assert r"a\textbar{}b\textless{}script\textgreater{}.onnx" in latex
    (first, *_) = csv.DictReader(io.StringIO(latbench("history", "--format", "csv").out))
    assert (first["model"], first["threads"]) == (NAME, "2")


def test_a_longer_history_says_that_it_was_cut(registry: None, latbench: Latbench) -> None:
    assert "older records are left out" in latbench("history", "--limit", "2").out
    assert "older records" not in latbench("history", "--limit", "5").out


def test_a_long_list_is_not_summarized_but_complete(
    environment: dict[str, str], latbench: Latbench
) -> None:
    with Registry.open(environment["LATBENCH_REGISTRY"]) as store:
        store.add_many([stored(i, precision=("fp32", "fp16")[i % 2]) for i in range(101)])
    ended = latbench("history", "--limit", "200", COLUMNS="80")
    assert ended.out.count("6.40 ms") == 101
    assert max(map(len, ended.out.splitlines())) <= 80
    assert "fp16" in ended.out
    assert "intervals and reliability are shown in lists of up to 100 records" in ended.err
    assert latbench("history", "--limit", "200", "--json").json[0]["low_ns"] is not None


def test_columns_and_order_are_chosen(registry: None, latbench: Latbench) -> None:
    lines = latbench("history", "--columns", "record,precision", "--sort", "precision").out
    assert [line.split()[1] for line in lines.splitlines()] == [
        *("precision", "fp16", "fp32", "fp32", "fp32", "fp32")
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("history", "--since", "yesterday"), "'yesterday' is not a date"),
        (("history", "--columns", "modle"), "did you mean model?"),
        (("history", "--columns", "model", "--format", "csv"), "--columns applies to text"),
        (("history", "--option", "x"), "'x' is not KEY=VALUE"),
        (("show", "010", "--precision", "fp16"), "--precision applies to the list"),
        (("show", "010", "--format", "csv"), "--format applies to the list"),
    ],
)
def test_wrong_conditions_are_refused(
    registry: None, latbench: Latbench, arguments: tuple[str, ...], words: str
) -> None:
    ended = latbench(*arguments)
    assert (ended.status, ended.out) == (2, "")
    assert words in ended.err


def test_an_empty_list_says_why(
    registry: None, environment: dict[str, str], latbench: Latbench
) -> None:
    missing = latbench("history", "mobilevig_t")
    assert (missing.status, missing.out) == (0, "no records\n")
    assert "no record of model 'mobilevig_t'" in missing.err
    assert "did you mean mobilevig_ti?" in missing.err
    empty = environment["LATBENCH_REGISTRY"] + ".empty"
    with Registry.open(empty):
        pass
    for command in ("history", "show", "table"):
        ended = latbench(command, "--registry", empty)
        assert ended.out == "no records\n"
        assert "there are no records in" in ended.err
        assert latbench(command, "--registry", empty, "--json").json == []


def profiled(i: int, scale: int = 1) -> Record:
    record = stored(i)
    operators = tuple(
        OperatorTime(
            name=f"torch.nn.modules.container.Sequential_stages/torch.nn.Conv2d_{n};1",
            kind="Conv" if n else "Gemm",
            time_ns=(n + 1) * 200_000 * scale,
        )
        for n in range(6)
    )
    profile = Profile(source="a profiler", calls=7, total_ns=8_000_000, operators=operators)
    return msgspec.structs.replace(
        record, outcome=msgspec.structs.replace(record.outcome, profile=profile)
    )


@pytest.fixture
def profiles(environment: dict[str, str]) -> list[str]:
    records = [profiled(0), profiled(1, 2), stored(2)]
    with Registry.open(environment["LATBENCH_REGISTRY"]) as store:
        store.add_many(records)
    return [record.id for record in records]


def test_a_profile_lists_operators_by_name(profiles: list[str], latbench: Latbench) -> None:
    shown = latbench("profile", profiles[0], "--top", "2", COLUMNS="80").out
    lines = shown.splitlines()
    assert lines[0].startswith("5 Conv take 50% of 6.40 ms  mobilevig_ti")
    assert "1.25 times the latency" in lines[1]
    (at,) = [i for i, line in enumerate(lines) if "operator" in line and "share" in line]
    assert lines[at + 1].split() == ["960", "µs", "15.0%", "stages/5;1", "Conv"]
    assert "4 other operators: 25.0%" in shown
    assert "outside      47.5%" in shown
    assert "cold start" in shown
    assert "peak memory  180 MB" in shown
    whole = latbench("profile", profiles[0], "--json").json
    assert len(whole["profile"]["operators"]) == 6
    assert whole["peak_rss_bytes"] == 180_000_000
    rows = list(
        csv.DictReader(io.StringIO(latbench("profile", profiles[0], "--format", "csv").out))
    )
    assert rows[0]["name"].startswith("torch.nn.modules")
    assert "| stages/5;1 | Conv |" in latbench("profile", profiles[0], "--format", "markdown").out


def test_two_profiles_stand_side_by_side(profiles: list[str], latbench: Latbench) -> None:
    shown = latbench("profile", profiles[0], "--against", profiles[1], "--top", "1").out
    assert shown.startswith("B takes 6.40 ms, A 6.40 ms: ")
    assert "6 with the same name in both, 0 only in A, 0 only in B" in shown
    assert "stages/5;1" in shown
    assert "latbench compare --records" in shown
    found = latbench("profile", profiles[0], "--against", profiles[1], "--json").json
    assert found.keys() == {"a", "b"}


def test_a_trace_holds_every_operator(
    profiles: list[str], latbench: Latbench, tmp_path: Path
) -> None:
    ended = latbench("profile", profiles[0], "--against", profiles[1], "--trace", "trace.json")
    assert ended.status == 0
    assert "trace.json" in ended.out
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    timed = [event for event in events if event["ph"] == "X" and event["pid"] == 1]
    (whole,) = [event for event in timed if event["name"] == "inference"]
    operators = [event for event in timed if event is not whole]
    assert len(operators) == 6
    assert whole["dur"] == 8000.0
    assert [event["ts"] for event in operators] == [0, 200, 600, 1200, 2000, 3000]
    assert operators[1]["args"]["latency_ns"] == pytest.approx(320_125)
    assert {event["pid"] for event in events} == {1, 2}


def test_a_record_without_a_profile_says_how_to_get_one(
    profiles: list[str], latbench: Latbench
) -> None:
    ended = latbench("profile", profiles[2])
    assert ended.status == 2
    assert "has no times by operator" in ended.err
    assert "latbench run mobilevig_ti --backend onnxruntime --profile" in ended.err
