"""``latbench inspect``."""

from __future__ import annotations

import click

from latbench.cli.options import json_option, verbose_option


@click.command("inspect")
@click.argument("file", metavar="FILE", type=click.Path())
@verbose_option
@json_option
def command(*, file: str, verbose: bool, as_json: bool) -> None:
    """Say what is in a model file or a checkpoint, and what to do with it.

    Nothing is executed, and nothing that a checkpoint names is imported: objects of unknown classes
    are shown by the class's name.

    \b
    latbench inspect model.onnx          inputs, outputs, operators, precision, sizes
    latbench inspect checkpoint.pth      keys, tensors, what stands beside them
    latbench inspect weights.safetensors --verbose

    Exit status: 0 read, 2 no such file or a damaged checkpoint, 3 not a file of its format.
    """
    from latbench.artifacts.inspection import inspect
    from latbench.report.json import to_json
    from latbench.report.text.inspection import inspection_lines

    found = inspect(file)
    if as_json:
        click.echo(to_json(found))
        return
    for line in inspection_lines(found, verbose=verbose):
        click.echo(line)
