"""Everything about a result of another tool, as lines."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence

from latbench.analysis.reported_latency import reported_latency
from latbench.report.text.layout import labeled, moment
from latbench.report.units import size, time
from latbench.reported.tools import unknown_facts
from latbench.schema.artifact import shape_text
from latbench.schema.reported import LATENCY, ReportedResult, ToolRun

NO_EVIDENCE = (
    "none: latbench took no samples, so it gives no interval and no reliability, and compares "
    "and checks nothing with this result"
)


BELOW = "below the tool's resolution"
"""What a time of 0 is: a tool that counts microseconds gives it to a tiny model."""
BESIDE = 5
"""So many results are listed beside a verdict."""


def reported_time(value_ns: float) -> str:
    """A time of a tool; 0 is none that anything takes."""
    return time(value_ns) if value_ns else BELOW


def lines_beside(results: Sequence[ReportedResult]) -> list[str]:
    """The newest results as lines beside a claim or verdict, labeled as no evidence."""
    lines = [f"reported, decides nothing: {line_beside(each)}" for each in results[:BESIDE]]
    if len(results) > BESIDE:
        lines.append(f"{len(results) - BESIDE} more are reported (latbench reported list)")
    return lines


def line_beside(entry: ReportedResult) -> str:
    """One result on a line: what, by whom, where, with its id."""
    latency = reported_latency(entry.result)
    number = (
        "no latency"
        if latency is None
        else f"{reported_time(latency.value_ns)} ({latency.statistic})"
    )
    threads = None if entry.threads is None else f"{entry.threads} threads"
    known = ", ".join(each for each in (entry.backend, entry.precision, threads) if each)
    place = entry.device or "an unknown device"
    return f"{entry.model} {number} by {entry.tool} on {place}{known and f' ({known})'}, {entry.id}"


def reported_lines(entry: ReportedResult, registry: str | None) -> list[str]:
    """The full listing, the answer first."""
    lines = [_head(entry), *_failure_lines(entry), *_numbers(entry)]
    result = entry.result
    if result.operators:
        units = Counter(each.unit for each in result.operators if each.unit is not None)
        where = ", ".join(f"{count} on {unit}" for unit, count in units.items())
        shown = f"{len(result.operators)}" + (f": {where}" if where else "")
        lines.append(labeled("operators", shown))
    if result.settings:
        shown = "; ".join(f"{name} {value}".rstrip() for name, value in result.settings.items())
        lines.append(labeled("settings", shown))
    stated = [name for name in entry.stated.__struct_fields__ if getattr(entry.stated, name)]
    if stated:
        names = ", ".join(name.replace("_", " ") for name in stated)
        who = "by the user at import, not by the file" if entry.run is None else "by latbench"
        lines.append(labeled("stated", f"{who}: {names}"))
    missing = unknown_facts(entry)
    if missing and entry.run is not None:
        lines.append(labeled("unknown", ", ".join(missing)))
    elif missing:
        options = " ".join(f"--{name} …" for name in missing)
        lines.append(labeled("unknown", f"import again with {options}"))
    lines += [labeled("note", note) for note in result.notes]
    lines.append(labeled("evidence", NO_EVIDENCE))
    if entry.date is not None:
        lines.append(labeled("taken", entry.date.replace("T", " ")))
    lines += _run_lines(entry)
    if entry.run is None:
        source = f"{entry.file} ({result.form} of {entry.tool}), sha256 {entry.sha256[:12]}"
        lines.append(labeled("source", f"{source}, imported {moment(entry.created_unix_ns)}"))
    where = f" in {registry}" if registry else ""
    lines.append(labeled("result", f"{entry.id}{where}"))
    return lines


def _failure_lines(entry: ReportedResult) -> Iterator[str]:
    if entry.failure is None:
        return
    yield labeled("failed", f"{entry.failure.kind}: {entry.failure.message}")
    if entry.failure.hint:
        yield labeled("hint", entry.failure.hint)


def _run_lines(entry: ReportedResult) -> Iterator[str]:
    """How latbench ran the tool, if it did."""
    run = entry.run
    if run is None:
        return
    variables = [f"{name}={value}" for name, value in run.variables.items()]
    yield labeled("command", shlex.join([*variables, *run.command]))
    digest = (run.program_sha256 or "")[:12] or "unknown"
    took = f"in {time(run.wall_ns)}, with {run.artifact.format} {run.artifact.sha256[:12]}"
    yield labeled("run", f"by latbench {moment(run.started_unix_ns)}, {took}; program {digest}")
    yield labeled("device", _device(run))
    if not run.reserved:
        yield labeled("note", "the device could not be reserved: others may have measured there")


def _device(run: ToolRun) -> str:
    machine = run.machine
    facts = [run.device.name]
    if machine is None:
        facts.append("nothing is known about its state: no worker is installed there")
    else:
        facts += [each for each in (machine.cpu_model, machine.os) if each is not None]
        facts += ["EMULATED: its latencies mean nothing"] if machine.emulated else []
    return ", ".join(facts)


def _head(entry: ReportedResult) -> str:
    latency = reported_latency(entry.result)
    number = "no latency" if entry.failure is None else "it failed"
    if latency is not None:
        number = f"{reported_time(latency.value_ns)} ({latency.statistic})"
    facts: list[str | None] = [entry.model, entry.backend, entry.precision]
    if entry.stated.resolution is not None:
        facts.append(shape_text(entry.stated.resolution))
    if entry.batch is not None:
        facts.append(f"batch {entry.batch}")
    if entry.threads is not None:
        facts.append(f"{entry.threads} thread{'' if entry.threads == 1 else 's'}")
    facts.append(entry.device)
    known = " · ".join(each for each in facts if each is not None)
    return f"REPORTED by {entry.tool}, not measured by latbench: {number}  {known}".rstrip()


def _numbers(entry: ReportedResult) -> Iterator[str]:
    result = entry.result
    for quantity, statistics in result.statistics_ns.items():
        text = ", ".join(f"{name} {reported_time(ns)}" for name, ns in statistics.items())
        yield labeled(quantity, text)
    for quantity, times in result.times_ns.items():
        label = quantity if quantity not in result.statistics_ns else "times"
        ends = f"{reported_time(min(times))} to {reported_time(max(times))}"
        yield labeled(label, f"{len(times)} times that the tool took, {ends}")
    if result.once_ns:
        shown = ", ".join(f"{name} {reported_time(ns)}" for name, ns in result.once_ns.items())
        yield labeled("once", shown)
    if result.counts:
        shown = ", ".join(f"{count} {name}" for name, count in result.counts.items())
        yield labeled("counts", shown)
    if result.throughput_milli:
        rates = result.throughput_milli.items()
        yield labeled("throughput", ", ".join(f"{rate / 1000:.5g} {unit}" for unit, rate in rates))
    if result.memory_bytes:
        shown = ", ".join(f"{name} {size(count)}" for name, count in result.memory_bytes.items())
        yield labeled("memory", shown)
    if result.operators and LATENCY not in {*result.statistics_ns, *result.times_ns}:
        timed = [each.time_ns for each in result.operators if each.time_ns is not None]
        yield labeled("layers", f"{len(timed)} with times, {reported_time(sum(timed))} together")
