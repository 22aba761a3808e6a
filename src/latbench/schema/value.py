"""Define the base class of all values."""

from __future__ import annotations

import msgspec


class Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An immutable value with named fields and a strict codec.

    Subclasses repeat ``frozen`` for type checkers, and ``kw_only`` because it applies only to the
    fields of the class that sets it.
    """
