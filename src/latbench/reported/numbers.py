"""Numbers in the output of tools: exact conversion to integers of the smallest unit."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from latbench.errors import UsageError

TO_NS = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
"""Unit of time -> nanoseconds."""
NUMERAL = r"[-+]?(?:\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|inf|nan)"
"""A number as C++ and Python print it, for a regular expression."""
MOST = Decimal(2**62)


def integer_of(value: object, factor: int = 1, *, what: str) -> int:
    """``value`` times ``factor``, rounded to an integer. ``value`` is a number or its text.

    Raise :class:`UsageError` for what is not a number, negative, or too large to be right.
    """
    try:
        number = Decimal(str(value).strip()) * factor
    except ArithmeticError:
        raise UsageError(f"{what} is not a number: {str(value)[:40]!r}") from None
    if not number.is_finite() or not 0 <= number < MOST or isinstance(value, bool):
        raise UsageError(f"{what} is impossible: {str(value)[:40]}")
    return round(number)


def integers_of(values: Mapping[str, object], factor: int = 1) -> dict[str, int]:
    """Those of ``values`` that are not ``None``, as :func:`integer_of` converts them."""
    return {
        name: integer_of(value, factor, what=name)
        for name, value in values.items()
        if value is not None and str(value).strip() not in ("", "None")
    }
