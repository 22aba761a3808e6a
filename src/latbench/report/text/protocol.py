"""Protocols as lines."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from latbench.report.text.layout import labeled, table
from latbench.report.units import time
from latbench.schema.protocol import TimingProtocol, protocol_sha256


def protocol_table(protocols: Iterable[TimingProtocol], width: int | None = None) -> list[str]:
    """A table of the protocols, fitted to ``width``."""
    return table(("protocol", "summary"), ((p.label, p.what) for p in protocols), width)


def protocol_lines(protocol: TimingProtocol) -> list[str]:
    """Everything about one protocol."""
    processes = f"{protocol.processes}"
    if protocol.max_processes > protocol.processes:
        processes += f" to {protocol.max_processes}"
    if protocol.max_sessions is not msgspec.UNSET:
        processes += (
            f"; {protocol.sessions} loads of the model in the first one, then as many as are "
            f"cheapest, up to {protocol.max_sessions}"
        )
    elif protocol.sessions > 1:
        processes += f", each loading the model {protocol.sessions} times"
    facts = [
        ("summary", protocol.what),
        ("source", protocol.source),
        *(("assumed" if i == 0 else "", text) for i, text in enumerate(protocol.assumed)),
        ("processes", processes),
        ("warm-up", _warmup(protocol)),
        (
            "load",
            "back to back"
            if protocol.period_ns is None
            else f"one call every {time(protocol.period_ns)}",
        ),
        ("samples", _samples(protocol)),
        ("stops", _stops(protocol)),
        ("sentinel", _sentinel(protocol)),
        ("statistic", _statistic(protocol)),
        ("clock", protocol.clock),
        ("timed", protocol.timed_region),
        ("sha256", protocol_sha256(protocol)),
    ]
    if protocol.threads is not None:
        pinned = ", pinned to as many CPUs" if protocol.pinned else ""
        facts.insert(-3, ("threads", f"{protocol.threads} unless set with --threads{pinned}"))
    return [protocol.label, *(labeled(label, text) for label, text in facts)]


def _sentinel(protocol: TimingProtocol) -> str:
    if not protocol.sentinel_ns:
        return "none"
    most = "up to " if protocol.max_sessions is not msgspec.UNSET else ""
    return f"{most}{time(protocol.sentinel_ns)} per round"


def _warmup(protocol: TimingProtocol) -> str:
    parts = [f"{protocol.warmup_calls} calls after the first inference"]
    if protocol.warmup_ns:
        parts.append(f"{time(protocol.warmup_ns)} in total")
    limit = f"at most {time(protocol.warmup_limit_ns)}"
    if protocol.warmup == "found":
        return (
            f"adaptive, until the samples no longer change; at least {' and '.join(parts)}; {limit}"
        )
    return f"{' and '.join(parts)}; {limit}"


def _samples(protocol: TimingProtocol) -> str:
    block = f"blocks of {protocol.block_calls}"
    if protocol.block_ns is not None:
        block = f"blocks of about {time(protocol.block_ns)}, at most {protocol.block_calls} calls"
    if protocol.settle_calls:
        block += f", the first {protocol.settle_calls} discarded"
    if protocol.min_calls == 0 and protocol.min_ns == 0:
        return "the first inference only"
    least = f"at least {protocol.min_calls} calls"
    if protocol.min_ns:
        least += f" and {time(protocol.min_ns)}"
    return f"{least} each time it is loaded, no new block after {time(protocol.max_ns)}; {block}"


def _stops(protocol: TimingProtocol) -> str:
    parts = ["when all calls are done"]
    if protocol.target_ppm is not None:
        parts = [f"at a precision of ±{protocol.target_ppm / 1e4:g}%"]
    if protocol.budget_ns is not None:
        parts.append(f"after {time(protocol.budget_ns)}")
    return " or ".join(parts)


def _statistic(protocol: TimingProtocol) -> str:
    statistic = protocol.statistic
    kinds = {
        "median": "median of the processes' medians",
        "last level": "median of the processes' last levels",
        "mean": "mean",
        "quantile": f"p{(statistic.quantile_milli or 0) / 10:g}",
        "throughput": "images per second, from the mean",
        "cold": "median over processes of load time and first inference together",
    }
    trim = f", without the {statistic.trim_low} lowest and {statistic.trim_high} highest"
    trimmed = statistic.trim_low or statistic.trim_high
    return kinds[statistic.kind] + (f"{trim} each time it is loaded" if trimmed else "")
