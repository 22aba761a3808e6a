"""Escaping in Markdown, CSV and LaTeX: any name stays text, and no row breaks."""

from __future__ import annotations

import csv
import io
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.report.writers import (
    csv_table,
    latex_table,
    latex_text,
    markdown_table,
    markdown_text,
    printable,
)

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("mobilevig_ti", "mobilevig_ti"),
        ("a|b.onnx", r"a\|b.onnx"),
        ("<script>", "&lt;script>"),
        ("__init__", r"\_\_init\_\_"),
        ("*a*", r"\*a\*"),
        ("[a](b)", r"\[a\](b)"),
        ("a\nb", r"a\\nb"),
        ("\x1b[31m", r"\\x1b\[31m"),
        ("&lt;", "&amp;lt;"),
        ("a & b", "a & b"),
    ],
)
def test_markdown_shows_text_as_text(text: str, shown: str) -> None:
    assert markdown_text(text) == shown


@given(st.lists(NAMES, min_size=2, max_size=2))
def test_a_markdown_row_has_its_cells_whatever_they_hold(cells: list[str]) -> None:
    lines = markdown_table(["one", "two"], [[markdown_text(each) for each in cells]])
    assert len(lines) == 3
    assert "\n" not in lines[2]
    assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", lines[2])) == 3


def test_markdown_cells_may_hold_markup_but_no_bar() -> None:
    (*_, line) = markdown_table(["a"], [["**x** `a|b`\n"]])
    assert line == r"| **x** `a\|b`  |"


@given(NAMES)
def test_nothing_that_is_printed_controls_the_terminal(text: str) -> None:
    shown = printable(text)
    assert all(each.isprintable() or unicodedata.category(each) == "Zs" for each in shown)
    assert printable("a\u00a0b\tc") == "a\u00a0b\\tc"


@pytest.mark.parametrize("first", ["=1+1", "+1", "-1", "@A1"])
def test_a_spreadsheet_computes_no_text(first: str) -> None:
    ((_,), (cell,)) = csv.reader(io.StringIO(csv_table(["a"], [[first]])))
    assert cell == f"'{first}"


def test_csv_keeps_numbers_and_leaves_unknown_cells_empty() -> None:
    assert csv_table(["a", "b", "c"], [[-1.5, None, 'x,"y"\n']]) == 'a,b,c\n-1.5,,"x,""y""\\n"\n'


def test_latex_shows_text_as_text() -> None:
    assert latex_text("a_b & 5% {x} \\y ~^") == (
        r"a\_b \& 5\% \{x\} \textbackslash{}y \textasciitilde{}\textasciicircum{}"
    )
    assert latex_table(["a", "b"], [["1", "2"]], "lr")[0] == r"\begin{tabular}{lr}"
    assert latex_table(["a", "b"], [["1", "2"]], "lr")[4] == r"1 & 2 \\"
