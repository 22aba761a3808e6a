"""A Markdown matrix of models and backends."""

from __future__ import annotations

from collections.abc import Sequence

from latbench.report.tables import TableRow
from latbench.report.text.columns import latency, other_number, row_parity
from latbench.report.units import duration
from latbench.report.writers import markdown_table, markdown_text

VARYING = ("precision", "input", "threads", "weights")
"""What a model's name is followed by where its records differ."""


def to_matrix(rows: Sequence[TableRow]) -> list[str]:
    """A row for each model, a column for each backend.

    A cell holds the latency, then parity and MACs of the exported file, or why there is none. If
    several records share a cell, each has a line.
    """
    backends = list(dict.fromkeys(row.backend for row in rows))
    varying = [
        name
        for name in VARYING
        if any(len(_values(rows, model, name)) > 1 for model in {row.model for row in rows})
    ]
    lines = []
    named = [(row, " ".join([row.model, *_varied(row, varying)])) for row in rows]
    for name in dict.fromkeys(name for _, name in named):
        cells = [
            "<br>".join(_cell(row) for row, its in named if (its, row.backend) == (name, backend))
            for backend in backends
        ]
        lines.append([markdown_text(name), *cells])
    return markdown_table(["model", *map(markdown_text, backends)], lines)


def _values(rows: Sequence[TableRow], model: str, field: str) -> set[str]:
    """The values of a field among the rows of one model."""
    found = {getattr(row, field) for row in rows if row.model == model}
    return found - {None, "unknown"}


def _varied(row: TableRow, fields: Sequence[str]) -> list[str]:
    threads = None
    if row.threads is not None:
        threads = f"{row.threads} thread{'' if row.threads == 1 else 's'}"
    shown = {name: getattr(row, name) for name in VARYING} | {"threads": threads}
    return [text for field in fields if (text := shown[field]) is not None]


def _cell(row: TableRow) -> str:
    checked = [row_parity(row)] if row_parity(row) else []
    checked += {True: ["MACs equal"], False: ["**MACs differ**"], None: []}[row.macs_equal]
    checked += [markdown_text(row.options)] if row.options else []
    if row.fell_back_to is not None and row.artifact_sha256 is not None:
        ran = "exported, cannot run here"
    elif row.reported_by is not None:
        ran = markdown_text(latency(row))
    elif row.median_ns is not None:
        (value,), unit = duration(row.median_ns)
        ran = f"{value} {unit}" + (f" in {row.computed_in}" if row.computed_in else "")
    elif (cold := other_number(row)) is not None:
        ran = cold
    else:
        ran = markdown_text(f"no: {row.failure or row.status}")
    return "; ".join([ran, *checked])
