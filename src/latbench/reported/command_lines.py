"""The command lines of the tools that latbench runs: how each takes its model and threads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from latbench.errors import UsageError, suggest


@dataclass(frozen=True, kw_only=True)
class ToolCommand:
    """One tool. A ``{}`` in a word stands for the value."""

    reader: str
    """Name of the reader of its output."""
    format: str
    """Format of the artifact that it takes."""
    model: tuple[str, ...]
    threads: tuple[str, ...] = ()
    """Empty if it has no such option."""
    always: tuple[str, ...] = ()
    """Options without which it would measure nothing, or for minutes."""
    model_last: bool = False

    def words(self, path: str, threads: int | None, extra: Sequence[str]) -> tuple[str, ...]:
        """The words after the program. ``extra`` are the user's, after latbench's own.

        Raise :class:`UsageError` for threads if the tool has no option for them.
        """
        if threads is not None and not self.threads:
            raise UsageError(
                f"{self.reader} has no option for threads",
                hint="omit --threads, or give its own option after --",
            )
        model = tuple(each.format(path) for each in self.model)
        count = tuple(each.format(threads) for each in self.threads if threads is not None)
        own = (*count, *self.always, *extra)
        return (*own, *model) if self.model_last else (*model, *own)


TOOL_COMMANDS: Mapping[str, ToolCommand] = {
    "benchmark_model": ToolCommand(
        reader="benchmark_model",
        format="tflite",
        model=("--graph={}",),
        threads=("--num_threads={}",),
    ),
    "litert-benchmark": ToolCommand(
        reader="benchmark_model",
        format="tflite",
        model=("--model={}",),
        threads=("--num_threads={}",),
    ),
    "run_model": ToolCommand(
        reader="run_model",
        format="tflite",
        model=("--graph={}",),
        always=("--iterations=50",),
    ),
    "executor_runner": ToolCommand(
        reader="executor_runner",
        format="executorch",
        model=("--model_path={}",),
        threads=("--cpu_threads={}",),
        always=("--num_executions=50",),
    ),
    "onnxruntime_perf_test": ToolCommand(
        reader="perf_test",
        format="onnx",
        model=("{}",),
        threads=("-x", "{}"),
        # -I: inputs of its own; -s: statistics; without -t it takes ten minutes.
        always=("-I", "-s", "-t", "10"),
        model_last=True,
    ),
    "trtexec": ToolCommand(reader="trtexec", format="onnx", model=("--onnx={}",)),
    "benchmark_app": ToolCommand(
        reader="benchmark_app",
        format="onnx",
        model=("-m", "{}"),
        threads=("-nthreads", "{}"),
        # One request at a time: each takes longer beside others. With another hint it refuses
        # -nthreads.
        always=("-api", "sync", "-hint", "none", "-t", "10"),
    ),
}
"""Name as ``latbench reported run`` takes it."""


def tool_command(tool: str) -> ToolCommand:
    """The tool of that name. Raise :class:`UsageError` with the nearest names."""
    if tool not in TOOL_COMMANDS:
        known = ", ".join(TOOL_COMMANDS)
        raise UsageError(
            f"latbench does not know how to run {tool!r}",
            hint=suggest(tool, TOOL_COMMANDS, otherwise=f"it runs {known}"),
        )
    return TOOL_COMMANDS[tool]
