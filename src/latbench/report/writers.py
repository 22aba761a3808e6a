"""The one writer of each kind of table, with its escaping: Markdown, CSV and LaTeX.

A name may hold anything that a file name may: pipes, quotes, ``<script>``, line breaks. Text that
is meant as text stays text in every format.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Sequence

from latbench.file_names import shown_name

FORMULA = ("=", "+", "-", "@")
"""First characters that make a spreadsheet compute a cell."""
LATEX_SIGNS = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": "\\textbackslash{}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "<": "\\textless{}",
    ">": "\\textgreater{}",
    "|": "\\textbar{}",
    "µ": "\\textmu{}",
}


def printable(text: str) -> str:
    """The text with control characters, line breaks included, as escapes such as ``\\n``.

    A terminal would obey them, and a line break would end a row. Spaces of any width stay.
    """
    return "".join(
        each
        if each.isprintable() or unicodedata.category(each) == "Zs"
        else each.encode("unicode_escape").decode()
        for each in shown_name(text)
    )


def markdown_text(text: str) -> str:
    """Plain text as Markdown, also within a table: no character of it is markup.

    Not every reader of Markdown knows ``\\<``, so HTML is escaped as in HTML. An underscore inside
    a word is not markup and stays, so that names remain legible.
    """
    text = re.sub(r"&(?=#?\w+;)", "&amp;", printable(text)).replace("<", "&lt;")
    return re.sub(r"([\\`*\[\]|#~!]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", text)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table of cells that are Markdown already; see :func:`markdown_text` for plain text.

    Only what would break the table is escaped: bars and line breaks.
    """

    def cell(text: str) -> str:
        return re.sub(r"(?<!\\)\|", r"\\|", " ".join(text.split("\n")))

    return [
        f"| {' | '.join(map(cell, cells))} |" for cells in (header, ["---"] * len(header), *rows)
    ]


def csv_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """CSV with a header. ``None`` is an empty cell; numbers are written as they are.

    A text that a spreadsheet would compute gets a leading apostrophe.
    """

    def cell(value: object) -> object:
        if not isinstance(value, str):
            return value
        text = printable(value)
        return f"'{text}" if text.startswith(FORMULA) else text

    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([cell(value) for value in row] for row in rows)
    return out.getvalue()


def latex_text(text: str) -> str:
    """Plain text as LaTeX."""
    return "".join(LATEX_SIGNS.get(each, each) for each in printable(text))


def latex_table(header: Sequence[str], rows: Iterable[Sequence[str]], align: str) -> list[str]:
    """A tabular for the package booktabs, of cells that are LaTeX already."""
    return [
        f"\\begin{{tabular}}{{{align}}}",
        "\\toprule",
        f"{' & '.join(header)} \\\\",
        "\\midrule",
        *(f"{' & '.join(row)} \\\\" for row in rows),
        "\\bottomrule",
        "\\end{tabular}",
    ]
