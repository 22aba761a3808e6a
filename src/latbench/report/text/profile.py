"""Operators and their share of the latency, as lines; two profiles side by side."""

from __future__ import annotations

import re
from collections.abc import Sequence

from latbench.analysis.operator_shares import (
    OperatorPair,
    OperatorShare,
    ProfileShares,
    pair_operators,
)
from latbench.analysis.summary import Summary
from latbench.report.text.answer import reliability_lines, start_text, title
from latbench.report.text.layout import GAP, labeled, shortened, table
from latbench.report.text.operator_times import MOST_KINDS
from latbench.report.units import size, time
from latbench.report.writers import csv_table, markdown_table, markdown_text, printable
from latbench.schema.record import Record

NARROWEST_NAME = 16
"""Characters of an operator's name that a narrow terminal shows, at least."""
QUALIFIED = re.compile(r"(?<![\w.])(?:[a-z_]\w*\.)+([A-Z][A-Za-z0-9]*)(?:_(\w+))?")
"""A module as some exporters name it: Python modules, its class, and its attribute."""
OPERATOR_FIELDS = ("name", "kind", "unit", "precision", "share", "latency_ns", "profiled_ns")


def profile_lines(
    record: Record,
    summary: Summary | None,
    shares: ProfileShares,
    *,
    top: int,
    width: int | None,
    id: str,
) -> list[str]:
    """What takes most of the time, then the ``top`` operators."""
    most = _most(shares)
    rest = most[top:]
    lines = [f"{_answer(shares)}  {title(record)}", labeled("profile", _source(shares))]
    lines.append(labeled("by kind", _kinds(shares)))
    lines += _listed(most[:top], width)
    if rest:
        others = f"{len(rest)} other operator{'' if len(rest) == 1 else 's'}"
        lines.append(labeled("others", f"{others}: {sum(each.share for each in rest):.1%}"))
    if shares.outside > 0:
        lines.append(labeled("outside", f"{shares.outside:.1%} of the time is in no operator"))
    return [*lines, *_measured(summary), labeled("record", f"{id} (latbench show {id})")]


def against_lines(
    names: tuple[str, str],
    ids: tuple[str, str],
    a: ProfileShares,
    b: ProfileShares,
    *,
    top: int,
    width: int | None,
) -> list[str]:
    """Two profiles of one network: the operators whose times differ most.

    ``names``: the titles of the records; ``ids``: short forms of their ids.
    """
    pairs = pair_operators(a, b)
    both = [pair for pair in pairs if pair.a_ns is not None and pair.b_ns is not None]
    alone = f"{len(a.operators) - len(both)} only in A, {len(b.operators) - len(both)} only in B"
    lines = [
        f"B takes {time(_whole(b))}, A {time(_whole(a))}: {_signed(_whole(b) - _whole(a))}",
        labeled("A", names[0]),
        labeled("", _source(a)),
        labeled("B", names[1]),
        labeled("", _source(b)),
        labeled("verdict", f"latbench compare --records {' '.join(ids)}"),
        labeled("operators", f"{len(both)} with the same name in both, {alone}"),
    ]
    if both:
        return [*lines, *_paired(pairs[:top], width), *_left_of(pairs[top:])]
    for name, shares in (("A", a), ("B", b)):
        lines += ["", f"{GAP}{name}: {_kinds(shares)}", *_listed(_most(shares)[:top], width)]
    return lines


def profile_csv(shares: ProfileShares) -> str:
    """Every operator in the order of execution."""
    return csv_table(
        OPERATOR_FIELDS,
        [[getattr(each, name) for name in OPERATOR_FIELDS] for each in shares.operators],
    )


def profile_markdown(shares: ProfileShares, top: int) -> list[str]:
    """The ``top`` operators."""
    rows = [
        (
            markdown_text(operator_name(each.name, each.kind)),
            markdown_text(each.kind),
            time(each.latency_ns),
            f"{each.share:.1%}",
        )
        for each in _most(shares)[:top]
    ]
    return markdown_table(("operator", "kind", "time", "share"), rows)


def operator_name(name: str, kind: str) -> str:
    """The name with attributes in place of Python classes; with the kind if it is only a number.

    ``torch.nn.modules.container.Sequential_stem/torch.nn.modules.conv.Conv2d_0;4`` is ``stem/0;4``.
    Of several names that a converter joined by ``;;``, the longest is shown.
    """
    if name.isdecimal() or not name:
        return f"{kind} #{name}"
    longest = max(name.split(";;"), key=len)
    return printable(QUALIFIED.sub(lambda found: found[2] or found[1], longest))


def _answer(shares: ProfileShares) -> str:
    whole = time(_whole(shares))
    if not shares.kinds:
        return f"no operators in {whole}"
    first = shares.kinds[0]
    verb = "takes" if first.operators == 1 else "take"
    return f"{first.operators} {printable(first.kind)} {verb} {first.share:.0%} of {whole}"


def _whole(shares: ProfileShares) -> float:
    return shares.profiled_ns if shares.latency_ns is None else shares.latency_ns


def _source(shares: ProfileShares) -> str:
    calls = f"{shares.source}, {shares.calls} calls"
    text = f"{time(shares.profiled_ns)} per inference ({calls})"
    if shares.ratio is None:
        text += "; the record has no latency, so nothing is scaled"
    else:
        text += f", {shares.ratio:.2f} times the latency; times are scaled to the latency"
    if shares.overlap is not None:
        text += (
            f"; operators add up to {shares.overlap:.2f} times the inference (they overlap, or "
            "some are counted twice)"
        )
    return text


def _kinds(shares: ProfileShares) -> str:
    shown = [
        f"{each.operators} {printable(each.kind)} {each.share:.0%}"
        for each in shares.kinds[:MOST_KINDS]
    ]
    more = len(shares.kinds) - MOST_KINDS
    return ", ".join(shown) + (f", {more} more kinds" if more > 0 else "")


def _measured(summary: Summary | None) -> list[str]:
    if summary is None:
        return []
    lines = []
    if summary.first_ns is not None:
        lines.append(labeled("cold start", start_text(summary)))
    if summary.peak_rss_bytes is not None:
        lines.append(labeled("peak memory", f"{size(summary.peak_rss_bytes)} (worker process)"))
    return [*lines, *reliability_lines(summary, most=1)]


def _most(shares: ProfileShares) -> list[OperatorShare]:
    """The operators, the largest share first."""
    return sorted(shares.operators, key=lambda operator: -operator.share)


def _listed(operators: Sequence[OperatorShare], width: int | None) -> list[str]:
    units = {each.unit for each in operators}
    head = ["time", "share", "operator", "kind"] + (["unit"] if len(units) > 1 else [])
    body = [
        [
            time(each.latency_ns),
            f"{each.share:.1%}",
            operator_name(each.name, each.kind),
            printable(each.kind),
            each.unit or "",
        ]
        for each in operators
    ]
    return _table(head, [row[: len(head)] for row in body], width)


def _paired(pairs: Sequence[OperatorPair], width: int | None) -> list[str]:
    body = [
        [
            "-" if pair.a_ns is None else time(pair.a_ns),
            "-" if pair.b_ns is None else time(pair.b_ns),
            _signed(pair.difference_ns),
            operator_name(pair.name, pair.kind),
            printable(pair.kind),
        ]
        for pair in pairs
    ]
    return _table(["A", "B", "B - A", "operator", "kind"], body, width)


def _left_of(pairs: Sequence[OperatorPair]) -> list[str]:
    if not pairs:
        return []
    total = _signed(sum(pair.difference_ns for pair in pairs))
    return [labeled("others", f"{len(pairs)} operators: {total}")]


def _signed(value_ns: float) -> str:
    return f"{'-' if value_ns < 0 else '+'}{time(abs(value_ns))}"


def _table(head: list[str], body: list[list[str]], width: int | None) -> list[str]:
    """An indented table; kinds and then names are shortened to fit."""
    for name in ("kind", "operator"):
        at = head.index(name)
        lines = table(head, body)
        over = 0 if width is None else max(map(len, lines)) + len(GAP) - width
        if over > 0 and body:
            longest = max(len(row[at]) for row in body)
            limit = max(NARROWEST_NAME, longest - over)
            cells = shortened([row[at] for row in body], limit)
            body = [
                [*row[:at], cell, *row[at + 1 :]] for row, cell in zip(body, cells, strict=True)
            ]
    return [f"{GAP}{line}" for line in table(head, body)]
