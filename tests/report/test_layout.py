"""Units, digits and tables."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.report.text.layout import moment, table
from latbench.report.units import duration, size, time


@pytest.mark.parametrize(
    ("value", "uncertainty", "text"),
    [
        (6_412_345, 125_000, "6.4 ms"),
        (6_412_345, 9_000, "6.412 ms"),
        (6_412_345, 1_000_000, "6 ms"),
        (780_000, 4_000, "780 µs"),
        (999, 1, "999 ns"),
        (2_500_000_000, 40_000_000, "2.50 s"),
    ],
)
def test_no_digit_that_the_interval_does_not_support(
    value: int, uncertainty: int, text: str
) -> None:
    (shown,), unit = duration(value, uncertainty_ns=uncertainty)
    assert f"{shown} {unit}" == text


@given(st.integers(1, 10**13), st.integers(1, 10**12))
def test_rounding_error_stays_within_the_uncertainty(value: int, uncertainty: int) -> None:
    (shown,), unit = duration(value, uncertainty_ns=uncertainty)
    scale = {"s": 10**9, "ms": 10**6, "µs": 10**3, "ns": 1}[unit]
    assert abs(float(shown) * scale - value) <= max(uncertainty, scale / 2) * (1 + 1e-9)


@given(st.integers(0, 10**15))
def test_three_digits(value: int) -> None:
    text = time(value)
    assert text.split()[1] in ("s", "ms", "µs", "ns")
    assert not math.isnan(float(text.split()[0]))


def test_sizes_are_decimal() -> None:
    assert size(20_900_000) == "20.9 MB"
    assert size(999) == "999 B"
    assert size(4_000_000_000) == "4 GB"


def test_table_aligns_and_keeps_every_cell() -> None:
    assert table(("a", "bb"), [("ccc", "d"), ("e", "")]) == ["a    bb", "ccc  d", "e"]


WORDS = st.text("ab ", max_size=40)


@given(st.lists(st.tuples(st.text("xy", min_size=1, max_size=9), WORDS, WORDS), max_size=4))
def test_a_table_fits_a_width_and_breaks_no_word(rows: list[tuple[str, str, str]]) -> None:
    lines = table(("one", "two", "three"), rows, 60)
    assert max(map(len, lines)) <= 60
    words = sorted(word for row in rows for cell in row for word in cell.split())
    shown = [word for line in lines for word in line.split() if word != "·"]
    assert sorted(shown) == sorted([*words, "one", "two", "three"])


def test_a_wide_table_breaks_its_widest_cells() -> None:
    rows = [("a", "some words that do not fit", "z"), ("b", "short", "y")]
    assert table(("n", "text", "m"), rows, 24) == [
        "n  text                m",
        "a  some words that do  z",
        "   not fit",
        "b  short               y",
    ]


def test_a_row_that_would_be_tall_has_its_last_columns_below() -> None:
    rows = [("name", "x", " ".join(["word"] * 12))]
    assert table(("n", "k", "text"), rows, 20) == [
        "n     k",
        "    text",
        "name  x",
        "    word word word",
        "    word word word",
        "    word word word",
        "    word word word",
    ]


def test_moment_is_utc() -> None:
    assert moment(0) == "1970-01-01 00:00:00Z"
