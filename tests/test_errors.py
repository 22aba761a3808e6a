"""Errors of foreign code in a line."""

from __future__ import annotations

import pytest

from latbench.errors import first_line


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no memory\nat 0x12", "no memory"),
        ("  \n  no memory", "no memory"),
        ("{\n    Reason = busy;\n}", "Reason = busy;"),
        ("-----\n| busy |", "| busy |"),
        ("{\n}", "{"),
        ("", "RuntimeError"),
    ],
)
def test_the_first_line_has_words(text: str, expected: str) -> None:
    assert first_line(RuntimeError(text)) == expected
