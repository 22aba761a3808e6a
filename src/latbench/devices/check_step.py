"""What `latbench devices check` says of one step of the way to a device."""

from __future__ import annotations

from latbench.schema.value import Value


class CheckStep(Value, frozen=True, kw_only=True):
    """One step. ``works`` is ``None`` for what is neither good nor bad."""

    name: str
    works: bool | None
    found: str
    hint: str | None = None
