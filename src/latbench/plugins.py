"""Exporters and runners, found by their entry points: first-party ones come in like anyone's."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import cast

from latbench.api import Exporter, Runner
from latbench.core.errors import UsageError

FALLBACK = "onnxruntime"
"""Runs wherever latbench does; always labelled, never counted as something that it is not."""


def runner_names() -> tuple[str, ...]:
    """Names of all installed runners, sorted."""
    return tuple(sorted(entry_points(group="latbench.runners").names))


def format_names() -> tuple[str, ...]:
    """Formats for which an exporter is installed, sorted."""
    return tuple(sorted(entry_points(group="latbench.exporters").names))


def load_runner(name: str) -> Runner:
    """The runner called ``name``. Raises :class:`UsageError` with the nearest names."""
    return cast("Runner", _load("latbench.runners", name, "backend", runner_names()))


def load_exporter(format: str) -> Exporter:
    """The exporter of ``format``. Raises :class:`UsageError` with the nearest names."""
    return cast("Exporter", _load("latbench.exporters", format, "format", format_names()))


def exporter_for(runner: Runner) -> Exporter:
    """An exporter of the first format that ``runner`` executes and that is installed."""
    installed = format_names()
    for format in runner.formats:
        if format in installed:
            return load_exporter(format)
    raise UsageError(
        f"no exporter is installed for backend {runner.name!r} (formats: {_listed(runner.formats)})"
    )


def nearest(name: str, known: Iterable[str]) -> str | None:
    """A hint that offers the known names closest to ``name``, or lists them."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return f"did you mean {_listed(close)}?"
    return f"known: {_listed(names)}" if names else None


def _load(group: str, name: str, what: str, known: tuple[str, ...]) -> object:
    found: tuple[EntryPoint, ...] = tuple(entry_points(group=group, name=name))
    if not found:
        raise UsageError(f"unknown {what} {name!r}", hint=nearest(name, known))
    origins = {entry.dist.name for entry in found if entry.dist}
    if len(origins) > 1:
        raise UsageError(
            f"{what} {name!r} is offered by several packages: {_listed(sorted(origins))}",
            hint="uninstall all but one",
        )
    try:
        return found[0].load()()
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"{what} {name!r} cannot be loaded from {found[0].value}: {error}",
            hint="re-install the package that offers it",
        ) from error


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
