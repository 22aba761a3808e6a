"""``latbench export``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from latbench.cli import completion
from latbench.cli.help_sections import Command
from latbench.cli.measurement_options import option_option
from latbench.cli.model_options import model_options
from latbench.cli.options import json_option
from latbench.cli.streams import warn
from latbench.defaults import FORMAT
from latbench.report.writers import printable


@click.command("export", cls=Command)
@model_options(positional=True)
@click.option(
    "--format",
    default=FORMAT,
    show_default=True,
    metavar="NAME",
    shell_complete=completion.formats,
    help="Format of the file (`latbench backends`).",
)
@click.option(
    "--output", type=click.Path(path_type=Path), help="File to write. [default: in the cache]"
)
@option_option
@json_option
def command(
    *,
    model: str,
    weights: str | None,
    weights_key: str | None,
    dims: tuple[tuple[str, int], ...],
    arguments: tuple[tuple[str, str], ...],
    precision: str,
    calibration: str | None,
    no_cache: bool,
    format: str,
    output: Path | None,
    options: tuple[tuple[str, str], ...],
    as_json: bool,
    **inputs: Any,
) -> None:
    """Export a model to a file and check the file against PyTorch."""
    from latbench.artifacts.export import export
    from latbench.events import Events
    from latbench.file_names import stored_name
    from latbench.report.json import to_json
    from latbench.report.text.artifact import artifact_lines

    cached = export(
        model,
        format=format,
        weights=weights,
        weights_key=weights_key,
        precision=precision,
        dims=dict(dims),
        arguments=dict(arguments),
        **inputs,
        options=dict(options),
        calibration=calibration,
        no_cache=no_cache,
        events=Events(warn=warn),
    )
    path = cached.path
    if output is not None:
        from latbench.files import copy_beside

        path = copy_beside(cached.path, output)
    if as_json:
        click.echo(to_json({"artifact": cached.artifact, "path": stored_name(str(path))}))
        return
    for line in artifact_lines(cached.artifact, stored_name(str(path))):
        click.echo(printable(line))
