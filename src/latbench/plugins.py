"""Find exporters and runners by their entry points, first-party ones like any other."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from typing import cast

from latbench.api import Exporter, PlacingRunner, Runner
from latbench.defaults import FALLBACK
from latbench.errors import (
    UnfitError,
    UsageError,
    first_line,
    listed,
    suggest,
)


def runner_names() -> tuple[str, ...]:
    """Names of all installed runners, sorted."""
    return tuple(sorted(_installed("latbench.runners").names))


def format_names() -> tuple[str, ...]:
    """Formats for which an exporter is installed, sorted."""
    return tuple(sorted(_installed("latbench.exporters").names))


def load_runner(name: str) -> Runner:
    """The runner called ``name``. Raises :class:`UsageError` with the nearest names."""
    return cast("Runner", _load("latbench.runners", name, "backend", runner_names()))


def load_exporter(format: str) -> Exporter:
    """The exporter of ``format``. Raises :class:`UsageError` with the nearest names."""
    return cast("Exporter", _load("latbench.exporters", format, "format", format_names()))


def loaded_exporters() -> tuple[list[Exporter], dict[str, UsageError]]:
    """All installed exporters, and the errors of those that cannot be loaded, by format."""
    loaded: list[Exporter] = []
    broken: dict[str, UsageError] = {}
    for name in format_names():
        try:
            loaded.append(load_exporter(name))
        except UsageError as error:
            broken[name] = error
    return loaded, broken


def read_suffixes() -> set[str]:
    """Extensions of the pre-exported files that the installed exporters read.

    An exporter that cannot be loaded is left out.
    """
    return {suffix for exporter in loaded_exporters()[0] for suffix in exporter.reads}


def exporters_of(runner: Runner) -> list[Exporter]:
    """The installed exporters of the formats that ``runner`` executes, the preferred one first."""
    return [load_exporter(name) for name in runner.formats if name in format_names()]


def exporter_for(runner: Runner, suffix: str | None = None) -> Exporter:
    """An installed exporter of the first format that ``runner`` executes.

    With ``suffix``, the first one that reads pre-exported files with that extension.

    Raises :class:`UsageError` if there is none.
    """
    installed = exporters_of(runner)
    if not installed:
        raise UsageError(
            f"no exporter is installed for backend {runner.name!r} "
            f"(formats: {listed(runner.formats)})"
        )
    if suffix is None:
        return installed[0]
    for exporter in installed:
        if suffix in exporter.reads:
            return exporter
    takes = [ending for exporter in installed for ending in exporter.reads]
    raise UnfitError(
        f"backend {runner.name!r} cannot read pre-exported {suffix} files"
        + (f", only {listed(takes)}" if takes else ""),
        hint=who_reads(suffix),
    )


def backend_for(extension: str | None) -> str:
    """The backend for a request that names none.

    Models that are exported run on the fallback backend, and so do files that it reads. For another
    file ``extension`` it is the first backend, by name, that reads it: one that runs here, if any.
    Without one the answer is the fallback backend, whose error says so.
    """
    if extension is None or extension in _read_by(FALLBACK):
        return FALLBACK
    able = [name for name in runner_names() if extension in _read_by(name)]
    here = [name for name in able if load_runner(name).probe().available]
    return next(iter((*here, *able)), FALLBACK)


def unit_names(runner: Runner) -> Mapping[str, tuple[str, ...]]:
    """The units of a runner, each with further names, as :class:`~latbench.api.PlacingRunner` says.

    For a runner that declares none they are those of its probe.
    """
    if isinstance(runner, PlacingRunner):
        return runner.units
    return dict.fromkeys(runner.probe().units, ())


def _read_by(backend: str) -> set[str]:
    """Extensions of the pre-exported files that a backend takes; none if it cannot be loaded."""
    try:
        return {each for exporter in exporters_of(load_runner(backend)) for each in exporter.reads}
    except UsageError:
        return set()


_WEIGHTS = "weights need their network: latbench run path/to/net.py:factory --weights FILE"
_PROGRAM = "convert it with torch.onnx.export, or name the network's factory in Python"
_TENSORFLOW = "convert it to .tflite (tf.lite.TFLiteConverter) or .onnx (tf2onnx)"
_COMPILED = "it is made for one runtime and cannot be read back: pass the {} that it was made from"
UNREADABLE: Mapping[str, str] = {
    **dict.fromkeys((".pt", ".pth", ".ckpt", ".bin", ".tar", ".safetensors"), _WEIGHTS),
    **dict.fromkeys((".jit", ".torchscript", ".ptl", ".pt2"), _PROGRAM),
    **dict.fromkeys((".pb", ".h5", ".keras"), _TENSORFLOW),
    ".mlmodelc": _COMPILED.format(".mlpackage or .mlmodel"),
    ".ort": _COMPILED.format(".onnx file"),
    **dict.fromkeys((".xml", ".param"), _COMPILED.format(".onnx file or network")),
    ".py": "a network is a function of it: path/to/net.py:FUNCTION",
}
"""Extension of files that are often given but not read as models -> what to do."""


def who_reads(suffix: str) -> str | None:
    """Which backends read pre-exported files with that extension, and which cannot be loaded; if
    none does, what to do instead."""
    able, broken = [], []
    for name in runner_names():
        try:
            if any(suffix in exporter.reads for exporter in exporters_of(load_runner(name))):
                able.append(name)
        except UsageError:
            broken.append(name)
    parts = [f"another backend does: {listed(able)}"] if able else []
    parts += [f"cannot be loaded: {listed(broken)} (see latbench backends)"] if broken else []
    return "; ".join(parts) or UNREADABLE.get(suffix)


def _installed(group: str) -> EntryPoints:
    """The entry points of ``group``."""
    return _read_metadata(group, tuple(sys.path))


@cache
def _read_metadata(group: str, path: tuple[str, ...]) -> EntryPoints:
    """Those of all packages on ``path``, which is ``sys.path``: reading them takes long."""
    return entry_points(group=group)


def _load(group: str, name: str, what: str, known: tuple[str, ...]) -> object:
    found: tuple[EntryPoint, ...] = tuple(_installed(group).select(name=name))
    if not found:
        raise UsageError(f"unknown {what} {name!r}", hint=suggest(name, known))
    origins = {entry.dist.name for entry in found if entry.dist}
    if len(origins) > 1:
        raise UsageError(
            f"{what} {name!r} is provided by several packages: {listed(sorted(origins))}",
            hint="uninstall all but one",
        )
    try:
        return found[0].load()()
    except Exception as error:
        # Third-party code may raise anything.
        raise UsageError(
            f"{what} {name!r} cannot be loaded from {found[0].value}: "
            f"{type(error).__name__}: {first_line(error, 'no reason given')}",
            hint="re-install the package that provides it",
        ) from error


def check_export(exporter: Exporter, precision: str) -> None:
    """Raise :class:`UnfitError` for a precision that the format does not support."""
    if precision not in exporter.precisions:
        raise UnfitError(
            f"{exporter.format} cannot be exported in {precision}",
            hint=f"supported: {', '.join(exporter.precisions)}",
        )


def check_options(what: str, options: Mapping[str, str], known: Mapping[str, str]) -> None:
    """Raise :class:`UsageError` for an option that is not among the ``known`` ones."""
    for name in options:
        if name not in known:
            raise UsageError(f"{what} has no option {name!r}", hint=suggest(name, known))
