"""Labels, tables, dates and line breaks that every text shares."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

GAP = "  "
"""Between two columns."""
TALLEST = 4
"""Lines that a row of a table takes at most."""
LABEL = 13
"""Width of the label column, the space after it included."""


def table(
    header: Sequence[str], rows: Iterable[Sequence[str]], width: int | None = None
) -> list[str]:
    """Left-aligned columns as wide as their content, without a frame so that grep works.

    With ``width``, cells of a table that is wider are broken at spaces. If that would take more
    than :data:`TALLEST` lines for a row, the last columns follow each row on a line of their own.
    """
    body = [tuple(header), *(tuple(row) for row in rows)]
    widths = [max(len(row[i]) for row in body) for i in range(len(header))]
    if width is None or _total(widths) <= width:
        return _aligned(body, widths)
    narrow = _narrowed(widths, [_longest_word(cells) for cells in zip(*body, strict=True)], width)
    broken = [_broken(row, narrow) for row in body]
    if _total(narrow) <= width and max(map(len, broken)) <= TALLEST:
        return _aligned([line for lines in broken for line in lines], narrow)
    kept = next((n for n in range(len(widths), 1, -1) if _total(widths[:n]) <= width), 1)
    lines = []
    for line, row in zip(_aligned([row[:kept] for row in body], widths[:kept]), body, strict=True):
        below = " · ".join(each for each in row[kept:] if each)
        lines += [line, *(wrapped(f"    {below}", width, hanging=4) if below else ())]
    return lines


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(GAP) * (len(widths) - 1)


def _longest_word(cells: Sequence[str]) -> int:
    return max((len(word) for cell in cells for word in cell.split()), default=0)


def _narrowed(widths: Sequence[int], least: Sequence[int], width: int) -> list[int]:
    """Widths of columns that fit ``width``: the widest are reduced, to ``least`` at most."""
    narrow = list(widths)
    while (over := _total(narrow) - width) > 0:
        free = [i for i in range(len(narrow)) if narrow[i] > least[i]]
        if not free:
            break
        widest = max(free, key=lambda i: narrow[i])
        second = max((narrow[i] for i in free if i != widest), default=0)
        narrow[widest] = max(least[widest], narrow[widest] - over, min(second, narrow[widest] - 1))
    return narrow


def _broken(row: Sequence[str], widths: Sequence[int]) -> list[tuple[str, ...]]:
    """The row on as many lines as its cells take."""
    cells = [
        [cell]
        if len(cell) <= most
        else textwrap.wrap(cell, max(most, 1), break_long_words=False, break_on_hyphens=False)
        for cell, most in zip(row, widths, strict=True)
    ]
    height = max(map(len, cells))
    return list(zip(*(lines + [""] * (height - len(lines)) for lines in cells), strict=True))


def _aligned(body: Iterable[Sequence[str]], widths: Sequence[int]) -> list[str]:
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


def labeled(label: str, text: str) -> str:
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
    # Breaks only after a dot, so that no line begins with one; parts that fit stay together.
    line = "\0· ".join(
        part.replace(" ", "\0") if len(part) + len(indent) <= width - 2 else part
        for part in line.split(" · ")
    )
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
