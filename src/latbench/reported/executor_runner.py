"""``executor_runner`` of ExecuTorch, and Qualcomm's ``qnn_executor_runner``: their logs."""

from __future__ import annotations

import re

from latbench.errors import UsageError
from latbench.reported.numbers import NUMERAL, integer_of
from latbench.reported.run_model import NO_WARMUP
from latbench.schema.reported import LATENCY, ToolResult

_TOOL = "executor_runner"
QNN_TOOL = "qnn_executor_runner"
_DONE = "Model executed successfully"
_TOTAL = re.compile(rf"{_DONE} (\d+) time\(s\) in ({NUMERAL}) ms")
_INTERVAL = re.compile(rf"(\d+) inference took ({NUMERAL}) ms, avg")
_SINGLE = re.compile(rf"Iteration (\d+) of (\d+): ({NUMERAL}) ms")
_FAILED = re.compile(r"((?:Loading|Execution) of method \S+ failed with status \S+)")
_WARMUP_UNKNOWN = "the log does not say whether the tool ran the model before it timed"


def is_executor_runner(text: str | None, tree: object, content: bytes) -> bool:
    """Whether it looks like an output of the tool."""
    return text is not None and bool(
        re.search(r"executor_runner\.cpp:\d+\]", text)
        or _TOTAL.search(text)
        or _INTERVAL.search(text)
    )


def read_executor_runner(text: str | None, tree: object, content: bytes) -> ToolResult:
    """The result in a log. Raise :class:`UsageError`."""
    text = text or ""
    if failed := _FAILED.search(text):
        raise UsageError(f"executor_runner failed: {failed[1]}")
    totals, intervals = _TOTAL.findall(text), _INTERVAL.findall(text)
    if len(totals) + len(intervals) > 1:
        raise UsageError(
            f"the log holds {len(totals) + len(intervals)} results of executor_runner",
            hint="give each run's log as a file of its own",
        )
    if not intervals and not totals:
        done = _DONE in text
        raise UsageError(
            "the log of executor_runner does not say how long the inferences took"
            if done
            else "the log of executor_runner ends before the model was executed",
            hint="versions from 2024 on write `Model executed successfully N time(s) in … ms`"
            if done
            else "give the whole log",
        )
    runs, total = (intervals or totals)[0][:2]
    count = integer_of(runs, what="runs")
    if not count:
        raise UsageError("the log of executor_runner holds no inference: it says 0 times")
    average = round(integer_of(total, 10**6, what="time") / count)
    times = _times(text, count)
    threads = re.search(r"Resetting threadpool (?:with|to) num threads = (\d+)", text)
    model = re.search(r"Model file (\S+) is loaded", text)
    method = re.search(r"Using method (\w+)", text)
    loaded = re.search(rf"Model loaded in ({NUMERAL}) ms", text)
    once = {"load": integer_of(loaded[1], 10**6, what="load")} if loaded else {}
    return ToolResult(
        tool=QNN_TOOL if intervals else _TOOL,
        form="text",
        backend="executorch",
        model_file=model[1] if model else None,
        threads=integer_of(threads[1], what="threads") or None if threads else None,
        statistics_ns={LATENCY: {"mean": average}},
        times_ns={LATENCY: times} if times else {},
        once_ns={**once, **({"first inference": times[0]} if times else {})},
        counts={"runs": count},
        settings={"method": method[1]} if method else {},
        notes=(_WARMUP_UNKNOWN if intervals else NO_WARMUP,),
    )


def _times(text: str, count: int) -> tuple[int, ...]:
    """The time of each execution. Raise :class:`UsageError` if some are missing."""
    singles = _SINGLE.findall(text)
    if singles and [number for number, _, _ in singles] != [
        str(number + 1) for number in range(min(count, len(singles) + 1))
    ]:
        raise UsageError(
            f"the log of executor_runner has {len(singles)} iterations of {count}",
            hint="give the whole log",
        )
    return tuple(integer_of(ms, 10**6, what="iteration") for _, _, ms in singles)
