"""Conditions of commands on records: which ones to list or to plot."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from latbench.cli import completion
from latbench.cli.help_sections import option
from latbench.cli.parameter_types import KeyValue
from latbench.cli.streams import warn
from latbench.defaults import LOCAL

if TYPE_CHECKING:
    from latbench.store.record_filter import RecordFilter
    from latbench.store.registry import Registry

F = TypeVar("F", bound=Callable[..., Any])
SPANS = {"min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
"""Units of a span of time, in seconds."""


class Since(click.ParamType[int]):
    """``2026-11-30``, ``2026-11-30T09:00`` (UTC), or a span before now such as ``7d`` or ``12h``.

    Converted to nanoseconds since 1970.
    """

    name = "TIME"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """The time as nanoseconds since 1970."""
        import re
        import time
        from datetime import UTC, datetime

        text = str(value)
        if span := re.fullmatch(r"(\d+) ?(min|h|d|w)", text):
            return max(0, time.time_ns() - int(span[1]) * SPANS[span[2]] * 10**9)
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            self.fail(
                f"{text!r} is not a date (2026-11-30), a time in UTC (2026-11-30T09:00) or a span "
                f"(30min, 12h, 7d, 2w)",
                param,
                ctx,
            )
        utc = at if at.tzinfo else at.replace(tzinfo=UTC)
        return max(0, int(utc.timestamp()) * 10**9)


def filter_options(command: F) -> F:
    """Add ``--model``, ``--backend``, ``--device``, ``--precision``, ``--protocol``, ``--option``,
    ``--weights`` and ``--since``."""
    group = "Which records"
    for each in reversed(
        (
            option(
                "--model",
                "models",
                multiple=True,
                metavar="MODEL",
                shell_complete=completion.models,
                help="Only this model; repeatable.",
                group=group,
            ),
            option(
                "--backend",
                "backends",
                multiple=True,
                metavar="NAME",
                shell_complete=completion.backends,
                help="Only this requested backend; repeatable.",
                group=group,
            ),
            option(
                "--device",
                "devices",
                multiple=True,
                metavar="ID",
                shell_complete=completion.devices,
                help=f"Only this device; repeatable. `{LOCAL}` is this machine.",
                group=group,
            ),
            option(
                "--precision",
                "precisions",
                multiple=True,
                metavar="NAME",
                help="Only files of this precision; repeatable.",
                group=group,
            ),
            option(
                "--protocol",
                "protocols",
                multiple=True,
                metavar="NAME",
                shell_complete=completion.protocols,
                help="Only this protocol, of any version or NAME@VERSION; repeatable.",
                group=group,
            ),
            option(
                "--option",
                "settings",
                multiple=True,
                type=KeyValue(),
                help="Only with this option or setting of the backend; several must all be met.",
                group=group,
            ),
            option(
                "--weights",
                metavar="WEIGHTS",
                help="Only these weights: seed:N, the start of a digest, or the requested file.",
                group=group,
            ),
            option(
                "--since",
                "since_unix_ns",
                type=Since(),
                help="Only from this time on: 2026-11-30, or a span before now such as 12h or 7d.",
                group=group,
            ),
        )
    ):
        command = each(command)
    return command


def filter_of(
    *,
    models: tuple[str, ...],
    backends: tuple[str, ...],
    devices: tuple[str, ...],
    precisions: tuple[str, ...],
    protocols: tuple[str, ...],
    settings: tuple[tuple[str, str], ...],
    weights: str | None,
    since_unix_ns: int | None,
) -> RecordFilter:
    """The conditions that the options state."""
    from latbench.store.record_filter import RecordFilter

    if LOCAL in devices:
        from latbench.devices.local import LocalDevice

        here = LocalDevice().row.id
        devices = tuple(here if name == LOCAL else name for name in devices)
    return RecordFilter(
        models=models,
        backends=backends,
        devices=devices,
        precisions=precisions,
        protocols=protocols,
        options=settings,
        weights=weights,
        since_unix_ns=since_unix_ns,
    )


def nothing_found(store: Registry, wanted: RecordFilter) -> None:
    """Report on standard error why a list is empty: no record at all, or an unknown name."""
    from latbench.errors import suggest
    from latbench.report.writers import printable

    known, reported = store.latest(), store.reported()
    if not known and not reported:
        warn(f"there are no records in {store.url}")
        click.echo("  hint: `latbench run MODEL` measures one", err=True)
        return
    for what, asked, found in (
        ("model", wanted.models, {*(row.model for row in known), *(e.model for e in reported)}),
        (
            *("backend", wanted.backends),
            {*(row.requested_backend for row in known), *(e.backend for e in reported)},
        ),
        ("device", wanted.devices, {*(row.device for row in known), *(e.device for e in reported)}),
    ):
        names = {name for name in found if name is not None}
        for name in asked:
            if name not in names:
                warn(f"no record of {what} {name!r}")
                if hint := suggest(name, names):
                    click.echo(f"  hint: {printable(hint)}", err=True)
