"""How a picture is made: its file, size, font and title. Needs matplotlib (extra ``plot``)."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latbench.errors import UsageError
from latbench.files import write_beside
from latbench.schema.value import Value

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg", ".pdf")
DPI = 150
"""Dots per inch of a .png file."""
MS = 1e6
"""Nanoseconds per unit of a time axis."""


class Style(Value, frozen=True, kw_only=True):
    """The look of a picture; sizes in inches and points, as a paper's template gives them."""

    size: tuple[float, float] | None = None
    """Width and height; ``None``: what suits the picture on a screen."""
    font_pt: float = 10
    title: str | None = None
    """Instead of the picture's own title."""
    titled: bool = True


SCREEN = Style()


def save_picture(
    path: Path,
    style: Style,
    *,
    title: str,
    size: tuple[float, float],
    draw: Callable[[Figure], None],
) -> None:
    """Draw a picture to ``path``; ``title`` and ``size`` apply unless ``style`` has its own.

    Raises :class:`UsageError` for a file extension that is not one of :data:`FORMATS`, or without
    matplotlib.
    """
    if path.suffix.lower() not in FORMATS:
        raise UsageError(
            f"{path.name!r} has an unknown file extension for a picture",
            hint=f"use {', '.join(FORMATS)}",
        )
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError(
            "plots need matplotlib, which is not installed", hint="pip install 'latbench[plot]'"
        ) from error
    width, height = style.size or size
    fonts: dict[Any, Any] = {
        "font.size": style.font_pt,
        "axes.titlesize": style.font_pt,
        "axes.labelsize": style.font_pt,
        "legend.fontsize": 0.85 * style.font_pt,
        "figure.titlesize": style.font_pt,
    }
    with matplotlib.rc_context(fonts):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure)
        if style.titled:
            text = title if style.title is None else style.title
            figure.suptitle(_wrapped(text, width, style.font_pt))
        write_beside(
            path, lambda target: figure.savefig(target, format=path.suffix[1:].lower(), dpi=DPI)
        )


def _wrapped(text: str, width_in: float, font_pt: float) -> str:
    """Break lines so that the title is not cut off: a character is about half as wide as high."""
    columns = max(20, int(width_in * 72 / (0.55 * font_pt)))
    return "\n".join(
        textwrap.fill(line, columns, break_long_words=False, break_on_hyphens=False)
        for line in text.splitlines()
    )
