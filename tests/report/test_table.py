"""Lists of records: the columns that differ, and a narrow terminal."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.analysis.summary import summarize
from latbench.report.tables import TableRow, row, to_csv
from latbench.report.text.columns import COLUMNS, KEPT, LISTED, TABLE, WITHIN
from latbench.report.text.layout import shortened, wrapped
from latbench.report.text.matrix import to_matrix
from latbench.report.text.table import to_latex, to_markdown, to_text
from latbench.schema.artifact import TensorSpec
from latbench.schema.record import Record
from support.records import make_record

LONG = "a-model-with-a-name-of-eighty-characters-that-no-terminal-has-the-space-for.onnx"


def listed(*records: Record) -> list[TableRow]:
    return [row(record, summarize(record)) for record in records]


def changed(rows: Sequence[TableRow], **fields: object) -> list[TableRow]:
    return [msgspec.structs.replace(each, **fields) for each in rows]


(PLAIN,) = listed(make_record())


def test_every_column_has_a_rank() -> None:
    assert set(KEPT) == set(COLUMNS)
    assert {*TABLE, *LISTED, *WITHIN} <= set(COLUMNS)


@pytest.mark.parametrize("width", [200, 80, 60])
def test_a_table_fits_the_width_and_keeps_the_latency(width: int) -> None:
    rows = [PLAIN, *changed([PLAIN], model=LONG, threads=4, options="a=1,b=2", runtime="1.33.0")]
    for usual in (TABLE, LISTED):
        lines = to_text(rows, None, width, usual=usual)
        assert max(map(len, lines)) <= width
        assert "latency" in lines[0]
    assert max(map(len, to_text(changed(rows, placement="x" * 100), TABLE))) > 200


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"precision": "fp16"}, "fp16"),
        ({"options": "graph_optimization=disabled"}, "graph_optimization=disabled"),
        ({"weights": "sha256:" + "7" * 64}, "sha256:777777777777"),
        ({"protocol": "timm@1"}, "timm@1"),
        ({"threads": 7}, "7"),
        ({"input": "1x3x7x7 + scalar"}, "1x3x7x7 + scalar"),
        ({"device": "other-cpu"}, "other-cpu"),
        ({"runtime": "1.33.0"}, "1.33.0"),
        ({"artifact_sha256": "cd" * 32}, "cdcdcdcdcdcd"),
        ({"protocol_sha256": "ef" * 32}, "efefefef"),
    ],
)
@pytest.mark.parametrize("width", [None, 80, 50])
def test_a_setting_in_which_records_differ_is_shown(
    fields: dict[str, object], shown: str, width: int | None
) -> None:
    first, second = PLAIN, *changed([PLAIN], **fields)
    table, _, shared = "\n".join(to_text([first, second], None, width, usual=LISTED)).partition(
        "all rows"
    )
    assert shown in table
    assert shown not in shared
    assert "mobilevig_ti" in shared


def test_what_all_records_share_is_printed_once() -> None:
    lines = to_text([PLAIN, PLAIN], None, 80, usual=LISTED)
    assert "\n".join(lines).count("onnxruntime") == 1
    assert lines[0].split() == ["record", "when", "latency", "reliability"]


def test_measured_columns_that_do_not_fit_are_named() -> None:
    rows = [PLAIN, *changed([PLAIN], macs=1, parameters=1, peak_rss_bytes=1, artifact_bytes=1)]
    lines = " ".join(to_text(rows, None, 50))
    assert "left out" in lines
    assert "macs" in lines
    assert "--columns" in lines


def test_chosen_columns_are_all_shown() -> None:
    rows = [PLAIN, *changed([PLAIN], model=LONG)]
    chosen = ["model", "latency", "placement", "parity", "memory", "protocol"]
    shown = "\n".join(to_text(rows, chosen, 60))
    assert "left out" not in shown
    assert shown.count("placement CPUExecutionProvider (proven)") == 2


def test_a_failure_is_explained_below() -> None:
    rows = listed(make_record(), make_record(status="failed"))
    lines = to_text(rows, None, 80)
    assert any("failed: export" in line for line in lines)
    assert "  mobilevig_ti · onnxruntime: export: the runtime crashed (SIGSEGV)" in lines


def test_names_cannot_break_a_table() -> None:
    rows = changed([PLAIN, PLAIN], model="a|b\n\x1b[31m<script>")
    text = to_text([PLAIN, *rows], None, 80)
    assert all(line.isprintable() for line in text)
    for lines in (to_markdown(rows), to_matrix(rows)):
        assert not any("\x1b" in line or "<script" in line for line in lines)
        assert r"a\|b" in lines[2]
    assert "a\\textbar{}b" in "\n".join(to_latex(rows))
    assert to_csv(rows).count("\n") == 3


def test_a_scalar_input_has_a_word() -> None:
    record = make_record()
    assert record.artifact is not None
    inputs = (
        TensorSpec(name="x", shape=(1, 4), dtype="float32"),
        TensorSpec(name="scale", shape=(), dtype="float32"),
    )
    artifact = msgspec.structs.replace(record.artifact, inputs=inputs)
    (shown,) = listed(msgspec.structs.replace(record, artifact=artifact))
    assert shown.input == "1x4 + scalar"


def test_latex_has_intervals_and_marks_what_is_not_reliable() -> None:
    row = changed([PLAIN], median_ns=6_400_000, low_ns=6_300_000, high_ns=6_500_000)
    assert r"$6.4 \pm 0.1^{*}$" in "\n".join(to_latex(row))
    assert "timm@1" not in "\n".join(to_latex([PLAIN]))
    other = changed([PLAIN], protocol="timm@1", artifact_sha256="0" * 64)
    assert "& timm@1 &" in "\n".join(to_latex([PLAIN, *other])), "it differs"
    assert r"$6.4 \pm 0.1$" in "\n".join(to_latex(changed(row, reliability="reliable")))


@given(
    st.lists(st.text("ab", max_size=30), min_size=1, max_size=6, unique=True), st.integers(12, 40)
)
def test_shortened_texts_fit(texts: list[str], limit: int) -> None:
    found = shortened(texts, limit)
    assert all(len(each) <= limit for each in found)
    assert [each for each in texts if len(each) <= limit] == [e for e in found if "…" not in e]


@pytest.mark.parametrize("at", [0, 20, 40, 59])
def test_shortened_texts_stay_different(at: int) -> None:
    one, two = ("x" * at + each + "x" * (59 - at) for each in "ab")
    assert len(set(shortened([one, two], 16))) == (2 if at in (0, 59) else 1)


def test_lines_break_at_spaces_and_parts_stay_together() -> None:
    line = "9.9 ms  mobilevig_ti · onnxruntime 1.32.0 · 1x3x224x224 · 1 thread · AMD EPYC, 2 CPUs"
    first, second = wrapped(line, 80)
    assert first.endswith("1 thread ·")
    assert second == "    AMD EPYC, 2 CPUs"
    assert wrapped("  label        text", 80) == ["  label        text"]
    long = f"  latency      {'word ' * 30}"
    assert all(part.startswith(" " * 15) for part in wrapped(long, 60)[1:])
    assert "".join(wrapped("x" * 100, 80)) == "x" * 100
    one = f"A · {'x' * 90} · word word"
    assert wrapped(one, 80) == ["A ·", f"    {'x' * 90} ·", "    word word"]
    parts = f"  {' · '.join(['word word'] * 20)}"
    assert not any(part.lstrip().startswith("·") for part in wrapped(parts, 40))
