"""Types of option values: what they accept, and how the text is read."""

from __future__ import annotations

import click


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
