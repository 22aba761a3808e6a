"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from types import FrameType

    from latbench.bench.executor import Progress
    from latbench.schema.protocol import TimingProtocol

F = TypeVar("F", bound=Callable[..., Any])


class Resolution(click.ParamType[tuple[int, int]]):
    """``224`` or ``480x640`` (height x width)."""

    name = "pixels"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Height and width."""
        from latbench.errors import UsageError
        from latbench.schema.request_syntax import read_resolution

        try:
            return read_resolution(str(value))
        except UsageError as error:
            self.fail(error.message, param, ctx)


class KeyValue(click.ParamType[tuple[str, str | int]]):
    """``KEY=VALUE``; the value as a whole number where ``integer`` is set."""

    name = "key=value"

    def __init__(self, *, integer: bool = False) -> None:
        self._integer = integer

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str | int]:
        """Key and value."""
        key, equals, text = str(value).partition("=")
        if not key or not equals:
            self.fail(f"{value!r} is not KEY=VALUE", param, ctx)
        if not self._integer:
            return key, text
        if not text.isdecimal():
            self.fail(f"{text!r} is not a whole number", param, ctx)
        return key, int(text)


def model_options(*, required: bool = True, many: bool = False) -> Callable[[F], F]:
    """Which model, with which weights, at which input; with ``many``, several of each."""

    def add(command: F) -> F:
        for option in reversed(
            (
                click.option(
                    "--model", required=required, multiple=many, metavar="MODEL", help=MODEL_HELP
                ),
                click.option(
                    "--weights",
                    metavar="FILE",
                    help="Weights: .safetensors, or .pth read without executing anything.",
                ),
                click.option(
                    "--batch",
                    multiple=many,
                    type=click.IntRange(min=1),
                    help="Batch size (default 1).",
                ),
                click.option(
                    "--resolution",
                    multiple=many,
                    type=Resolution(),
                    help="224 or 480x640; default: the model's own.",
                ),
                click.option(
                    "--dim",
                    "dims",
                    multiple=True,
                    type=KeyValue(integer=True),
                    help="Size of a named dynamic axis of a ready file.",
                ),
                click.option(
                    "--precision",
                    multiple=many,
                    default=("fp32",) if many else "fp32",
                    show_default="fp32",
                    help="fp32, fp16, int8, int8-weights, as far as the format can.",
                ),
                click.option(
                    "--calibration",
                    metavar="FOLDER",
                    help="Images from which int8 takes its ranges; without, seeded noise.",
                ),
                click.option(
                    "--seed",
                    type=click.IntRange(min=0),
                    default=0,
                    show_default=True,
                    help="For weights, where none are given, and for inputs.",
                ),
                click.option(
                    "--fresh",
                    is_flag=True,
                    help="Export again even if the cache has the artifact.",
                ),
            )
        ):
            command = option(command)
        return command

    return add


def backend_options(*, many: bool = False) -> Callable[[F], F]:
    """On what, and with how many threads; with ``many``, several of each."""

    def add(command: F) -> F:
        for option in reversed(
            (
                click.option(
                    "--backend",
                    multiple=many,
                    default=("onnxruntime",) if many else "onnxruntime",
                    show_default="onnxruntime",
                    metavar="NAME",
                ),
                click.option("--device", default="local", show_default=True, metavar="ID"),
                click.option(
                    "--threads",
                    multiple=many,
                    type=click.IntRange(min=1),
                    help="Default: the CPUs that this process may really use (affinity and quota).",
                ),
                option_option,
            )
        ):
            command = option(command)
        return command

    return add


def protocol_options(*, default: str) -> Callable[[F], F]:
    """How the number is taken: a protocol by name, and changes to it."""

    def add(command: F) -> F:
        for option in reversed(
            (
                click.option(
                    "--protocol",
                    default=default,
                    show_default=True,
                    metavar="NAME",
                    help="How the number is taken: `latbench protocols` lists them.",
                ),
                click.option(
                    "--budget",
                    "budget_s",
                    type=float,
                    metavar="SECONDS",
                    help="Begin nothing new after so long, precise enough or not.",
                ),
                click.option(
                    "--target",
                    type=float,
                    metavar="PERCENT",
                    help="Half-width of the 95 % interval at which to stop.",
                ),
                click.option(
                    "--processes", type=click.IntRange(1, 1000), help="Fresh processes, exactly."
                ),
                click.option(
                    "--warmup",
                    "warmup_calls",
                    type=click.IntRange(min=0),
                    help="Warm-up calls after the first inference, fixed.",
                ),
                click.option(
                    "--calls",
                    type=click.IntRange(min=1),
                    help="Timed calls each time it is loaded.",
                ),
                click.option("--block-calls", type=click.IntRange(min=1), help="Calls a block."),
            )
        ):
            command = option(command)
        return command

    return add


option_option = click.option(
    "--option",
    "options",
    multiple=True,
    type=KeyValue(),
    help="An option of the backend (`latbench backends NAME`); may be given several times.",
)
strict_option = click.option(
    "--strict", is_flag=True, help="Fail rather than fall back to another backend."
)
deadline_option = click.option(
    "--deadline",
    "deadline_s",
    type=float,
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="How long any one answer of the runtime may take.",
)


def resolved_protocol(
    name: str,
    *,
    budget_s: float | None,
    target: float | None,
    processes: int | None,
    warmup_calls: int | None,
    calls: int | None,
    block_calls: int | None,
) -> TimingProtocol:
    """The named protocol with the changes that were asked for; ``target`` in percent."""
    from latbench.schema.protocol_options import changed_protocol, named_protocol

    return changed_protocol(
        named_protocol(name),
        budget_s=budget_s,
        target=None if target is None else target / 100,
        processes=processes,
        warmup_calls=warmup_calls,
        calls=calls,
        block_calls=block_calls,
    )


MODEL_HELP = (
    "A name of the zoo (`latbench models`), timm:NAME, package.module:factory, "
    "path/to/file.py:factory, or a ready file (.onnx, .tflite, .mlpackage, ...)."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Only JSON on standard output.")
registry_option = click.option(
    "--registry",
    metavar="URL",
    help="SQLite file or database URL; default: LATBENCH_REGISTRY, else the user's data folder.",
)


def warn(message: str) -> None:
    """Something that the user should know, on standard error."""
    click.echo(f"latbench: {message}", err=True)


@contextmanager
def progress_bar() -> Iterator[Progress]:
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
def interrupted_once() -> Iterator[Callable[[], bool]]:
    """Ctrl-C, or SIGTERM as a CI system sends it, ends a run; a second one does not disturb that.

    Ending means to end the worker and to store what was measured, which takes a moment. What is
    yielded says whether it was asked for: what a point has left to do may end by it without ending
    the sweep.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)
    asked = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    previous = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield lambda: asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def require_one_format(format: str, *, as_json: bool) -> None:
    """Raise where `--json` and another format are asked for at once."""
    if as_json and format not in ("text", "json"):
        raise click.UsageError(f"--json and --format {format} contradict each other")
