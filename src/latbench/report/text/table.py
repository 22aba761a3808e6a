"""The table of records for people: text, Markdown and a matrix of models and backends."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from latbench.report.tables import TableRow
from latbench.report.text.layout import table
from latbench.report.units import duration


def to_text(rows: Sequence[TableRow]) -> list[str]:
    """The columns that a person compares."""
    if not rows:
        return ["no records"]
    return table(
        [name for name, _ in COLUMNS], [[show(row) for _, show in COLUMNS] for row in rows]
    )


def to_markdown(rows: Sequence[TableRow]) -> list[str]:
    """The same as a Markdown table."""
    head = [name for name, _ in COLUMNS]
    body = [[show(row).replace("|", "\\|") for _, show in COLUMNS] for row in rows]
    return [f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *body]]


def to_matrix(rows: Sequence[TableRow]) -> list[str]:
    """Markdown: a row for each model, a column for each backend. In a cell: latency, then parity
    and MACs of what was exported, or why there is none. Where several rows share a cell, each has
    its line."""
    backends = list(dict.fromkeys(row.backend for row in rows))
    varying = [
        name
        for name in ("precision", "input", "threads")
        if any(len(_values(rows, model, name)) > 1 for model in {row.model for row in rows})
    ]
    lines = [
        f"| model | {' | '.join(backends)} |",
        f"| --- | {' | '.join(['---'] * len(backends))} |",
    ]
    named = [(row, " ".join([row.model, *_varied(row, varying)])) for row in rows]
    for name in dict.fromkeys(name for _, name in named):
        cells = [
            "<br>".join(_cell(row) for row, its in named if (its, row.backend) == (name, backend))
            for backend in backends
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _values(rows: Sequence[TableRow], model: str, field: str) -> set[str]:
    """What a field is among the rows of one model."""
    found = {getattr(row, field) for row in rows if row.model == model}
    return found - {None, "unknown"}


def _varied(row: TableRow, fields: Sequence[str]) -> list[str]:
    shown = {"precision": row.precision, "input": row.input, "threads": row.threads}
    return [
        f"{shown[field]} thread{'' if shown[field] == '1' else 's'}" if field == "threads" else text
        for field in fields
        if (text := shown[field]) is not None
    ]


def _cell(row: TableRow) -> str:
    checked = [_parity(row)] if _parity(row) else []
    checked += {True: ["MACs equal"], False: ["**MACs differ**"], None: []}[row.macs_equal]
    if row.fell_back_to is not None and row.artifact_sha256 is not None:
        ran = "exported, cannot run here"
    elif row.median_ns is not None:
        (value,), unit = duration(row.median_ns)
        ran = f"{value} {unit}" + (f" in {row.computed_in}" if row.computed_in else "")
    elif (cold := _cold(row)) is not None:
        ran = cold
    else:
        ran = f"no: {row.failure or row.status}".replace("|", "\\|")
    return "; ".join([ran, *checked])


def precision(row: TableRow) -> str:
    """Of the file, and of the arithmetic where that is another."""
    return row.precision + (f" (computed in {row.computed_in})" if row.computed_in else "")


def _exported(row: TableRow) -> str:
    return "no" if row.artifact_sha256 is None else "yes"


def _parity(row: TableRow) -> str:
    if row.max_rel_error is None:
        return ""
    if row.precision.startswith("int8") and row.cosine is not None:
        return f"cosine {row.cosine:.4f}"
    return f"{row.max_rel_error:.0e}" if row.max_rel_error else "0"


def _cold(row: TableRow) -> str | None:
    """What was measured where there is no typical latency."""
    if row.status != "measured" or row.reported is None:
        return None
    (value,), unit = duration(row.reported)
    return f"{row.statistic} {value} {unit}"


def latency(row: TableRow) -> str:
    """With its interval, or why there is none."""
    if row.fell_back_to is not None:
        why = f"{row.failure}; " if row.failure else ""
        if row.fallback_median_ns is None:
            return f"{why}cannot run here"
        (value,), unit = duration(row.fallback_median_ns)
        return f"{why}cannot run here; {row.fell_back_to} took {value} {unit}"
    if row.median_ns is None:
        return _cold(row) or row.failure or row.status
    if row.low_ns is None or row.high_ns is None:
        (value,), unit = duration(row.median_ns)
        return f"{value} {unit}"
    else:
        (value, low, high), unit = duration(
            row.median_ns,
            row.low_ns,
            row.high_ns,
            uncertainty_ns=max((row.high_ns - row.low_ns) / 2, 1),
        )
        return f"{value} {unit} ({low} to {high})"


COLUMNS: tuple[tuple[str, Callable[[TableRow], str]], ...] = (
    ("model", lambda row: row.model),
    ("backend", lambda row: row.backend),
    ("precision", precision),
    ("input", lambda row: row.input or ""),
    ("threads", lambda row: row.threads or ""),
    ("exported", _exported),
    ("parity", _parity),
    ("MACs equal", lambda row: {True: "yes", False: "no", None: ""}[row.macs_equal]),
    ("latency", latency),
    ("reliability", lambda row: row.reliability or ""),
    ("placement", lambda row: row.placement or ""),
)
