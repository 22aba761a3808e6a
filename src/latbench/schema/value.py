"""The base of all values."""

from __future__ import annotations

import msgspec


class Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An immutable value with named fields and a strict codec.

    Subclasses repeat ``frozen`` and ``kw_only``: the first for type checkers, the second because it
    concerns only the fields of the class that says it.
    """
