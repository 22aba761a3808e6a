"""The columns of lists of records: what a cell shows, and by what it is sorted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from latbench.errors import UsageError, suggest
from latbench.report.tables import TableRow
from latbench.report.text.layout import moment
from latbench.report.text.reported import reported_time
from latbench.report.units import duration, size, time
from latbench.schema.value import Value

DIGEST_SHOWN = 12
"""Characters of a digest that a cell shows."""


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


def _minute(unix_ns: int) -> str:
    return f"{moment(unix_ns)[:16]}Z"


def _digest(text: str) -> str:
    """The start of a digest, with its kind."""
    kind, colon, digits = text.rpartition(":")
    return kind + colon + digits[:DIGEST_SHOWN]


def _precision(row: TableRow) -> str:
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
    return f"{row.statistic} {time(row.reported)}"


def _reported(row: TableRow) -> str:
    """What another tool says, with its name."""
    if row.failure is not None:
        return f"{row.reported_by} failed: {row.failure}"
    number = "no latency"
    if row.reported is not None:
        number = f"{reported_time(row.reported)} {row.statistic}"
    return f"{number}, reported by {row.reported_by}"


def latency(row: TableRow) -> str:
    """The latency with its interval, or in full why there is none."""
    if row.reported_by is not None:
        return _reported(row)
    if row.fell_back_to is not None:
        why = f"{row.failure}; " if row.failure else ""
        if row.fallback_median_ns is None:
            return f"{why}cannot run here"
        return f"{why}cannot run here; {row.fell_back_to} took {time(row.fallback_median_ns)}"
    if row.median_ns is None:
        return other_number(row) or row.failure or row.status
    if row.low_ns is None or row.high_ns is None:
        return time(row.median_ns)
    (value, low, high), unit = duration(
        row.median_ns,
        row.low_ns,
        row.high_ns,
        uncertainty_ns=max((row.high_ns - row.low_ns) / 2, 1),
    )
    return f"{value} {unit} ({low}-{high})"


def short_latency(row: TableRow) -> str:
    """The same in a few words; :func:`latency` has the rest."""
    if row.fell_back_to is not None:
        return "cannot run here"
    if row.reported_by is not None:
        return _reported(row)
    if row.median_ns is None and other_number(row) is None and row.failure:
        return f"failed: {row.failure.partition(':')[0]}"
    return latency(row)


def cold_start_ns(row: TableRow) -> int | None:
    """Loading the model and the first inference; ``None`` if either was not measured."""
    return None if row.load_ns is None or row.first_ns is None else row.load_ns + row.first_ns


def _cold_start(row: TableRow) -> str:
    total = cold_start_ns(row)
    return "" if total is None else time(total)


COLUMNS: dict[str, Column] = {
    "record": _plain("id"),
    "when": _sized("created_unix_ns", _minute),
    "model": _plain("model"),
    "backend": _plain("backend"),
    "runtime": _plain("runtime"),
    "device": _plain("device"),
    "precision": Column(show=_precision, sort=_precision),
    "input": _plain("input"),
    "threads": _sized("threads", str),
    "options": _plain("options"),
    "weights": Column(show=lambda row: _digest(row.weights), sort=lambda row: row.weights),
    "artifact": Column(
        show=lambda row: _digest(row.artifact_sha256 or ""), sort=lambda row: row.artifact_sha256
    ),
    "latency": Column(show=short_latency, sort=lambda row: row.median_ns),
    "best-case": _sized("best_case_ns", time),
    "reliability": _plain("reliability"),
    "protocol": _plain("protocol"),
    "parameters": _sized("parameters", _count),
    "macs": _sized("macs", _count),
    "size": _sized("artifact_bytes", size),
    "memory": _sized("peak_rss_bytes", size),
    "cold-start": Column(show=_cold_start, sort=cold_start_ns),
    "parity": Column(show=row_parity, sort=lambda row: row.max_rel_error),
    "macs-equal": Column(
        show=lambda row: {True: "yes", False: "no", None: ""}[row.macs_equal],
        sort=lambda row: row.macs_equal,
    ),
    "placement": _plain("placement"),
}
"""All columns by name."""
NUMBERS = frozenset(
    {"latency", "threads", "parameters", "macs", "size", "memory", "best-case", "cold-start"}
)
"""Columns that LaTeX aligns on the right."""
TABLE = (
    *("model", "backend", "runtime", "device", "precision", "input", "threads", "options"),
    *("weights", "latency", "reliability", "protocol", "parameters", "macs", "size", "memory"),
    *("cold-start", "parity", "macs-equal", "placement"),
)
"""Columns of ``latbench table``."""
LISTED = (
    *("record", "when", "model", "device", "backend", "runtime", "precision", "input", "threads"),
    *("options", "weights", "latency", "reliability", "protocol"),
)
"""Columns of the lists of ``latbench show`` and ``latbench history``."""
PAPER = ("model", "backend", "precision", "threads", "parameters", "macs", "memory", "latency")
"""Columns of a table in LaTeX, besides settings in which its rows differ."""
ALWAYS = frozenset({"record", "when", "latency", "reliability"})
"""Columns that are shown also if all rows are alike."""
KEPT = (
    *("latency", "model", "record", "reliability", "backend", "when", "precision", "options"),
    *("threads", "protocol", "weights", "artifact", "input", "device", "runtime", "memory"),
    *("cold-start", "parameters", "macs", "size", "best-case", "parity", "macs-equal", "placement"),
)
"""Which columns a narrow terminal keeps in a row, the most important first."""
SETTINGS = ("precision", "input", "threads", "options", "weights", "runtime", "protocol", "device")
"""Columns that say how a model was measured."""
WITHIN = {**dict.fromkeys((*SETTINGS, "artifact"), "model"), "runtime": "backend"}
"""Setting -> the column within whose equal values a difference is worth a line: two models may well
have different inputs, and two backends different versions."""


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
