"""The table of records on a narrow terminal."""

from __future__ import annotations

from latbench.analysis.summary import summarize
from latbench.report.tables import row
from latbench.report.text.layout import wrapped
from latbench.report.text.table import LISTED, to_text
from support.records import make_record


def test_a_table_fits_the_width_and_keeps_the_latency() -> None:
    record = make_record()
    rows = [row(record, summarize(record))]
    whole = to_text(rows, LISTED)
    for width in (200, 80, 40, 30):
        lines = to_text(rows, LISTED, width)
        assert max(map(len, lines[:2])) <= max(width, 30)
        assert "latency" in lines[0]
    assert max(map(len, whole)) > 80


def test_lines_break_at_spaces_and_parts_stay_together() -> None:
    line = "9.9 ms  mobilevig_ti · onnxruntime 1.32.0 · 1x3x224x224 · 1 thread · AMD EPYC, 2 CPUs"
    first, second = wrapped(line, 80)
    assert first.endswith("1 thread ·")
    assert second == "    AMD EPYC, 2 CPUs"
    assert wrapped("  label        text", 80) == ["  label        text"]
    long = f"  latency      {'word ' * 30}"
    assert all(part.startswith(" " * 15) for part in wrapped(long, 60)[1:])
    assert "".join(wrapped("x" * 100, 80)) == "x" * 100
