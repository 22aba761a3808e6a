"""``benchmark_app`` of OpenVINO, in Python and C++: its text, and its reports as CSV and JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from latbench.errors import UsageError
from latbench.reported.numbers import NUMERAL, TO_NS, integer_of, integers_of
from latbench.schema.reported import LATENCY, ToolResult

_TOOL = "benchmark_app"
_STEP = "[Step 1/11]"
_REPORT = "Execution results"
COUNTERS = "layerName;execStatus"
LATENCIES = {
    "Median latency (ms)": "median",
    "latency (ms)": "median",
    "avg latency": "mean",
    "Average latency (ms)": "mean",
    "latency_avg": "mean",
    "min latency": "min",
    "Min latency (ms)": "min",
    "latency_min": "min",
    "max latency": "max",
    "Max latency (ms)": "max",
    "latency_max": "max",
}
"""Key in the reports of either program -> statistic."""
_ONCE = {
    "read model": ("read model time (ms)", "read network time (ms)", "read_model_time"),
    "compile": (
        *("compile model time (ms)", "load network time (ms)", "load_model_time"),
        *("import model time (ms)", "import_model_time"),
    ),
    "first inference": ("first inference time (ms)", "first_inference_time"),
}
_LINE = r"(?m)^(?:[ \t]*\[ INFO \])?[ \t]*"
IN_TEXT = {
    "median": rf"{_LINE}(?:Median|Latency):",
    "mean": rf"{_LINE}(?:Average|Avg|AVG):",
    "min": rf"{_LINE}(?:Min|MIN):",
    "max": rf"{_LINE}(?:Max|MAX):",
}
"""Statistic -> what is before its value in the text. Until 2021 there was one line with the
median, ``Latency:    9.44 ms``."""
ONCE_IN_TEXT = {
    "read model": "Read (?:model|network) took",
    "compile": "(?:Compile|Load|Import) (?:model|network) took",
    "first inference": "First inference took",
}
_GROUPS = ("Group Latencies", "group_latencies")


def is_benchmark_app(text: str | None, tree: object, content: bytes) -> bool:
    """Whether it looks like an output of the tool."""
    if isinstance(tree, dict):
        return "execution_results" in tree or "avg_performance" in tree
    return text is not None and any(each in text for each in (_STEP, f"{_REPORT}\n", COUNTERS))


def read_benchmark_app(text: str | None, tree: object, content: bytes) -> ToolResult:
    """The result in a text or a report. Raise :class:`UsageError`."""
    if isinstance(tree, dict):
        if "execution_results" not in tree:
            raise _counters()
        return _json(tree)
    text = text or ""
    if text.startswith(COUNTERS):
        raise _counters()
    return _text(text) if _STEP in text or "[ INFO ]" in text else _csv(text)


def _counters() -> UsageError:
    return UsageError(
        "the file holds times by layer of benchmark_app, without the latency",
        hint="give benchmark_report.csv or benchmark_report.json of the same folder",
    )


def _csv(text: str) -> ToolResult:
    if text.count(f"{_REPORT}\n") > 1:
        raise UsageError(
            f"the report holds {text.count(_REPORT)} results of benchmark_app",
            hint="give each report as a file of its own",
        )
    parts: dict[str, dict[str, str]] = {}
    title = ""
    for line in text.splitlines():
        key, separator, value = line.partition(";")
        if separator:
            parts.setdefault(title, {})[key] = value
        elif line.strip():
            title = line.strip()
    return _report(
        "CSV",
        command=parts.get("Command line parameters", {}),
        setup=parts.get("Configuration setup", {}),
        results=parts.get(_REPORT, {}),
        groups=_GROUPS[0] in parts,
    )


def _json(tree: dict[str, Any]) -> ToolResult:
    def part(name: str) -> dict[str, Any]:
        found = tree.get(name) or {}
        if not isinstance(found, dict):
            raise UsageError(f"{name} of the report of benchmark_app is not an object")
        return found

    results = part("execution_results")
    return _report(
        "JSON",
        command=part("cmd_options"),
        setup=part("configuration_setup"),
        results=results,
        groups=_GROUPS[1] in results,
    )


def _report(
    form: str,
    *,
    command: Mapping[str, Any],
    setup: Mapping[str, Any],
    results: Mapping[str, Any],
    groups: bool,
) -> ToolResult:
    if "error" in results:
        raise UsageError(f"benchmark_app failed: {str(results['error'])[:200]}")
    if groups:
        raise UsageError(
            "the report holds a latency for each of several input shapes",
            hint="run benchmark_app for one shape",
        )
    latency = _latencies(results)
    if not latency:
        raise UsageError(
            "the report of benchmark_app has no latency: it was cut, or its device does not "
            "report one (MULTI)",
            hint="give the whole report, with `Execution results`",
        )
    once = {
        name: next((results[k] for k in keys if k in results), None) for name, keys in _ONCE.items()
    }
    runs = results.get("total number of iterations", results.get("iterations_num"))
    requests = setup.get("number of parallel infer requests", setup.get("nireq"))
    batch = setup.get("batch size", setup.get("batch_size"))
    device = setup.get("target device", setup.get("target_device"))
    threads = next((str(command[k]) for k in ("-nthreads", "nthreads") if k in command), None)
    return ToolResult(
        tool=_TOOL,
        form=form,
        backend="openvino",
        model_file=next((str(command[k]) for k in ("-m", "m") if command.get(k)), None),
        threads=_count(threads),
        batch=None if batch is None else integer_of(batch, what="batch size"),
        statistics_ns={LATENCY: latency},
        once_ns=integers_of(once, 10**6),
        counts=integers_of({"runs": runs, "parallel requests": requests}),
        throughput_milli=integers_of({"inferences/s": results.get("throughput")}, 1000),
        settings={
            **({} if device is None else {"target device": str(device)}),
            **{f"option {key.lstrip('-')}": str(value) for key, value in command.items()},
        },
    )


def _latencies(results: Mapping[str, Any]) -> dict[str, int]:
    found = {name: results[key] for key, name in LATENCIES.items() if key in results}
    boundary = results.get("percentile_boundary", results.get("Percentile boundary", 50))
    if "latency_median" in results:
        at = integer_of(boundary, what="percentile boundary")
        found["median" if at == 50 else f"p{at}"] = results["latency_median"]
    for key, value in results.items():
        if match := re.fullmatch(r"latency \((\d+) percentile\) \(ms\)", key):
            found[f"p{match[1]}"] = value
    return integers_of(found, 10**6)


def _count(text: str | None) -> int | None:
    """A number of at least 1; the tool writes 0 where it chooses itself."""
    known = text is not None and text.isdecimal()
    return integer_of(text, what="a count") or None if known else None


def _text(text: str) -> ToolResult:
    if text.count(_STEP) > 1:
        raise UsageError(
            f"the text holds {text.count(_STEP)} results of benchmark_app",
            hint="give each run's text as a file of its own",
        )
    if "Latency for each data shape group" in text:
        raise UsageError(
            "the text holds a latency for each of several input shapes",
            hint="run benchmark_app for one shape",
        )

    def found(pattern: str) -> str | None:
        match = re.search(pattern, text)
        return match[1].strip() if match else None

    def timed(lines: Mapping[str, str]) -> dict[str, int]:
        """Name -> ns, of the lines that are there; the tool writes short times in us."""
        matches = {
            name: re.search(rf"{line} *({NUMERAL}) (ns|us|ms|s)\b", text)
            for name, line in lines.items()
        }
        return {
            name: integer_of(match[1], TO_NS[match[2]], what=name)
            for name, match in matches.items()
            if match is not None
        }

    values = timed(IN_TEXT)
    for percent in re.findall(rf"{_LINE}(?:Latency \()?(\d+) percentile\)?: ", text):
        values |= timed({f"p{percent}": rf"{_LINE}(?:Latency \()?{percent} percentile\)?:"})
    if not values:
        error = found(r"\[ ERROR \] (.+)")
        raise UsageError(
            f"benchmark_app failed: {error[:200]}"
            if error
            else "the text of benchmark_app has no latency: it was cut, or its device does not "
            "report one (MULTI)",
            hint=None if error else "give the whole text, up to `Throughput`",
        )
    threads = found(r"INFERENCE_NUM_THREADS: (\d+)")
    devices = found(r"Execution Devices: ?(.+)") or found(r"EXECUTION_DEVICES: ?(.+)")
    settings = {
        name.lower(): value
        for name in (
            *("NUM_STREAMS", "PERFORMANCE_HINT", "EXECUTION_MODE_HINT"),
            "INFERENCE_PRECISION_HINT",  # of the arithmetic, not of the file
        )
        if (value := found(rf"\b{name}: (.+)"))
    }
    return ToolResult(
        tool=_TOOL,
        tool_version=found(r"Build ?\.+ ([\w.]+)"),
        form="text",
        backend="openvino",
        threads=_count(threads),
        batch=_count(found(r"(?:Model|Network) batch size: (\d+)")),
        statistics_ns={LATENCY: values},
        once_ns=timed(ONCE_IN_TEXT),
        counts=integers_of(
            {
                "runs": found(r"Count: +(\d+) iterations"),
                "parallel requests": found(r"(\d+) inference requests"),
            }
        ),
        throughput_milli=integers_of(
            {"inferences/s": found(rf"Throughput: +({NUMERAL}) FPS")}, 1000
        ),
        memory_bytes=integers_of(
            {"increase by compiling": found(r"Compile model ram used (\d+) KB")}, 1024
        ),
        settings={**({} if devices is None else {"execution devices": devices}), **settings},
    )
