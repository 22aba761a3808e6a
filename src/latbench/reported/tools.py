"""The tools whose output can be read, and how an output finds its reader."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from latbench.errors import UsageError, listed
from latbench.reported.aihub import is_aihub, read_aihub
from latbench.reported.benchmark_app import is_benchmark_app, read_benchmark_app
from latbench.reported.benchmark_model import is_benchmark_model, read_benchmark_model
from latbench.reported.executor_runner import is_executor_runner, read_executor_runner
from latbench.reported.perf_test import is_perf_test, read_perf_test
from latbench.reported.run_model import is_run_model, read_run_model
from latbench.reported.trtexec import is_trtexec, read_trtexec
from latbench.reported.xcode import is_xcode, read_xcode
from latbench.schema.reported import ReportedResult, StatedFacts, ToolResult

AUTO = "auto"
"""Stands for the tool that the content shows."""


@dataclass(frozen=True, kw_only=True)
class OutputReader:
    """Functions of the text of a file, what it holds as JSON, and its bytes.

    The text is ``None`` if the file is not UTF-8, and so is the JSON if it is not JSON.
    """

    recognizes: Callable[[str | None, object, bytes], bool]
    read: Callable[[str | None, object, bytes], ToolResult]


READERS: Mapping[str, OutputReader] = {
    "benchmark_model": OutputReader(recognizes=is_benchmark_model, read=read_benchmark_model),
    "run_model": OutputReader(recognizes=is_run_model, read=read_run_model),
    "executor_runner": OutputReader(recognizes=is_executor_runner, read=read_executor_runner),
    "trtexec": OutputReader(recognizes=is_trtexec, read=read_trtexec),
    "perf_test": OutputReader(recognizes=is_perf_test, read=read_perf_test),
    "benchmark_app": OutputReader(recognizes=is_benchmark_app, read=read_benchmark_app),
    "xcode": OutputReader(recognizes=is_xcode, read=read_xcode),
    "aihub": OutputReader(recognizes=is_aihub, read=read_aihub),
}
"""Name as ``latbench import --from`` takes it."""


def read_output(content: bytes, tool: str) -> ToolResult:
    """What the output of ``tool`` says.

    Raise :class:`UsageError` for a file that is not its output, not complete, or holds several
    results.
    """
    text, tree = _text(content), _json(content)
    if not content.strip():
        raise UsageError("the file is empty")
    able = [name for name, each in READERS.items() if each.recognizes(text, tree, content)]
    if tool == AUTO:
        if len(able) != 1:
            raise UsageError(
                f"the file looks like the output of {listed(able) or 'none of the tools'}",
                hint=f"name the tool: --from {'|'.join(able or READERS)}",
            )
        tool = able[0]
    if tool not in able:
        raise UsageError(
            f"the file is not an output of {tool} that latbench knows",
            hint=f"it looks like the output of {listed(able)}: --from {able[0]}"
            if able
            else "it was cut, it is another file, or another version of the tool wrote it",
        )
    return READERS[tool].read(text, tree, content)


def require_agreement(result: ToolResult, stated: StatedFacts) -> None:
    """Raise :class:`UsageError` if the user states another fact than the file."""
    for name in ("backend", "precision", "threads", "batch", "tool_version", "date"):
        said, given = getattr(result, name), getattr(stated, name)
        if said is not None and given is not None and said != given:
            option = f"--{name.replace('_', '-')}"
            raise UsageError(
                f"the file says that {name.replace('_', ' ')} is {said}, and {option} says {given}",
                hint=f"omit {option}",
            )


def unknown_facts(entry: ReportedResult) -> tuple[str, ...]:
    """Facts that neither the file nor the user gives, by the names of their options."""
    names = ("model", "device", "backend", "precision", "threads", "tool_version", "date")
    return tuple(name.replace("_", "-") for name in names if getattr(entry, name) is None)


def _text(content: bytes) -> str | None:
    for encoding in ("utf-8-sig", "utf-16"):
        # PowerShell writes the output of a program as UTF-16.
        if encoding == "utf-16" and content[:2] not in (b"\xff\xfe", b"\xfe\xff"):
            continue
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        return None if "\0" in text else text.replace("\r\n", "\n")
    return None


def _json(content: bytes) -> object:
    try:
        tree: object = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return tree
