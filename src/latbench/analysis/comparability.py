"""Check whether two stored records can be compared."""

from __future__ import annotations

from latbench.analysis.estimators import BEST_CASE
from latbench.analysis.segments import process_samples
from latbench.analysis.stats import (
    FEWEST,
    interpolated,
)
from latbench.schema.record import Record

MEMORY_TOLERANCE = 0.02
"""Relative difference of memory up to which two records count as of one machine: firmware, kernel
and hypervisor reserve a part that changes with a reboot or an update."""


def incomparable(a: Record, b: Record) -> tuple[str, ...]:
    """Return fields that differ but must not differ between compared records, with both values.

    Models, artifacts, backends, threads, precisions and options may differ, because they can be
    compared. So may the kernel, see :func:`comparability_notes`. Empty if the two records can be
    compared.
    """
    pairs = (
        ("device", a.device.id, b.device.id),
        *(
            (f"environment.machine.{name}", *_both(a, b, name))
            for name in ("cpu_model", "logical_cpus", "hypervisor")
        ),
        *(
            ()
            if same_memory(*_memory(a, b))
            else (("environment.machine.memory_bytes", *_memory(a, b)),)
        ),
        *(
            (
                f"environment.before.{name}",
                getattr(a.environment.before, name),
                getattr(b.environment.before, name),
            )
            for name in (
                *("affinity", "cpu_quota_milli", "usable_cpus", "governor", "turbo", "on_battery"),
            )
        ),
        ("protocol", a.protocol.label, b.protocol.label),
        ("protocol_sha256", a.protocol_sha256[:12], b.protocol_sha256[:12]),
    )
    return tuple(f"{name}: {one} and {two}" for name, one, two in pairs if one != two)


def comparability_notes(a: Record, b: Record) -> tuple[str, ...]:
    """Return what differs between comparable records and may have changed the latency."""
    notes = []
    one, two = _both(a, b, "kernel")
    if one != two:
        notes.append(f"the kernel differs: {one} and {two}")
    one, two = _both(a, b, "identity")
    if one is not None and two is not None and one != two:
        notes.append("the records are of two machines of the same kind")
    return tuple(notes)


def same_sentinel(a: Record, b: Record) -> bool:
    """Whether both records were timed next to the same sentinel, run the same way."""
    x, y = a.sentinel, b.sentinel
    return (
        x is not None
        and y is not None
        and x.sha256 is not None
        and (x.name, x.sha256, a.backend) == (y.name, y.sha256, b.backend)
        # The sentinel has the model's settings: with other threads it is a different reference.
        and a.runtime is not None
        and b.runtime is not None
        and (a.runtime.settings, a.runtime.version) == (b.runtime.settings, b.runtime.version)
        # A sentinel that was lost early is less precise than the models alone.
        and min(len(sentinel_best_case(a)), len(sentinel_best_case(b))) >= FEWEST
    )


def _both(a: Record, b: Record, name: str) -> tuple[object, object]:
    return getattr(a.environment.machine, name), getattr(b.environment.machine, name)


def _memory(a: Record, b: Record) -> tuple[int | None, int | None]:
    return a.environment.machine.memory_bytes, b.environment.machine.memory_bytes


def same_memory(one: int | None, two: int | None) -> bool:
    """Return whether two amounts in bytes are of one machine; unknown ones are only like each
    other."""
    if one is None or two is None:
        return one == two
    return abs(one - two) <= MEMORY_TOLERANCE * max(one, two)


def sentinel_best_case(record: Record) -> dict[int, float]:
    """The best-case latency of the sentinel in each process, in nanoseconds."""
    parts = process_samples(record.outcome.sentinel)
    return {i: interpolated(part, BEST_CASE) for i, part in parts.items()}
