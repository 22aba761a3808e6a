"""``latbench verify``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from latbench.cli import completion
from latbench.cli.model_options import MODEL_HELP, input_options
from latbench.cli.options import json_option
from latbench.cli.streams import warn
from latbench.report.writers import printable

if TYPE_CHECKING:
    from latbench.artifacts.verify import VerifyResult
    from latbench.schema.artifact import Counts, TensorSpec


EXIT = {True: 0, False: 1, None: 4}
VERDICT = {True: "the same network", False: "it differs", None: "inconclusive"}
"""Exit status and verdict by :attr:`VerifyResult.equal`."""


@click.command("verify")
@click.argument("file", metavar="FILE")
@click.option(
    "--model",
    metavar="MODEL",
    shell_complete=completion.models,
    help=f"Model to compare the file with. {MODEL_HELP}",
)
@click.option(
    "--weights",
    metavar="FILE",
    help="Weights of the model: .safetensors or .pth. Requires --model.",
)
@click.option(
    "--weights-key",
    metavar="KEY",
    help="Which weights of the file, such as model_ema. [default: those that fit]",
)
@input_options()
@click.option(
    "--format",
    metavar="NAME",
    shell_complete=completion.formats,
    help="Format of the file. [default: from its extension]",
)
@json_option
def command(
    *,
    file: str,
    model: str | None,
    weights: str | None,
    weights_key: str | None,
    dims: tuple[tuple[str, int], ...],
    format: str | None,
    as_json: bool,
    **inputs: Any,
) -> int:
    """Execute a pre-exported file; describe it, or check that it is the model given by --model.

    Exit status: 0 executed, and equal to the model if one was given; 1 different; 2 invalid
    request; 3 the file cannot be read or executed here; 4 inconclusive.
    """
    from latbench.artifacts.verify import verify
    from latbench.report.json import to_json

    found = verify(
        file,
        format=format,
        model=model,
        weights=weights,
        weights_key=weights_key,
        dims=dict(dims),
        **inputs,
        warn=warn,
    )
    if as_json:
        click.echo(
            to_json(
                {
                    "path": found.path,
                    "artifact": found.artifact,
                    "against": found.against,
                    "equal": found.equal,
                }
            )
        )
    else:
        for line in _lines(found):
            click.echo(printable(line))
    return EXIT[found.equal]


def _lines(found: VerifyResult) -> list[str]:
    from latbench.report.text.layout import labeled
    from latbench.report.units import size

    artifact = found.artifact
    lines = [
        found.path,
        labeled("format", f"{artifact.format} {artifact.precision}, {size(artifact.size_bytes)}"),
        labeled("inputs", _tensors(artifact.inputs)),
        labeled("outputs", _tensors(artifact.outputs)),
        labeled("counts", f"unknown: {artifact.details.get('uncounted', 'not available')}"),
        labeled("details", ", ".join(f"{k} {v}" for k, v in artifact.details.items())),
        labeled("executed", "outputs are finite for seeded inputs"),
    ]
    if artifact.counts is not None:
        lines[4] = labeled("counts", _counts(artifact.counts))
    if (against := found.against) is None:
        return lines
    form = " (trained form)" if against.form == "trained" else ""
    lines.append(labeled("model", f"{against.model}{form}: {_counts(against.counts)}"))
    if (parity := against.parity) is not None:
        lines.append(
            labeled(
                "outputs",
                f"relative error {parity.max_rel_error:.1g} against {parity.reference} "
                f"(allowed {parity.tolerance:.0e})",
            )
        )
    lines.append(labeled("verdict", VERDICT[found.equal]))
    lines += [labeled("", difference) for difference in against.differences]
    lines += [labeled("", f"not compared: {what}") for what in against.not_compared]
    return lines


def _tensors(specs: tuple[TensorSpec, ...]) -> str:
    from latbench.schema.artifact import shape_text

    return ", ".join(f"{spec.name} {shape_text(spec.shape)} {spec.dtype}" for spec in specs)


def _counts(counts: Counts) -> str:
    from latbench.report.units import size

    operators = ", ".join(f"{number} {name}" for name, number in counts.operators.items())
    return (
        f"{counts.macs:,} MACs, {operators}, {counts.parameters:,} parameters in "
        f"{size(counts.parameter_bytes)}"
    )
