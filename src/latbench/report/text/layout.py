"""Labels, tables, dates and line breaks that every text shares."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

GAP = "  "
"""Between two columns."""
LABEL = 13
"""Width of the label column, the space after it included."""


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Left-aligned columns as wide as their content, without a frame so that grep works."""
    body = [tuple(header), *(tuple(row) for row in rows)]
    widths = [max(len(row[i]) for row in body) for i in range(len(header))]
    return [
        GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in body
    ]


def shortened(texts: Sequence[str], limit: int) -> list[str]:
    """Texts of at most ``limit`` characters, cut in the middle, in one way for all of them.

    Different texts stay different where ``limit`` permits it: the cut is moved to a place where
    they do not differ.
    """

    def cut(start: int) -> list[str]:
        end = limit - 1 - start
        return [
            text if len(text) <= limit else f"{text[:start]}…{text[len(text) - end :]}"
            for text in texts
        ]

    middle = (limit - 1) // 2
    starts = sorted(range(limit), key=lambda start: abs(start - middle))
    return cut(max(starts, key=lambda start: len(set(cut(start)))))


def moment(unix_ns: int) -> str:
    """Date and time in UTC, to the second."""
    return datetime.fromtimestamp(unix_ns // 1_000_000_000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def labelled(label: str, text: str) -> str:
    """A line below a title: two spaces, the label, the text."""
    return f"  {label.ljust(LABEL - 1)} {text}"


def wrapped(line: str, width: int, *, hanging: int | None = None) -> list[str]:
    """Break a line at spaces, never inside a word; continuations align with the text.

    ``hanging`` sets the spaces before a continuation.

    Parts between " · " stay together if they fit.
    """
    if len(line) <= width:
        return [line]
    indent = " " * (LABEL + 2)
    if not line.startswith("  "):
        indent = "    "
    if hanging is not None:
        indent = " " * hanging
    parts = line.split(" · ")
    if all(len(part) + len(indent) <= width - 2 for part in parts):
        # Breaks only after a dot, so that no line begins with one.
        line = "\0· ".join(part.replace(" ", "\0") for part in parts)
        lead = len(line) - len(line.lstrip("\0"))
        line = " " * lead + line[lead:]
    broken = textwrap.wrap(
        line,
        width,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
        replace_whitespace=False,
    )
    return [each.replace("\0", " ") for each in broken]
