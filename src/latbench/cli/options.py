"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import functools
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from latbench.cli import completion
from latbench.cli.numerics import load_numpy
from latbench.cli.streams import shown_lines
from latbench.defaults import FALLBACK, TIMEOUT_S

if TYPE_CHECKING:
    from types import FrameType

    from latbench.schema.protocol import TimingProtocol

ENDING = ("SIGINT", "SIGTERM", "SIGHUP")
"""Signals that end a run; SIGHUP comes from a terminal that is closed."""
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


class GroupedOption(click.Option):
    """An option with the title of the section that lists it in the help."""

    def __init__(self, *args: Any, group: str, **more: Any) -> None:
        super().__init__(*args, **more)
        self.group = group


class Command(click.Command):
    """A command whose help lists its options in sections."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for each group, in the order in which the groups first occur."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            line = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if line is not None:
                title = param.group if isinstance(param, GroupedOption) else "Options"
                sections.setdefault(title, []).append(line)
        for title in sorted(sections, key="Options".__eq__):
            with formatter.section(title):
                formatter.write_dl(sections[title])


def option(*names: str, group: str, **more: Any) -> Callable[[F], F]:
    """:func:`click.option`, listed in the section ``group`` of the help."""
    return click.option(*names, cls=GroupedOption, group=group, **more)


def _apply(command: F, options: tuple[Callable[[F], F], ...]) -> F:
    for add in reversed(options):
        command = add(command)
    return command


def model_options(
    *, required: bool = True, many: bool = False, positional: bool = False
) -> Callable[[F], F]:
    """Which model, with which weights, at which input; with ``many``, several of each.

    With ``positional`` the models may be given as arguments too: ``latbench run model.onnx``.
    """
    group = "Model"

    def add(command: F) -> F:
        options = (
            option(
                "--model",
                required=required and not positional,
                multiple=many,
                metavar="MODEL",
                help=MODEL_HELP,
                shell_complete=completion.models,
                group=group,
            ),
            option(
                "--weights",
                metavar="FILE",
                type=click.Path(),
                help="Weights: a .safetensors file, a checkpoint of PyTorch, or the index of "
                "several files (*.index.json) or their folder, read as data.",
                group=group,
            ),
            option(
                "--weights-key",
                metavar="KEY",
                help="Which weights of the file, such as model_ema. [default: those that fit]",
                group=group,
            ),
            option(
                "--model-arg",
                "arguments",
                multiple=True,
                type=KeyValue(),
                help="Argument of the model's factory, such as depth=2; repeatable.",
                group=group,
            ),
            option(
                "--import",
                "imports",
                multiple=True,
                metavar="PACKAGE",
                help="Import a package of yours first, such as one that registers models with "
                "timm; repeatable.",
                group=group,
            ),
            option(
                "--precision",
                multiple=many,
                default=("fp32",) if many else "fp32",
                help="fp32, fp16, int8 or int8-weights, if the format supports it. [default: fp32]",
                group=group,
            ),
            option(
                "--calibration",
                metavar="FOLDER",
                type=click.Path(),
                help="Images for int8 calibration. [default: seeded noise]",
                group=group,
            ),
            option(
                "--no-cache",
                is_flag=True,
                help="Export again even if the artifact is cached.",
                group=group,
            ),
        )
        command = _apply(input_options(many=many)(command), options)
        if positional:
            return _positional_model(command, required=required, many=many)
        return command

    return add


def input_options(*, many: bool = False) -> Callable[[F], F]:
    """Sizes and contents of the inputs, and how outputs are compared; with ``many``, several batch
    sizes and resolutions."""
    group = "Inputs and outputs"
    options = (
        option(
            "--batch",
            multiple=many,
            type=click.IntRange(min=1),
            metavar="N",
            help="Batch size. [default: 1, or that of the file]",
            group=group,
        ),
        option(
            "--resolution",
            multiple=many,
            type=Resolution(),
            help="Input size, 224 or 480x640 (height x width). [default: the model's own]",
            group=group,
        ),
        option(
            "--shape",
            "shapes",
            multiple=True,
            metavar="[INPUT=]SIZES",
            help="All sizes of an input, such as 1x3x480x640 or tokens=1x128:int64; repeatable.",
            group=group,
        ),
        option(
            "--dim",
            "dims",
            multiple=True,
            type=KeyValue(integer=True),
            help="Size of a named dynamic axis of a pre-exported file; repeatable.",
            group=group,
        ),
        option(
            "--input",
            "inputs",
            multiple=True,
            metavar="[INPUT=]CONTENT",
            help="What an input holds: VALUE, LOW:HIGH, random:SEED, or a .npy, .npz or image "
            "file; repeatable. [default: seeded noise]",
            group=group,
        ),
        option(
            "--signature",
            metavar="NAME",
            help="One of several signatures of a .tflite file, or functions of a Core ML package.",
            group=group,
        ),
        option(
            "--seed",
            type=click.IntRange(min=0),
            metavar="N",
            default=0,
            show_default=True,
            help="Seed of the inputs, and of the weights if none are given.",
            group=group,
        ),
        option(
            "--tolerance",
            type=float,
            metavar="ERROR",
            help="Relative error of outputs to accept, such as 0.001. [default: by precision]",
            group=group,
        ),
        option(
            "--allow-nondeterministic",
            "nondeterministic",
            is_flag=True,
            help="Time a model whose outputs differ from run to run; they are not checked.",
            group=group,
        ),
    )

    def add(command: F) -> F:
        return _apply(command, options)

    return add


def _positional_model(command: F, *, required: bool, many: bool) -> F:
    """Accept the models as arguments, as well as by ``--model``."""

    @functools.wraps(command)
    def merged(*args: Any, model_arguments: tuple[str, ...], model: Any, **more: Any) -> Any:
        named = tuple(model) if many else ((model,) if model is not None else ())
        every = (*model_arguments, *named)
        if required and not every:
            raise click.UsageError("no model given: name one, such as mobilevig_ti or model.onnx")
        if not many and len(every) > 1:
            raise click.UsageError(f"one model expected, got {len(every)}: {', '.join(every)}")
        chosen: Any = every if many else next(iter(every), None)
        return command(*args, model=chosen, **more)

    argument = click.argument(
        "model_arguments", nargs=-1, metavar="[MODEL]", shell_complete=completion.models
    )
    return cast("F", argument(merged))


def backend_options(*, many: bool = False) -> Callable[[F], F]:
    """Which backend and device, and how many threads; with ``many``, several of each."""
    group = "Backend"

    def add(command: F) -> F:
        return _apply(
            command,
            (
                option(
                    "--backend",
                    multiple=many,
                    default=() if many else "",
                    metavar="NAME",
                    help="Runtime that executes the model (`latbench backends`). "
                    f"[default: by the extension of a file, else {FALLBACK}]",
                    shell_complete=completion.backends,
                    group=group,
                ),
                option(
                    "--device",
                    default="local",
                    show_default=True,
                    metavar="ID",
                    help="Device to measure on (`latbench devices`).",
                    shell_complete=completion.devices,
                    group=group,
                ),
                option(
                    "--threads",
                    multiple=many,
                    type=click.IntRange(min=1),
                    metavar="N",
                    help="CPU threads. [default: the CPUs available to this process (affinity, "
                    "cgroup quota)]",
                    group=group,
                ),
                cpus_option,
                option_option,
                option(
                    "--require",
                    multiple=True,
                    metavar="UNIT,...",
                    help="Fail unless every operator runs on one of these: npu, gpu, cpu, or the "
                    "name of a unit, provider or delegate; repeatable.",
                    group=group,
                ),
            ),
        )

    return add


def protocol_options(*, default: str) -> Callable[[F], F]:
    """The measurement protocol by name, and changes to it."""
    group = "Protocol"

    def add(command: F) -> F:
        return _apply(
            command,
            (
                option(
                    "--protocol",
                    default=default,
                    show_default=True,
                    metavar="NAME",
                    help="Measurement protocol (`latbench protocols`).",
                    shell_complete=completion.protocols,
                    group=group,
                ),
                option(
                    "--budget",
                    "budget_s",
                    type=float,
                    metavar="SECONDS",
                    help="Time budget: no new block starts after this many seconds.",
                    group=group,
                ),
                option(
                    "--target",
                    type=float,
                    metavar="PERCENT",
                    help="Stop when the 95% CI is within ± this many percent.",
                    group=group,
                ),
                option(
                    "--processes",
                    type=click.IntRange(1, 1000),
                    metavar="N",
                    help="Exact number of worker processes.",
                    group=group,
                ),
                option(
                    "--warmup",
                    "warmup_calls",
                    type=click.IntRange(min=0),
                    metavar="N",
                    help="Fixed number of warm-up calls after the first inference.",
                    group=group,
                ),
                option(
                    "--calls",
                    type=click.IntRange(min=1),
                    metavar="N",
                    help="Timed calls per session (each time the model is loaded).",
                    group=group,
                ),
                option(
                    "--block-calls",
                    type=click.IntRange(min=1),
                    metavar="N",
                    help="Calls per block.",
                    group=group,
                ),
            ),
        )

    return add


option_option = option(
    "--option",
    "options",
    multiple=True,
    type=KeyValue(),
    help="Option of the backend (`latbench backends NAME` lists them); repeatable.",
    group="Backend",
)
cpus_option = option(
    "--cpus",
    metavar="CPUS",
    help="CPUs of the device to run on: big, mid, little, a mask (0xf0) or a list (4-7). "
    "[default: all]",
    group="Backend",
)
strict_option = option(
    "--strict",
    is_flag=True,
    help="Fail instead of falling back to another backend.",
    group="Backend",
)
timeout_option = click.option(
    "--timeout",
    "timeout_s",
    type=float,
    default=TIMEOUT_S,
    show_default=True,
    metavar="SECONDS",
    help="Seconds to wait for each response of the worker.",
)


def rest_options(command: F) -> F:
    """What to wait for before the timing."""
    return _apply(
        command,
        (
            click.option(
                "--cooldown",
                "cooldown_s",
                type=click.FloatRange(min=0),
                default=0.0,
                metavar="SECONDS",
                help="Let the device rest for so long before the timing.",
            ),
            click.option(
                "--max-temperature",
                "max_temperature_c",
                type=float,
                metavar="CELSIUS",
                help="Then wait until its CPU is at most this hot; give up after 10 minutes.",
            ),
            click.option(
                "--max-thermal-status",
                metavar="STATUS",
                help="The same for what a phone reports: none, light, ... (Android) or nominal, "
                "fair, ... (iPhone).",
            ),
        ),
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
    """Return the named protocol with the requested changes; ``target`` is in percent."""
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
    "Name from the zoo (`latbench models`), timm:NAME, package.module:factory, "
    "path/to/file.py:factory, or a pre-exported file (.onnx, .tflite, .mlpackage, ...)."
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON, and nothing else, to standard output."
)
verbose_option = click.option("-v", "--verbose", is_flag=True, help="Print all details.")
registry_option = click.option(
    "--registry",
    metavar="URL",
    help="SQLite file or database URL. [default: LATBENCH_REGISTRY, else the user's data folder]",
)


def warn(message: str) -> None:
    """Print a warning to standard error."""
    click.echo(f"latbench: {shown_lines(message)}", err=True)


SAME_REQUEST_S = 1.0
"""Ctrl-C reaches a program twice if the one that started it passes signals on: within this time,
the second is the same request."""


@contextmanager
def interrupted_once() -> Iterator[Callable[[], bool]]:
    """Ctrl-C, SIGTERM or SIGHUP ends a run in order; a later second one ends it at once.

    Ending in order means to end the worker and to store what was measured, which takes a moment.
    What is yielded says whether it was asked for: what a point has left to do may end by it without
    ending the sweep.
    """
    numbers = [getattr(signal, name) for name in ENDING if hasattr(signal, name)]
    # Its native code may hang, where memory is limited, and Python calls no handler until it
    # returns: before a handler is set, SIGTERM ends the program.
    load_numpy()
    # What nohup has set stays.
    numbers = [n for n in numbers if n == signal.SIGINT or signal.getsignal(n) != signal.SIG_IGN]
    first_s: float | None = None

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal first_s
        now_s = time.monotonic()
        if first_s is None:
            first_s = now_s
            raise KeyboardInterrupt
        if now_s - first_s > SAME_REQUEST_S:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    previous = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield lambda: first_s is not None
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def require_one_format(format: str, *, as_json: bool) -> None:
    """Refuse ``--json`` together with another format."""
    if as_json and format not in ("text", "json"):
        raise click.UsageError(f"--json and --format {format} contradict each other")
