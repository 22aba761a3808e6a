"""Help of commands whose options are listed in sections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


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


def apply_options(command: F, options: tuple[Callable[[F], F], ...]) -> F:
    """Decorate ``command`` with ``options``, listed in this order."""
    for add in reversed(options):
        command = add(command)
    return command
