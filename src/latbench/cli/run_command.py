"""``latbench run``."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from latbench.cli.options import Pair, json_option, model_options, registry_option, warn

if TYPE_CHECKING:
    from types import FrameType

    from latbench.measure.execute import Progress
    from latbench.pipeline import Result


@click.command("run")
@model_options
@click.option("--backend", default="onnxruntime", show_default=True, metavar="NAME")
@click.option("--device", default="local", show_default=True, metavar="ID")
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="Default: the CPUs that this process may really use (affinity and quota).",
)
@click.option(
    "--option",
    "options",
    multiple=True,
    type=Pair(),
    help="An option of the backend (`latbench backends NAME`); may be given several times.",
)
@click.option("--processes", type=click.IntRange(min=1), help="Fresh processes (default 6).")
@click.option("--warmup", type=click.IntRange(min=1), help="Warm-up calls a process (default 20).")
@click.option("--blocks", type=click.IntRange(min=1), help="Timed blocks a process (default 10).")
@click.option("--block-calls", type=click.IntRange(min=1), help="Calls a block (default 20).")
@click.option("--strict", is_flag=True, help="Fail rather than fall back to another backend.")
@click.option(
    "--deadline",
    "deadline_s",
    type=float,
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="How long any one answer of the runtime may take.",
)
@registry_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    *,
    model: str,
    weights: str | None,
    batch: int | None,
    resolution: tuple[int, int] | None,
    dims: tuple[tuple[str, int], ...],
    precision: str,
    seed: int,
    fresh: bool,
    backend: str,
    device: str,
    threads: int | None,
    options: tuple[tuple[str, str], ...],
    processes: int | None,
    warmup: int | None,
    blocks: int | None,
    block_calls: int | None,
    strict: bool,
    deadline_s: float,
    registry: str | None,
    as_json: bool,
) -> None:
    """Measure a model and store the record."""
    import msgspec

    from latbench.core.protocols import FIXED
    from latbench.pipeline import run

    changes = {
        "processes": processes,
        "warmup_calls": warmup,
        "blocks": blocks,
        "block_calls": block_calls,
    }
    with _interrupted_once(), _progress_bar() as progress:
        result = run(
            model,
            backend=backend,
            device=device,
            weights=weights,
            batch=batch,
            resolution=resolution,
            precision=precision,
            threads=threads,
            seed=seed,
            options=dict(options),
            dims=dict(dims),
            protocol=msgspec.structs.replace(
                FIXED, **{name: value for name, value in changes.items() if value is not None}
            ),
            strict=strict,
            fresh=fresh,
            deadline_s=deadline_s,
            registry=registry,
            progress=progress,
            warn=warn,
        )
    _print(result, as_json)
    ctx.exit(0 if result.record.outcome.status == "measured" else 3)


def _print(result: Result, as_json: bool) -> None:
    if as_json:
        from latbench.report.json import record_json

        click.echo(record_json(result.record, result.summary))
        return
    from latbench.report.text import record_lines

    for line in record_lines(result.record, result.summary, result.registry):
        click.echo(line)


@contextmanager
def _progress_bar() -> Iterator[Progress]:
    """A bar on a terminal, drawn between blocks only: while they run it would take a CPU."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True, auto_refresh=False) as bar:
        task = bar.add_task("getting the artifact", total=None)
        bar.refresh()

        def advance(done: int, total: int) -> None:
            bar.update(task, description="timing", completed=done, total=total, refresh=True)

        yield advance


@contextmanager
def _interrupted_once() -> Iterator[None]:
    """Ctrl-C, or SIGTERM as a CI system sends it, ends a run; a second one does not disturb that.

    Ending means to end the worker and to store what was measured, which takes a moment.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)

    def interrupt(number: int, frame: FrameType | None) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    previous = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
