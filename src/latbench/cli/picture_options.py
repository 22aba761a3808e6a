"""Options of pictures: size, font and title."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from latbench.report.plot.picture import Style

F = TypeVar("F", bound=Callable[..., Any])
LARGEST_IN = 100


class Size(click.ParamType[tuple[float, float]]):
    """``6x4``: width and height in inches."""

    name = "WIDTHxHEIGHT"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, float]:
        """Width and height."""
        width, _, height = str(value).partition("x")
        try:
            size = float(width), float(height)
        except ValueError:
            self.fail(f"{value!r} is not WIDTHxHEIGHT in inches, such as 6x4", param, ctx)
        if not all(0 < each <= LARGEST_IN for each in size):
            self.fail(f"{value!r} is not between 0 and {LARGEST_IN} inches", param, ctx)
        return size


def picture_options(command: F) -> F:
    """Add ``--size``, ``--font-size``, ``--title`` and ``--no-title``."""
    for option in (
        click.option("--no-title", is_flag=True, help="Omit the title of the picture."),
        click.option("--title", metavar="TEXT", help="Title of the picture."),
        click.option(
            "--font-size",
            type=click.FloatRange(min=1),
            default=10,
            show_default=True,
            metavar="POINTS",
            help="Font size in the picture.",
        ),
        click.option("--size", type=Size(), help="Size of the picture in inches, such as 3.5x2.5."),
    ):
        command = option(command)
    return command


def style_of(
    size: tuple[float, float] | None, font_size: float, title: str | None, *, no_title: bool
) -> Style:
    """The options as a value. Raises :class:`click.UsageError`."""
    from latbench.report.plot.picture import Style

    if no_title and title is not None:
        raise click.UsageError("--title and --no-title exclude each other")
    return Style(size=size, font_pt=font_size, title=title, titled=not no_title)
