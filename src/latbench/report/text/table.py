"""Lists of records for people: text that fits a terminal, Markdown and LaTeX."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import msgspec

from latbench.report.tables import TableRow
from latbench.report.text.columns import (
    ALWAYS,
    COLUMNS,
    KEPT,
    NUMBERS,
    PAPER,
    SETTINGS,
    TABLE,
    WITHIN,
    latency,
    short_latency,
)
from latbench.report.text.layout import GAP, labeled, shortened, table, wrapped
from latbench.report.units import decimals
from latbench.report.writers import (
    latex_table,
    latex_text,
    markdown_table,
    markdown_text,
    printable,
)
from latbench.schema.value import Value

NARROWEST_MODEL = 16
"""Characters of a model's name that a narrow terminal shows, at least."""
INDENT = "    "
"""Before the settings of a row that have a line of their own."""


class ChosenColumns(Value, frozen=True, kw_only=True):
    """The columns of a list, and what all of its rows share."""

    shown: tuple[str, ...]
    shared: dict[str, str]
    """Column -> its only value, of the columns that are left out because all rows are alike."""


def choose_columns(rows: Sequence[TableRow], usual: Sequence[str]) -> ChosenColumns:
    """Those of ``usual`` in which rows differ, and what the others have in common.

    Rows that would look alike but have different files get the file's digest too.
    """
    values = {name: [COLUMNS[name].show(row) for row in rows] for name in (*usual, "artifact")}
    filled = [name for name in usual if any(values[name])]
    if len(rows) == 1:
        shared = {name: values[name][0] for name in filled if name in WITHIN}
        return ChosenColumns(shown=tuple(n for n in filled if n not in shared), shared=shared)
    shown = [name for name in filled if name in ALWAYS or len(set(values[name])) > 1]
    settings = [name for name in shown if name not in ALWAYS]
    alike: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for at in range(len(rows)):
        alike[tuple(values[name][at] for name in settings)].add(values["artifact"][at])
    if any(len(files - {""}) > 1 for files in alike.values()):
        shown.insert(shown.index("latency"), "artifact")
    shared = {name: values[name][0] for name in filled if name not in shown}
    return ChosenColumns(shown=tuple(shown), shared=shared)


def distinct_protocols(rows: Sequence[TableRow]) -> list[TableRow]:
    """The rows, with a digest after a protocol's name where one name stands for several protocols,
    e.g. with different budgets."""
    digests: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        digests[row.protocol].add(row.protocol_sha256)
    return [
        msgspec.structs.replace(row, protocol=f"{row.protocol} {row.protocol_sha256[:8]}")
        if len(digests[row.protocol]) > 1
        else row
        for row in rows
    ]


def to_text(
    rows: Sequence[TableRow],
    columns: Sequence[str] | None = None,
    width: int | None = None,
    *,
    usual: Sequence[str] = TABLE,
) -> list[str]:
    """Aligned columns, then a note for each failure and fallback, and for what is not shown.

    Without ``columns``, shows those of ``usual`` in which rows differ. With ``width``, leaves out
    the least important columns and shortens long texts until a line fits.
    """
    if not rows:
        return ["no records"]
    rows = distinct_protocols(rows)
    chosen = ChosenColumns(shown=tuple(columns or ()), shared={})
    if columns is None:
        chosen = choose_columns(rows, usual)
    lines, gone = _fitted(rows, chosen.shown, width, keep=columns is not None)
    after: list[str] = []
    if chosen.shared:
        same = " · ".join(f"{name} {text}" for name, text in chosen.shared.items())
        label = "all rows" if len(rows) > 1 else "settings"
        after.append(labeled(label, printable(same)))
    if gone:
        after.append(labeled("left out", f"{', '.join(gone)} (--columns NAME,... chooses)"))
    if width is None:
        return [*lines, *notes(rows), *after]
    lines += [part for line in notes(rows) for part in wrapped(line, width, hanging=len(INDENT))]
    return [*lines, *(part for line in after for part in wrapped(line, width))]


def _fitted(
    rows: Sequence[TableRow], columns: Sequence[str], width: int | None, *, keep: bool
) -> tuple[list[str], list[str]]:
    """The lines of a table of at most ``width``, and the columns that it does not show.

    Columns that do not fit get a line below each row, named: all of them with ``keep``, otherwise
    settings in rows that differ in them.
    """
    cells = {name: [printable(COLUMNS[name].show(row)) for row in rows] for name in columns}
    if width is None:
        return _lines(cells, columns), []
    widest = {name: max(len(name), *map(len, cells[name])) for name in columns}
    least = {**widest}
    if "model" in least:
        least["model"] = min(least["model"], NARROWEST_MODEL)
    shown = list(columns)
    while len(shown) > 1 and sum(least[name] + len(GAP) for name in shown) - len(GAP) > width:
        shown.remove(max(shown, key=KEPT.index))
    if "model" in shown:
        others = sum(least[name] + len(GAP) for name in shown if name != "model")
        cells["model"] = shortened(cells["model"], max(width - others, least["model"]))
    below: dict[str, list[str]] = {}
    for name in (name for name in columns if name not in shown):
        if keep:
            below[name] = cells[name]
        elif name in WITHIN and any(texts := _differing(rows, name, cells[name])):
            below[name] = texts
    head, *body = _lines(cells, shown)
    lines = [head]
    for at, line in enumerate(body):
        named = " · ".join(f"{name} {texts[at]}" for name, texts in below.items() if texts[at])
        lines += [line, *(wrapped(INDENT + named, width, hanging=len(INDENT)) if named else ())]
    return lines, [name for name in columns if name not in shown and name not in below]


def _differing(rows: Sequence[TableRow], name: str, texts: Sequence[str]) -> list[str]:
    """The texts of a setting in rows that it distinguishes from others of its kind, else empty."""
    kinds = [COLUMNS[WITHIN[name]].show(row) for row in rows]
    missing = "none" if name == "options" else "unknown"
    found: dict[str, set[str]] = defaultdict(set)
    for kind, text in zip(kinds, texts, strict=True):
        found[kind].add(text)
    return [
        (text or missing) if len(found[kind]) > 1 else ""
        for kind, text in zip(kinds, texts, strict=True)
    ]


def _lines(cells: dict[str, list[str]], columns: Sequence[str]) -> list[str]:
    return table(columns, zip(*(cells[name] for name in columns), strict=True))


def notes(rows: Sequence[TableRow]) -> list[str]:
    """Why there is no latency, for each row that has none."""
    return [
        f"  {printable(f'{row.model} · {row.backend}: {latency(row)}')}"
        for row in rows
        if short_latency(row) != latency(row)
    ]


def to_markdown(rows: Sequence[TableRow], columns: Sequence[str] = TABLE) -> list[str]:
    """A Markdown table."""
    rows = distinct_protocols(rows)
    body = ([markdown_text(COLUMNS[name].show(row)) for name in columns] for row in rows)
    return markdown_table(columns, body)


def to_latex(rows: Sequence[TableRow], columns: Sequence[str] | None = None) -> list[str]:
    """A tabular for the package booktabs; latencies in ms with the half-width of their interval."""
    rows = distinct_protocols(rows)
    if columns is None:
        differing = choose_columns(rows, ("model", "backend", *SETTINGS, "latency")).shown
        more = [name for name in differing if name in WITHIN and name not in PAPER]
        columns = (*PAPER[:-1], *more, PAPER[-1])
    head = [latex_text("latency (ms)" if name == "latency" else name) for name in columns]
    body = (
        [
            _latex_latency(row) if name == "latency" else latex_text(COLUMNS[name].show(row))
            for name in columns
        ]
        for row in rows
    )
    return [
        "% \\usepackage{booktabs}; ± is half of the 95% confidence interval; * not reliable",
        *latex_table(head, body, "".join("r" if name in NUMBERS else "l" for name in columns)),
    ]


def _latex_latency(row: TableRow) -> str:
    if row.reported_by is not None:
        return latex_text(latency(row))
    if row.median_ns is None:
        return "--"
    mark = "" if row.reliability == "reliable" else "^{*}"
    if row.low_ns is None or row.high_ns is None:
        return f"${row.median_ns / 1e6:.3g}{mark}$"
    half = (row.high_ns - row.low_ns) / 2e6
    digits = decimals(half)
    return f"${row.median_ns / 1e6:.{digits}f} \\pm {half:.{digits}f}{mark}$"
