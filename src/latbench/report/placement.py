"""Where operators ran, as text: for the table of records and for the report on one."""

from __future__ import annotations

from latbench.schema.trace import Placement


def placed(placement: Placement) -> str:
    """Operators per unit, partitions, and how the placement is known, on one line."""
    units = ", ".join(
        unit if count is None else f"{count} on {unit}" for unit, count in placement.units.items()
    )
    cut = f" in {placement.partitions} partitions" if placement.partitions is not None else ""
    note = f"; {placement.note}" if placement.note else ""
    return f"{units}{cut} ({placement.known}{note})"
