"""Options for a model and its inputs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import click

from latbench.cli import completion
from latbench.cli.help_sections import apply_options, option
from latbench.cli.parameter_types import KeyValue, Resolution

F = TypeVar("F", bound=Callable[..., Any])
MODEL_HELP = (
    "Name from the zoo (`latbench models`), timm:NAME, package.module:factory, "
    "path/to/file.py:factory, or a pre-exported file (.onnx, .tflite, .mlpackage, ...)."
)


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
                metavar="NAME",
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
        command = apply_options(input_options(many=many)(command), options)
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
        return apply_options(command, options)

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
        "model_arguments",
        nargs=-1,
        metavar="[MODEL]..." if many else "[MODEL]",
        shell_complete=completion.models,
    )
    return cast("F", argument(merged))
