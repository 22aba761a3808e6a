"""The table of records for people: text, Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from latbench.errors import UsageError, suggest
from latbench.report.tables import TableRow
from latbench.report.text.layout import moment, table
from latbench.report.units import decimals, duration, size
from latbench.schema.value import Value

NARROWEST_MODEL = 12
"""Characters of a model's name that a narrow terminal shows, at least."""


class Column(Value, frozen=True, kw_only=True):
    """One column: what a cell shows, and by what it is sorted."""

    show: Callable[[TableRow], str]
    sort: Callable[[TableRow], Any]
    """Values of one type, or ``None``."""


def _plain(field: str) -> Column:
    """A column that shows a field as it is."""

    def show(row: TableRow) -> str:
        value = getattr(row, field)
        return "" if value is None else str(value)

    return Column(show=show, sort=lambda row: getattr(row, field))


def _sized(field: str, unit: Callable[[int], str]) -> Column:
    def show(row: TableRow) -> str:
        value = getattr(row, field)
        return "" if value is None else unit(value)

    return Column(show=show, sort=lambda row: getattr(row, field))


def _count(value: int) -> str:
    """``2.79 M``, as papers give parameters and MACs."""
    for scale, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return str(value)


def precision(row: TableRow) -> str:
    """The file's precision, and that of the arithmetic if it differs."""
    return row.precision + (f" (computed in {row.computed_in})" if row.computed_in else "")


def row_parity(row: TableRow) -> str:
    """How near the file's outputs are to the PyTorch model's."""
    if row.max_rel_error is None:
        return ""
    if row.precision.startswith("int8") and row.cosine is not None:
        return f"cosine {row.cosine:.4f}"
    return f"{row.max_rel_error:.0e}" if row.max_rel_error else "0"


def other_number(row: TableRow) -> str | None:
    """The protocol's number if the record has no latency, e.g. of cold starts."""
    if row.status != "measured" or row.reported is None:
        return None
    (value,), unit = duration(row.reported)
    return f"{row.statistic} {value} {unit}"


def latency(row: TableRow) -> str:
    """The latency with its interval, or in full why there is none."""
    if row.fell_back_to is not None:
        why = f"{row.failure}; " if row.failure else ""
        if row.fallback_median_ns is None:
            return f"{why}cannot run here"
        (value,), unit = duration(row.fallback_median_ns)
        return f"{why}cannot run here; {row.fell_back_to} took {value} {unit}"
    if row.median_ns is None:
        return other_number(row) or row.failure or row.status
    if row.low_ns is None or row.high_ns is None:
        (value,), unit = duration(row.median_ns)
        return f"{value} {unit}"
    (value, low, high), unit = duration(
        row.median_ns,
        row.low_ns,
        row.high_ns,
        uncertainty_ns=max((row.high_ns - row.low_ns) / 2, 1),
    )
    return f"{value} {unit} ({low}-{high})"


def short_latency(row: TableRow) -> str:
    """The same in a few words; :func:`notes` has the rest."""
    if row.fell_back_to is not None:
        return "cannot run here"
    if row.median_ns is None and other_number(row) is None and row.failure:
        return f"failed: {row.failure.partition(':')[0]}"
    return latency(row)


COLUMNS: dict[str, Column] = {
    "record": _plain("id"),
    "when": _sized("created_unix_ns", moment),
    "model": _plain("model"),
    "backend": _plain("backend"),
    "runtime": _plain("runtime"),
    "device": _plain("device"),
    "precision": Column(show=precision, sort=precision),
    "input": _plain("input"),
    "threads": _sized("threads", str),
    "latency": Column(show=short_latency, sort=lambda row: row.median_ns),
    "best-case": _sized("best_case_ns", lambda ns: " ".join((*duration(ns)[0], duration(ns)[1]))),
    "reliability": _plain("reliability"),
    "protocol": _plain("protocol"),
    "parameters": _sized("parameters", _count),
    "macs": _sized("macs", _count),
    "size": _sized("artifact_bytes", size),
    "memory": _sized("peak_rss_bytes", size),
    "parity": Column(show=row_parity, sort=lambda row: row.max_rel_error),
    "macs-equal": Column(
        show=lambda row: {True: "yes", False: "no", None: ""}[row.macs_equal],
        sort=lambda row: row.macs_equal,
    ),
    "placement": _plain("placement"),
}
"""All columns by name."""
DEFAULT = (
    *("model", "backend", "precision", "input", "threads", "latency", "reliability", "protocol"),
    *("parameters", "macs", "size", "memory", "parity", "macs-equal", "placement"),
)
"""Columns of ``latbench table``."""
LISTED = (
    *("record", "when", "model", "device", "backend", "precision", "input", "threads"),
    *("latency", "reliability", "protocol"),
)
"""Columns of the lists of ``latbench show`` and ``latbench history``."""
LATEX = ("model", "backend", "precision", "threads", "parameters", "macs", "latency")
KEPT = (
    *("latency", "model", "record", "reliability", "backend", "threads", "protocol", "precision"),
    *("when", "input", "device", "parameters", "macs", "size", "memory", "best-case", "runtime"),
    *("parity", "macs-equal", "placement"),
)
"""Which columns a narrow terminal keeps, the most important first."""


def check_columns(names: Sequence[str]) -> None:
    """Raise :class:`UsageError` for a column that does not exist."""
    for name in names:
        if name not in COLUMNS:
            raise UsageError(
                f"unknown column {name!r}",
                hint=suggest(name, COLUMNS) or f"the columns are {', '.join(COLUMNS)}",
            )


def sorted_rows(rows: Sequence[TableRow], by: str) -> list[TableRow]:
    """Sorted by a column, descending with a leading minus; rows without a value last."""
    name = by.removeprefix("-")
    check_columns([name])
    key = COLUMNS[name].sort
    known = [row for row in rows if key(row) is not None]
    known.sort(key=key, reverse=by.startswith("-"))
    return [*known, *(row for row in rows if key(row) is None)]


def to_text(
    rows: Sequence[TableRow], columns: Sequence[str] | None = None, width: int | None = None
) -> list[str]:
    """Aligned columns, then a note for each failure and fallback.

    Without ``columns``, shows those of ``DEFAULT`` that are not empty. With ``width``, drops the
    least important columns until a line fits, and shortens the model's names if that is not enough.
    """
    if not rows:
        return ["no records"]
    shown = list(columns or ())
    if columns is None:
        shown = [name for name in DEFAULT if any(COLUMNS[name].show(row) for row in rows)]
    lines = _aligned(rows, shown)
    while width is not None and len(shown) > 2 and max(map(len, lines)) > width:
        shown.remove(max(shown, key=KEPT.index))
        lines = _aligned(rows, shown)
    if width is not None and (over := max(map(len, lines)) - width) > 0 and "model" in shown:
        longest = max(len(row.model) for row in rows)
        lines = _aligned(rows, shown, max(longest - over, NARROWEST_MODEL))
    return [*lines, *notes(rows)]


def _aligned(
    rows: Sequence[TableRow], columns: Sequence[str], longest: int | None = None
) -> list[str]:
    def cell(row: TableRow, name: str) -> str:
        text = COLUMNS[name].show(row)
        if name == "model" and longest is not None and len(text) > longest:
            return f"{text[: longest - 1]}…"
        return text

    return table(columns, [[cell(row, name) for name in columns] for row in rows])


def notes(rows: Sequence[TableRow]) -> list[str]:
    """Why there is no latency, for each row that has none."""
    return [
        f"  {row.model} · {row.backend}: {latency(row)}"
        for row in rows
        if short_latency(row) != latency(row)
    ]


def to_markdown(rows: Sequence[TableRow], columns: Sequence[str] = DEFAULT) -> list[str]:
    """The same columns as a Markdown table."""
    body = [[COLUMNS[name].show(row).replace("|", "\\|") for name in columns] for row in rows]
    return [f"| {' | '.join(cells)} |" for cells in [columns, ["---"] * len(columns), *body]]


def to_latex(rows: Sequence[TableRow], columns: Sequence[str] = LATEX) -> list[str]:
    """A tabular for the package booktabs; latencies in ms with the half-width of their interval."""
    numbers = ("latency", "threads", "parameters", "macs", "size", "memory", "best-case")
    align = "".join("r" if name in numbers else "l" for name in columns)
    head = ["latency (ms)" if name == "latency" else name for name in columns]
    body = [
        " & ".join(
            _latex_latency(row) if name == "latency" else _escaped(COLUMNS[name].show(row))
            for name in columns
        )
        for row in rows
    ]
    return [
        "% \\usepackage{booktabs}; ± is half of the 95% confidence interval; * not reliable",
        f"\\begin{{tabular}}{{{align}}}",
        "\\toprule",
        f"{' & '.join(_escaped(name) for name in head)} \\\\",
        "\\midrule",
        *(f"{line} \\\\" for line in body),
        "\\bottomrule",
        "\\end{tabular}",
    ]


def _latex_latency(row: TableRow) -> str:
    if row.median_ns is None:
        return "--"
    mark = "" if row.reliability == "reliable" else "^{*}"
    if row.low_ns is None or row.high_ns is None:
        return f"${row.median_ns / 1e6:.3g}{mark}$"
    half = (row.high_ns - row.low_ns) / 2e6
    digits = decimals(half)
    return f"${row.median_ns / 1e6:.{digits}f} \\pm {half:.{digits}f}{mark}$"


def _escaped(text: str) -> str:
    for each in "&%$#_{}":
        text = text.replace(each, f"\\{each}")
    return text
