"""``benchmark_model`` of TFLite and LiteRT: its log, its protobuf result, ``litert-benchmark``."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Any

from latbench.errors import UsageError
from latbench.reported.numbers import NUMERAL, integer_of, integers_of
from latbench.schema.reported import LATENCY, ToolResult

_TOOL = "benchmark_model"
LITERT = "litert-benchmark"
"""The program of the package ai-edge-litert."""
_SUMMARY = re.compile(rf"nference timings in us: (.*{NUMERAL})")
"""The line of all versions; the oldest ones begin it with `Average inference`."""
LITERT_TOOL = "LiteRT benchmark_model"
"""The program in C++ that LiteRT's own interface has."""
_BLOCK = re.compile(r"^.*BENCHMARK RESULTS(?P<native> =+)?\s*$", re.MULTILINE)
"""Only the program in C++ has the rule on the same line."""
BLOCK_LINE = re.compile(
    rf"([A-Z][\w ]{{1,30}}(?: \(\w{{1,9}}\))?): +({NUMERAL})"
    r"(?: (ms|MB/s)(?: \((\d+) runs\))?|[ \t]*\n)"
)
COUNT_LINE = re.compile(rf"count=(\d+) (.*(?:curr|avg)={NUMERAL}.*)")
_PARAMETER = re.compile(r"([A-Z#][\w #./()-]{1,60}): \[(.*)\]")
IN_SUMMARY = {
    "Init": ("once", "load"),
    "First inference": ("once", "first inference"),
    "Warmup (avg)": ("warm-up", "mean"),
    "Warmup": ("warm-up", "mean"),
    "Inference (avg)": (LATENCY, "mean"),
    "Inference": (LATENCY, "mean"),
    "no stats": (LATENCY, "mean"),
}
IN_COUNT = {
    **{"min": "min", "max": "max", "avg": "mean", "std": "std"},
    **{"p5": "p5", "median": "median", "p95": "p95"},
}
IN_BLOCK = {
    "Model initialization": ("once", "load"),
    "Warmup (first)": ("once", "first inference"),
    "Warmup (avg)": ("warm-up", "mean"),
    "Inference (avg)": (LATENCY, "mean"),
    "Inference (min)": (LATENCY, "min"),
    "Inference (max)": (LATENCY, "max"),
    "Inference (median)": (LATENCY, "median"),
    "Inference (std)": (LATENCY, "std"),
    "Inference (p5)": (LATENCY, "p5"),
    "Inference (p95)": (LATENCY, "p95"),
}
"""Label of the block of LiteRT -> quantity and statistic; the log and the JSON have the same."""
IN_JSON = {
    "init_ms": ("once", "load"),
    "warmup_first_ms": ("once", "first inference"),
    "warmup_avg_ms": ("warm-up", "mean"),
    **{f"{name}_ms": (LATENCY, name) for name in ("min", "max", "median", "std", "p5", "p95")},
    "avg_ms": (LATENCY, "mean"),
}
IN_PROTO = (
    *((LATENCY, name) for name in ("mean", "min", "max", "std", "median", "p5", "p95")),
    *(("once", "load"), ("once", "first inference"), ("warm-up", "mean")),
)
"""Fields 1 to 10 of the message LatencyMetrics."""


def is_benchmark_model(text: str | None, tree: object, content: bytes) -> bool:
    """Whether it looks like an output of the tool."""
    if text is None:
        return _is_message(content)
    if isinstance(tree, dict):
        return isinstance(tree.get("latency"), dict) and "fully_accelerated" in tree
    return bool(
        _SUMMARY.search(text)
        or _BLOCK.search(text)
        or "Log parameter values verbosely" in text
        or "Min num runs: [" in text
    )


def read_benchmark_model(text: str | None, tree: object, content: bytes) -> ToolResult:
    """The result in a log, a JSON file or a protobuf message. Raise :class:`UsageError`."""
    if text is None:
        return _message(content)
    if isinstance(tree, dict):
        return _json(tree)
    return _log(text)


class _Found:
    """Values by quantity, as the outputs of the tool name them."""

    def __init__(self) -> None:
        self.statistics: dict[str, dict[str, int]] = {}
        self.once: dict[str, int] = {}

    def add(self, place: tuple[str, str], value: object, factor: int) -> None:
        quantity, name = place
        ns = integer_of(value, factor, what=f"{quantity} {name}")
        if quantity == "once":
            self.once[name] = ns
        else:
            self.statistics.setdefault(quantity, {})[name] = ns


def _log(text: str) -> ToolResult:
    summaries, blocks = list(_SUMMARY.finditer(text)), list(_BLOCK.finditer(text))
    if not summaries and not blocks:
        raise UsageError(
            "the log of benchmark_model has no line with its timings: it was cut, or the tool "
            "failed",
            hint="give the whole log, up to `Inference timings in us: …`",
        )
    if max(len(summaries), len(blocks)) > 1:
        raise UsageError(
            f"the log holds {max(len(summaries), len(blocks))} results of benchmark_model",
            hint="give each run's log as a file of its own",
        )
    found, counts, throughput = _Found(), dict[str, int](), dict[str, int]()
    for block in blocks:
        _read_block(text[block.end() :], found, counts, throughput)
        if not summaries:
            # The lines before it have the same values in microseconds, not rounded.
            _read_counts(text[: block.start()], found, counts)
    for summary in summaries:
        _read_summary(text, summary, found)
        # Lines after the summary count nodes and operators of a profile.
        _read_counts(text[: summary.start()], found, counts)
    if "mean" not in found.statistics.get(LATENCY, {}):
        raise UsageError(
            "the timings of benchmark_model have no mean of the inferences",
            hint="the log was cut, or this variant of it is unknown",
        )
    parameters = {name: value for name, value in _PARAMETER.findall(text) if value}
    threads = parameters.get("Num threads") or _said("Num threads", text) or ""
    at = re.search(r"^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d) INFO", text, re.MULTILINE)
    graph = parameters.get("Graph") or next(iter(re.findall(r"Loaded model (\S+)", text)), None)
    return ToolResult(
        tool=_TOOL if summaries else LITERT_TOOL if blocks[0]["native"] else LITERT,
        form="text",
        backend="tflite",
        model_file=graph or _said("Model", text),
        threads=integer_of(threads, what="threads") or None if threads.isdecimal() else None,
        date=f"{at[1]}T{at[2]}" if at else None,
        statistics_ns=found.statistics,
        once_ns=found.once,
        counts=counts,
        throughput_milli=throughput,
        memory_bytes=_memory(text),
        settings=_settings(text, parameters),
    )


def _said(label: str, text: str) -> str | None:
    """A parameter in the log of `litert-benchmark`."""
    match = re.search(rf"benchmark_litert_model: {label}: +(.+)", text)
    return match[1].strip() if match else None


def _read_block(
    text: str, found: _Found, counts: dict[str, int], throughput: dict[str, int]
) -> None:
    for label, value, unit, runs in BLOCK_LINE.findall(text):
        if unit == "MB/s":
            throughput["MB/s"] = integer_of(value, 1000, what=label)
        elif label in IN_BLOCK and (unit or label == "Inference (std)"):
            # The program in C++ writes the standard deviation without its unit, milliseconds.
            found.add(IN_BLOCK[label], value, 1_000_000)
        if runs:
            counts["runs" if label.startswith("Inference") else "warm-up runs"] = integer_of(
                runs, what="runs"
            )


def _read_summary(text: str, summary: re.Match[str], found: _Found) -> None:
    for label, value in re.findall(rf"([A-Za-z][\w ()]{{0,30}}): ({NUMERAL})", summary[1]):
        if label in IN_SUMMARY:
            found.add(IN_SUMMARY[label], value, 1000)


def _read_counts(before: str, found: _Found, counts: dict[str, int]) -> None:
    """Read the last two lines of counts: of the warm-up and of the inferences."""
    lines = COUNT_LINE.findall(before)
    for runs, values in lines[-1:]:
        counts["runs"] = integer_of(runs, what="runs")
        for name, value in re.findall(rf"(\w+)=({NUMERAL})", values):
            if name in IN_COUNT and (name != "avg" or "mean" in found.statistics.get(LATENCY, {})):
                found.add((LATENCY, IN_COUNT[name]), value, 1000)
    for runs, _ in lines[-2:-1]:
        counts["warm-up runs"] = integer_of(runs, what="runs")


def _memory(text: str) -> dict[str, int]:
    found = {}
    for label, pattern in (
        ("increase by load", r"ootprint delta from the start of the tool \(MB\): init=(?P<n>{})"),
        ("increase", r"ootprint delta from the start of the tool \(MB\): .*overall=(?P<n>{})"),
        ("increase by load", r"Peak memory footprint \(MB\): init=(?P<n>{})"),
        ("increase", r"Peak memory footprint \(MB\): .*overall=(?P<n>{})"),
        ("increase by load", r"Init footprint: +(?P<n>{}) MB"),
        ("increase", r"Overall footprint: +(?P<n>{}) MB"),
        ("peak", r"Peak memory: +(?P<n>{}) MB"),
        ("peak", r"peak memory footprint \(MB\) via periodic monitoring: (?P<n>{})"),
    ):
        if match := re.search(pattern.format(NUMERAL), text):
            # The tool divides by 1024 twice.
            found[label] = integer_of(match["n"], 2**20, what=f"memory: {label}")
    return found


def _settings(text: str, parameters: dict[str, str]) -> dict[str, str]:
    kept = {
        name.lower(): value
        for name, value in parameters.items()
        if name.startswith(
            ("Use ", "GPU ", "NNAPI ", "Allow ", "Hexagon ", "Delegate", "Signature to run")
        )
    }
    if signature := re.search(r"Signature name: +(\S.*)", text):
        kept["signature"] = signature[1].strip()
    replaced = re.findall(
        r"Replacing (\d+) out of (\d+) node\(s\) with delegate \((\w+)\) node, yielding (\d+)", text
    )
    if replaced:
        kept["delegates"] = "; ".join(
            f"{name}: {taken} of {total} nodes, {parts} partitions"
            for taken, total, name, parts in replaced
        )
    if accelerators := re.search(r"Accelerators: +(.+)", text):
        kept["accelerators"] = accelerators[1].strip()
    if full := re.search(r"Fully accelerated: +(\w+)", text):
        kept["fully accelerated"] = full[1]
    return kept


def _json(tree: dict[str, Any]) -> ToolResult:
    latency = tree["latency"]
    if latency.get("avg_ms") is None:
        raise UsageError("the JSON of litert-benchmark has no latency.avg_ms")
    found = _Found()
    for key, place in IN_JSON.items():
        if latency.get(key) is not None:
            found.add(place, latency[key], 1_000_000)
    accelerators = tree.get("accelerators")
    settings = {"fully accelerated": str(tree["fully_accelerated"])}
    if isinstance(accelerators, list):
        settings["accelerators"] = ", ".join(map(str, accelerators))
    threads = tree.get("num_threads")
    return ToolResult(
        tool=LITERT,
        form="JSON",
        backend="tflite",
        model_file=str(tree["model"]) if tree.get("model") else None,
        threads=None if threads is None else integer_of(threads, what="num_threads"),
        statistics_ns=found.statistics,
        once_ns=found.once,
        counts=integers_of(
            {"runs": latency.get("num_runs"), "warm-up runs": latency.get("num_warmup_runs")}
        ),
        throughput_milli=integers_of({"MB/s": tree.get("throughput_mb_s")}, 1000),
        settings=settings,
    )


def _message(content: bytes) -> ToolResult:
    parts = dict(_fields(content))
    found = _Found()
    for number, value in _fields(_submessage(parts, 2)):
        if number <= len(IN_PROTO):
            found.add(IN_PROTO[number - 1], f"{_number(value):.9g}", 1_000_000)
    if "mean" not in found.statistics.get(LATENCY, {}):
        raise UsageError("the protobuf result of benchmark_model has no mean of the inferences")
    memory, misc = dict(_fields(_submessage(parts, 3))), dict(_fields(_submessage(parts, 4)))
    kilobytes = {"increase by load": memory.get(1), "increase": memory.get(2)}
    megabytes = {"peak": None if 3 not in memory else f"{_number(memory[3]):.9g}"}
    rates = {"MB/s": misc.get(4), "inferences/s": misc.get(5)}
    name = parts.get(1)
    return ToolResult(
        tool=_TOOL,
        form="protobuf",
        backend="tflite",
        statistics_ns=found.statistics,
        once_ns=found.once,
        counts=integers_of({"runs": misc.get(2), "warm-up runs": misc.get(3)}),
        throughput_milli={
            unit: integer_of(f"{_number(value):.9g}", 1000, what=unit)
            for unit, value in rates.items()
            if value is not None
        },
        memory_bytes={**integers_of(kilobytes, 2**10), **integers_of(megabytes, 2**20)},
        settings={"name": name.decode(errors="replace")} if isinstance(name, bytes) else {},
    )


def _is_message(content: bytes) -> bool:
    try:
        return isinstance(dict(_fields(content)).get(2), bytes)
    except UsageError:
        return False


def _submessage(parts: dict[int, Any], number: int) -> bytes:
    part = parts.get(number, b"")
    return part if isinstance(part, bytes) else b""


def _number(value: object) -> float:
    if not isinstance(value, float):
        raise UsageError("the protobuf result of benchmark_model has a field of another type")
    return value


def _fields(data: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """Number and value of each field of a protobuf message. Raise :class:`UsageError`."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while at < len(data) and shift < 64:
            byte = data[at]
            at, value, shift = at + 1, value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value
        raise UsageError("not a protobuf message, or truncated")

    while at < len(data):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
            continue
        size = {1: 8, 5: 4}.get(key & 7, -1) if key & 7 != 2 else varint()
        if size < 0 or not key >> 3 or at + size > len(data):
            raise UsageError("not a protobuf message, or truncated")
        raw, at = data[at : at + size], at + size
        if key & 7 == 2:
            yield key >> 3, raw
        else:
            yield key >> 3, struct.unpack("<f" if size == 4 else "<d", raw)[0]
