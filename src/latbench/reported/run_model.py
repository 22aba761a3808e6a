"""``run_model`` of LiteRT: four lines of microseconds, without a warm-up."""

from __future__ import annotations

import re

from latbench.errors import UsageError
from latbench.reported.numbers import integer_of
from latbench.schema.reported import LATENCY, ToolResult

_TOOL = "run_model"
_MEAN = re.compile(r"All runs took average (\d+) microseconds")
_OTHERS = {
    "min": re.compile(r"Fastest run took (\d+) microseconds"),
    "max": re.compile(r"Slowest run took (\d+) microseconds"),
}
_FIRST = re.compile(r"First run took (\d+) microseconds")
_RUNS = re.compile(r"Run model for (\d+) times")
NO_WARMUP = "the tool has no warm-up: its statistics include the first run"


def is_run_model(text: str | None, tree: object, content: bytes) -> bool:
    """Whether it looks like an output of the tool."""
    return text is not None and bool(_MEAN.search(text) or _RUNS.search(text))


def read_run_model(text: str | None, tree: object, content: bytes) -> ToolResult:
    """The result in a text. Raise :class:`UsageError`."""
    text = text or ""
    means = _MEAN.findall(text)
    if len(means) != 1:
        raise UsageError(
            f"the text holds {len(means)} results of run_model"
            if means
            else "the text of run_model has no average: it was cut, or the tool failed",
            hint="give the whole text of one run, with `All runs took average`",
        )
    found = {name: pattern.search(text) for name, pattern in _OTHERS.items()}
    first, runs = _FIRST.search(text), _RUNS.search(text)
    model = re.search(r"\] Model: (\S.*)", text)
    signature = re.search(r"Signature index: (\d+)", text)
    return ToolResult(
        tool=_TOOL,
        form="text",
        backend="tflite",
        model_file=model[1].strip() if model else None,
        statistics_ns={
            LATENCY: {
                "mean": integer_of(means[0], 1000, what="average"),
                **{
                    name: integer_of(match[1], 1000, what=name)
                    for name, match in found.items()
                    if match is not None
                },
            }
        },
        once_ns={"first inference": integer_of(first[1], 1000, what="first run")} if first else {},
        counts={"runs": integer_of(runs[1], what="runs")} if runs else {},
        settings={"signature index": signature[1]} if signature else {},
        notes=(NO_WARMUP,),
    )
