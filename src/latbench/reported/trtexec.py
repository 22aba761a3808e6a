"""``trtexec`` of TensorRT: its log, ``--exportTimes`` and ``--exportProfile``."""

from __future__ import annotations

import re
from typing import Any

from latbench.errors import UsageError
from latbench.reported.numbers import NUMERAL, TO_NS, integer_of
from latbench.schema.reported import LATENCY, ReportedOperator, ToolResult

_TOOL = "trtexec"
_STATUS = re.compile(r"&&&& (RUNNING|PASSED|FAILED) TensorRT\.trtexec(?: \[TensorRT v([\d.]+)\])?")
_TITLE = "=== Performance summary ==="
_QUANTITIES = {
    "Latency": LATENCY,
    "End-to-End Host Latency": "end to end",
    "Enqueue Time": "enqueue",
    "H2D Latency": "host to device",
    "GPU Compute Time": "gpu compute",
    "D2H Latency": "device to host",
}
_LINE = re.compile(rf"(?:^|\] )({'|'.join(_QUANTITIES)}): (min = .*)$", re.MULTILINE)
_STATISTIC = re.compile(rf"(\w+)(?:\(({NUMERAL})%\))? = ({NUMERAL}) (\w+)")
_TIMES = {"latencyMs": LATENCY, "computeMs": "gpu compute", "endToEndMs": "end to end"}
"""Field of `--exportTimes` -> quantity."""
WITH_WARMUP = "the times begin with the tool's warm-up: trtexec exports all of them"
_SUM = "times by layer without the time of a whole inference"


def is_trtexec(text: str | None, tree: object, content: bytes) -> bool:
    """Whether it looks like an output of the tool."""
    if isinstance(tree, list) and tree:
        return any(
            isinstance(each, dict) and {"latencyMs", "averageMs"} & each.keys() for each in tree
        )
    return text is not None and (bool(_STATUS.search(text)) or _TITLE in text)


def read_trtexec(text: str | None, tree: object, content: bytes) -> ToolResult:
    """The result in a log or an exported JSON file. Raise :class:`UsageError`."""
    if isinstance(tree, list):
        if any(isinstance(each, dict) and "latencyMs" in each for each in tree):
            return _times(tree)
        return _profile(tree)
    return _log(text or "")


def _log(text: str) -> ToolResult:
    summaries = text.count(_TITLE)
    statuses = _STATUS.findall(text)
    if any(status == "FAILED" for status, _ in statuses):
        raise UsageError("trtexec failed: its log ends with FAILED and holds no result to import")
    if summaries > 1 or sum(status == "RUNNING" for status, _ in statuses) > 1:
        raise UsageError(
            f"the log holds {max(summaries, 2)} results of trtexec",
            hint="give each run's log as a file of its own",
        )
    if not summaries:
        raise UsageError(
            "the log of trtexec has no performance summary: it was cut, or the tool built an "
            "engine only",
            hint=f"give the whole log, with `{_TITLE}`",
        )
    summary = text[text.index(_TITLE) :]
    statistics = {
        _QUANTITIES[name]: _statistics(name, line) for name, line in _LINE.findall(summary)
    }
    if LATENCY not in statistics:
        raise UsageError(
            "the performance summary of trtexec has no line `Latency: min = …`",
            hint="it was cut, or it is of TensorRT 7 or older, whose summary is not read",
        )
    command = _found(r"# (\S*trtexec .*)$", text) or ""
    version = next((version for _, version in statuses if version), None)
    precisions = _found(r"\] Precision: (\S+)", text) or ""
    rate = _found(rf"Throughput: ({NUMERAL}) qps", summary)
    return ToolResult(
        tool=_TOOL,
        tool_version=_version(version) or _found(r"TensorRT version: ([\d.]+)", text),
        form="text",
        backend="tensorrt",
        model_file=_found(r"--(?:onnx|loadEngine|uff|model)=(\S+)", command)
        or _found(r"\] Model: (\S+)$", text)
        or _found(r"\] Load engine: (\S+)$", text),
        device_name=_found(r"Selected Device: (.+?)\s*$", text),
        precision=None if "+" in precisions else precisions.lower() or None,
        batch=_batch(text),
        date=_date(text),
        statistics_ns=statistics,
        once_ns=_once(text),
        counts=_counts(text),
        throughput_milli={}
        if rate is None
        else {"inferences/s": integer_of(rate, 1000, what="qps")},
        settings={
            **({"command": command} if command else {}),
            **({"allowed precisions": precisions} if "+" in precisions else {}),
        },
    )


def _found(pattern: str, text: str) -> str | None:
    match = re.search(pattern, text, re.MULTILINE)
    return match[1] if match else None


def _statistics(quantity: str, line: str) -> dict[str, int]:
    found = {}
    for name, percent, value, unit in _STATISTIC.findall(line):
        if unit not in TO_NS:
            raise UsageError(f"{quantity} of trtexec has the unknown unit {unit!r}")
        label = f"p{percent}" if percent else name
        found[label] = integer_of(value, TO_NS[unit], what=f"{quantity} {label}")
    return found


def _version(text: str | None) -> str | None:
    """``8601`` and ``100300`` stand for 8.6.1 and 10.3.0."""
    if text is None or not text.isdecimal():
        return text
    number = integer_of(text, what="version")
    step = 100 if number >= 10_000 else 10
    if step == 10:
        return f"{number // 1000}.{number // 100 % 10}.{number % 100}"
    return f"{number // 10_000}.{number // 100 % 100}.{number % 100}"


def _batch(text: str) -> int | None:
    found = _found(r"\] Batch: (\d+)\s*$", text)
    return None if found is None else integer_of(found, what="batch")


def _date(text: str) -> str | None:
    match = re.search(r"^\[(\d\d)/(\d\d)/(\d{4})-(\d\d:\d\d:\d\d)\]", text, re.MULTILINE)
    return f"{match[3]}-{match[1]}-{match[2]}T{match[4]}" if match else None


def _once(text: str) -> dict[str, int]:
    found = {}
    for name, pattern in (
        ("compile", rf"Engine built in ({NUMERAL}) sec"),
        ("load", rf"Engine (?:loaded|deserialized) in ({NUMERAL}) sec"),
    ):
        if (value := _found(pattern, text)) is not None:
            found[name] = integer_of(value, 10**9, what=name)
    return found


def _counts(text: str) -> dict[str, int]:
    found = {}
    for name, pattern in (
        ("runs", r"Timing trace has (\d+) queries"),
        ("warm-up runs", r"Warmup completed (\d+) queries"),
        ("parallel requests", r"\] Streams: (\d+)\s*$"),
    ):
        if (value := _found(pattern, text)) is not None:
            found[name] = integer_of(value, what=name)
    return found


def _times(entries: list[Any]) -> ToolResult:
    if not all(isinstance(each, dict) and "latencyMs" in each for each in entries):
        raise UsageError("an entry of the exported times of trtexec has no latencyMs")
    return ToolResult(
        tool=_TOOL,
        form="JSON of --exportTimes",
        backend="tensorrt",
        times_ns={
            quantity: tuple(integer_of(each[field], 10**6, what=field) for each in entries)
            for field, quantity in _TIMES.items()
            if all(field in each for each in entries)
        },
        counts={"runs with warm-up": len(entries)},
        notes=(WITH_WARMUP,),
    )


def _profile(entries: list[Any]) -> ToolResult:
    layers = [each for each in entries if isinstance(each, dict) and "averageMs" in each]
    runs = next(
        (each["count"] for each in entries if isinstance(each, dict) and "count" in each), None
    )
    return ToolResult(
        tool=_TOOL,
        form="JSON of --exportProfile",
        backend="tensorrt",
        counts={} if runs is None else {"runs": integer_of(runs, what="count")},
        operators=tuple(
            ReportedOperator(
                name=str(each.get("name", "")),
                time_ns=integer_of(each["averageMs"], 10**6, what="averageMs"),
            )
            for each in layers
        ),
        notes=(_SUM,),
    )
