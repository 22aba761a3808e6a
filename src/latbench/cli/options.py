"""Options that several commands share, and how their values are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


class Resolution(click.ParamType[tuple[int, int]]):
    """``224`` or ``480x640`` (height x width)."""

    name = "pixels"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Height and width."""
        parts = str(value).lower().split("x")
        if len(parts) in (1, 2) and all(part.isdecimal() and int(part) > 0 for part in parts):
            return int(parts[0]), int(parts[-1])
        self.fail(f"{value!r} is not a size such as 224 or 480x640 (height x width)", param, ctx)


class Pair(click.ParamType[tuple[str, str | int]]):
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


def model_options(command: F) -> F:
    """Which model, with which weights, at which input."""
    for option in reversed(
        (
            click.option("--model", required=True, metavar="MODEL", help=MODEL_HELP),
            click.option(
                "--weights",
                metavar="FILE",
                help="Weights: .safetensors, or .pth read without executing anything.",
            ),
            click.option("--batch", type=click.IntRange(min=1), help="Batch size (default 1)."),
            click.option(
                "--resolution", type=Resolution(), help="224 or 480x640; default: the model's own."
            ),
            click.option(
                "--dim",
                "dims",
                multiple=True,
                type=Pair(integer=True),
                help="Size of a named dynamic axis of a ready file.",
            ),
            click.option("--precision", default="fp32", show_default=True),
            click.option(
                "--seed",
                type=click.IntRange(min=0),
                default=0,
                show_default=True,
                help="For weights, where none are given, and for inputs.",
            ),
            click.option(
                "--fresh", is_flag=True, help="Export again even if the cache has the artifact."
            ),
        )
    ):
        command = option(command)
    return command


MODEL_HELP = (
    "A name of the zoo (`latbench models`), timm:NAME, package.module:factory, "
    "path/to/file.py:factory, or a ready .onnx file."
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
