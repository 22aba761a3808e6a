"""``onnxruntime_perf_test`` of ONNX Runtime: its text, and the file of results that it writes."""

from __future__ import annotations

import re

from latbench.errors import UsageError
from latbench.reported.numbers import NUMERAL, TO_NS, integer_of
from latbench.schema.reported import LATENCY, ToolResult

_TOOL = "onnxruntime_perf_test"
_AVERAGE = re.compile(rf"Average(?: inference)? time cost(?: total)?: ?({NUMERAL}) ?(ms|s|us)")
_SUBMISSION = re.compile(rf"Average[^\n:]* submi[^\n:]*: ?({NUMERAL}) ?(ms|s|us)")
_STATISTIC = re.compile(rf"(Min|Max|P\d+) Latency(?: is|:) ?({NUMERAL}) ?s")
_ROW = re.compile(rf"(.*?),({NUMERAL}),(?:({NUMERAL}),)?(\d+),(\d+),(\d+)")
"""Model, seconds, since late 2025 also seconds until the outputs are there, bytes of the peak
working set, CPU usage in percent, index of the run."""
_WITH_SUBMISSION = "time cost total"
"""What versions write that know the time of the submission too."""
_OF_SUBMISSION = (
    "versions of late 2025 compute Min, Max and P50 to P999 from the time of the submission to the "
    "device, others from that of the inference; the output does not say which (on the CPU both "
    "are the same)"
)
_OLD = "Total time cost:"
"""Line of versions before 1.2, which do not mention the session."""
_NAMES = {"Min": "min", "Max": "max", "P50": "median", "P999": "p99.9"}
_DURATIONS = {"Session creation time cost": "load", "First inference time cost": "first inference"}


def is_perf_test(text: str | None, tree: object, content: bytes) -> bool:
    """Whether it looks like an output of the tool."""
    if text is None:
        return False
    told = "Session creation time cost" in text or (_OLD in text and bool(_AVERAGE.search(text)))
    return told or bool(_rows(text))


def read_perf_test(text: str | None, tree: object, content: bytes) -> ToolResult:
    """The result in a text or a file of results. Raise :class:`UsageError`."""
    text = text or ""
    rows = _rows(text)
    return _file(text, rows) if rows else _text(text)


def _rows(text: str) -> list[re.Match[str]]:
    """The rows of a file of results; none if its first line is not one."""
    lines = text.splitlines()
    if not lines or not _ROW.fullmatch(lines[0]):
        return []
    return [match for line in lines if (match := _ROW.fullmatch(line))]


def _statistics(text: str) -> dict[str, int]:
    return {
        _NAMES.get(name, name.lower()): integer_of(value, TO_NS["s"], what=f"{name} Latency")
        for name, value in _STATISTIC.findall(text)
    }


def _text(text: str) -> ToolResult:
    averages = _AVERAGE.findall(text)
    if not averages:
        raise UsageError(
            "the text of onnxruntime_perf_test has no average inference time: it was cut, or the "
            "tool failed",
            hint="give the whole text, with `Average inference time cost`",
        )
    if len(averages) > 1:
        raise UsageError(
            f"the text holds {len(averages)} results of onnxruntime_perf_test",
            hint="give each run's text as a file of its own",
        )
    ((mean, unit),) = averages
    threads = _found(r"intra_op_num_threads to (\d+)", text)
    rate = _found(rf"Number of inferences per second: ({NUMERAL})", text)
    memory = _found(r"Peak working set size: ?(\d+)", text)
    provider = _found(r"using (\w+ExecutionProvider)", text)
    once = {}
    for label, name in _DURATIONS.items():
        if match := re.search(rf"{label}: ?({NUMERAL}) ?(ms|s|us)", text):
            once[name] = integer_of(match[1], TO_NS[match[2]], what=label)
    counts = {}
    if runs := _found(r"Total (?:inference requests|iterations): ?(\d+)", text):
        counts["runs"] = integer_of(runs, what="runs")
    statistics = {
        LATENCY: {"mean": integer_of(mean, TO_NS[unit], what="average"), **_statistics(text)}
    }
    submission = _SUBMISSION.search(text)
    if submission:
        sent = integer_of(submission[1], TO_NS[submission[2]], what="average of the submission")
        statistics["submission"] = {"mean": sent}
    return ToolResult(
        tool=_TOOL,
        form="text",
        backend="onnxruntime",
        threads=integer_of(threads, what="threads") or None if threads else None,
        statistics_ns=statistics,
        once_ns=once,
        counts=counts,
        throughput_milli={}
        if rate is None
        else {"inferences/s": integer_of(rate, 1000, what="rate")},
        memory_bytes={} if memory is None else {"peak": integer_of(memory, what="memory")},
        settings={} if provider is None else {"provider": provider},
        notes=(_OF_SUBMISSION,)
        if _WITH_SUBMISSION in text and len(statistics[LATENCY]) > 1
        else (),
    )


def _found(pattern: str, text: str) -> str | None:
    match = re.search(pattern, text)
    return match[1] if match else None


def _file(text: str, rows: list[re.Match[str]]) -> ToolResult:
    indices = [integer_of(row[6], what="index of the run") for row in rows]
    starts = indices.count(0)
    if starts > 1:
        raise UsageError(
            f"the file holds {starts} results of onnxruntime_perf_test, which appends to it",
            hint="split it before each row that ends in 0",
        )
    if indices != list(range(len(rows))):
        raise UsageError("the runs in the file are not numbered from 0: rows are missing")
    broken = [
        line
        for line in text.splitlines()
        if line.strip() and not _ROW.fullmatch(line) and not _STATISTIC.search(line)
    ]
    if broken:
        raise UsageError(
            f"a line of the file is not a result: {broken[0][:60]!r}", hint="the file was cut"
        )
    statistics = _statistics(text)
    columns = {LATENCY: [row[3] or row[2] for row in rows]}
    if with_total := [row[2] for row in rows if row[3]]:
        columns["submission"] = with_total
    return ToolResult(
        tool=_TOOL,
        form="file of results",
        backend="onnxruntime",
        model_file=rows[0][1] or None,
        statistics_ns={LATENCY: statistics} if statistics else {},
        times_ns={
            quantity: tuple(integer_of(each, TO_NS["s"], what="time") for each in times)
            for quantity, times in columns.items()
        },
        counts={"runs": len(rows)},
        memory_bytes={"peak": max(integer_of(row[4], what="memory") for row in rows)},
        notes=(_OF_SUBMISSION,) if with_total and statistics else (),
    )
