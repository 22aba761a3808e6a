"""Records, rows and catalogues as lines that a person reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from latbench.core.records import (
    Artifact,
    Conditions,
    Device,
    Fact,
    Failure,
    Machine,
    Record,
)
from latbench.core.summary import Summary
from latbench.report.units import duration, size, time

if TYPE_CHECKING:
    from latbench.store.registry import Row

LABEL = 12


def record_lines(record: Record, summary: Summary | None, registry: str | None) -> list[str]:
    """A record at a glance."""
    lines = [_title(record)]
    if record.backend != record.request.backend and record.artifact is not None:
        lines.insert(
            0,
            f"{record.request.backend} could not run here; this is {record.backend} "
            f"and says nothing about {record.request.backend}",
        )
    if summary is not None:
        lines += _figures(summary)
    if record.outcome.failure is not None:
        lines += failure_lines(record.outcome.failure)
    lines.append(_line("conditions", conditions(record)))
    if summary is not None:
        reasons = f": {'; '.join(summary.reasons)}" if summary.reasons else ""
        lines.append(_line("trust", summary.trust + reasons))
    elif record.outcome.status == "interrupted":
        lines.append(_line("outcome", "interrupted before the first timed sample"))
    where = f" in {registry}" if registry else ""
    lines.append(_line("record", f"{record.id}{where}"))
    return lines


def failure_lines(failure: Failure) -> list[str]:
    """What went wrong and what to do."""
    lines = [_line("failed", f"at {failure.stage} ({failure.kind}): {failure.message}")]
    if failure.hint:
        lines.append(_line("hint", failure.hint))
    return lines


def artifact_lines(artifact: Artifact, path: str) -> list[str]:
    """An exported file, and what was checked about it."""
    shapes = ", ".join(
        f"{tensor.name} {'x'.join(map(str, tensor.shape))} {tensor.dtype}"
        for tensor in artifact.inputs
    )
    lines = [
        path,
        _line("format", f"{artifact.format} {artifact.precision}, {size(artifact.size_bytes)}"),
        _line("inputs", shapes),
        _line("sha256", artifact.sha256),
        _line("made by", ", ".join(f"{k} {v}" for k, v in artifact.toolchain.items())),
        _line("details", ", ".join(f"{k} {v}" for k, v in artifact.details.items())),
    ]
    if (counts := artifact.counts) is not None:
        operators = ", ".join(f"{n} {name}" for name, n in counts.operators.items())
        lines.append(
            _line("counts", f"{counts.macs:,} MACs, {counts.parameters:,} parameters, {operators}")
        )
    if (parity := artifact.parity) is not None:
        lines.append(
            _line(
                "parity",
                f"relative error {parity.max_rel_error:.1g} against {parity.reference} "
                f"(allowed {parity.tolerance:.0e})",
            )
        )
    else:
        lines.append(_line("parity", "no PyTorch model to compare a ready file with"))
    return lines


def device_lines(device: Device) -> list[str]:
    """A device with the source of each fact."""
    lines = [f"{device.id}: {device.name} ({device.kind})"]
    lines.append(_line("reached by", device.transport or "not reached by latbench"))
    for name in ("soc", "cpu", "gpu", "npu", "memory_bytes", "os", "year", "backends"):
        fact: Fact | None = getattr(device, name)
        label = name.removesuffix("_bytes")
        if fact is None:
            lines.append(_line(label, "unknown"))
            continue
        value = ", ".join(fact.value) if isinstance(fact.value, tuple) else str(fact.value)
        if name == "memory_bytes" and isinstance(fact.value, int):
            value = size(fact.value)
        lines.append(_line(label, f"{value}  [{fact.source}]"))
    if device.note:
        lines.append(_line("note", device.note))
    return lines


def row_lines(rows: Sequence[Row]) -> list[str]:
    """Rows of the registry as a table."""
    if not rows:
        return ["no records"]
    header = ("record", "when", "model", "device", "backend", "input", "threads", "latency")
    return table(
        header,
        (
            (
                row.id,
                moment(row.created_unix_ns),
                row.model,
                row.device,
                row.backend
                + (
                    f" (for {row.requested_backend})"
                    if row.requested_backend != row.backend
                    else ""
                ),
                row.input or "",
                "" if row.threads is None else str(row.threads),
                time(row.median_ns) if row.median_ns is not None else row.status,
            )
            for row in rows
        ),
    )


def cpu_line(machine: Machine, now: Conditions) -> str:
    """The CPU and what of it may be used."""
    return f"{machine.cpu_model or 'unknown'}, {_cpus(now, machine.logical_cpus)}"


def conditions(record: Record) -> str:
    """What matters of the machine's state, before the run."""
    before, machine = record.environment.before, record.environment.machine
    known = [
        _cpus(before, machine.logical_cpus),
        f"governor {'/'.join(sorted(set(before.governor)))}" if before.governor else None,
        {True: "turbo on", False: "turbo off", None: None}[before.turbo],
        f"{before.temperature_mc / 1000:.0f} °C" if before.temperature_mc is not None else None,
        f"load {before.load_1m_milli / 1000:.2f}" if before.load_1m_milli is not None else None,
        f"under {machine.hypervisor}" if machine.hypervisor else None,
        {True: "on battery", False: "on mains", None: None}[before.on_battery],
    ]
    unknown = [
        name
        for name, value in (
            ("governor", before.governor),
            ("turbo", before.turbo),
            ("temperature", before.temperature_mc),
        )
        if value is None
    ]
    tail = [f"unknown: {', '.join(unknown)}"] if unknown else []
    return " · ".join([part for part in known if part] + tail)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Left-aligned columns, as wide as they need to be; no frame, so that it can be grepped."""
    body = [tuple(header), *(tuple(row) for row in rows)]
    widths = [max(len(row[i]) for row in body) for i in range(len(header))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in body
    ]


def moment(unix_ns: int) -> str:
    """Date and time in UTC, to the second."""
    return datetime.fromtimestamp(unix_ns // 1_000_000_000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _title(record: Record) -> str:
    parts = [record.model.name, record.backend]
    if record.runtime is not None:
        parts[1] += f" {record.runtime.version or ''}".rstrip()
    parts.append(record.request.precision)
    if record.artifact is not None:
        parts += ["x".join(map(str, tensor.shape)) for tensor in record.artifact.inputs]
    if record.runtime is not None and (threads := record.runtime.settings.get("threads")):
        parts.append(f"{threads} thread{'' if threads == '1' else 's'}")
    parts.append(record.device.name)
    return " · ".join(parts)


def _figures(summary: Summary) -> list[str]:
    low, high = summary.interval_ns or (summary.p10_ns, summary.p90_ns)
    (middle, lower, upper, p10, p90), unit = duration(
        summary.median_ns,
        low,
        high,
        summary.p10_ns,
        summary.p90_ns,
        uncertainty_ns=max((high - low) / 2, 1),
    )
    interval = (
        f"{(summary.confidence or 0):.1%} interval {lower} to {upper}, "
        if summary.interval_ns
        else ""
    )
    return [
        _line(
            "latency",
            f"{middle} {unit} median ({interval}{summary.samples} samples in "
            f"{summary.processes} process{'es' if summary.processes > 1 else ''})",
        ),
        _line("spread", f"{p10} to {p90} {unit} (10th to 90th percentile)"),
        _line("start", f"load {time(summary.load_ns)}, first inference {time(summary.first_ns)}"),
    ]


def _cpus(before: Conditions, logical: int | None) -> str:
    usable = f"{before.usable_cpus} usable CPU{'' if before.usable_cpus == 1 else 's'}"
    return usable if logical in (None, before.usable_cpus) else f"{usable} of {logical}"


def _line(label: str, text: str) -> str:
    return f"  {label.ljust(LABEL)}{text}"
