"""``latbench check-worker``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from latbench.cli.options import json_option
from latbench.cli.terminal import live_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latbench.worker.conformance.models import IdentityModel
    from latbench.worker.conformance.suite import CheckResult

CHECK_TIMEOUT_S = 60.0


@click.command("check-worker")
@click.argument("program", nargs=-1, required=True, metavar="COMMAND [ARG]...")
@click.option("--backend", metavar="NAME", help="Backend to check; default: the first one it has.")
@click.option(
    "--artifact",
    type=click.Path(path_type=Path, exists=True),
    help="Model of the backend whose outputs are its inputs; latbench has one for onnxruntime, "
    "tflite and coreml.",
)
@click.option(
    "--shape",
    "inputs",
    multiple=True,
    metavar="NAME=SHAPE:TYPE",
    help="Input of the model, such as x=2x3:float32; for each one in order.",
)
@click.option(
    "--script",
    metavar="COMMAND",
    help="Check the program that executes scripts too: its command line without verb and folder.",
)
@click.option(
    "--only",
    multiple=True,
    metavar="CHECK",
    help="Perform this check and those that it rests on; repeatable.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    metavar="SECONDS",
    default=CHECK_TIMEOUT_S,
    show_default=True,
    help="Seconds that one check may take.",
)
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    *,
    program: tuple[str, ...],
    backend: str | None,
    artifact: Path | None,
    inputs: tuple[str, ...],
    script: str | None,
    only: tuple[str, ...],
    timeout: float,
    as_json: bool,
) -> None:
    """Check that a worker program keeps to the protocol (docs/PROTOCOL.md).

    The program is started as given, several times, and ended again. Write -- before its command
    line.

    \b
    latbench check-worker -- python -P -m latbench.worker.inference
    latbench check-worker --backend acme --artifact pass.acme --shape x=2x3:float32 -- ./worker

    Exit status 1 if a check fails.
    """
    import tempfile

    from latbench.worker.conformance.checks import selected
    from latbench.worker.conformance.suite import Check, Subject, run_checks

    checks = selected(only)
    model = _model(backend, artifact, inputs)
    with tempfile.TemporaryDirectory(prefix="latbench-check-") as folder, live_line() as draw:

        def show(check: Check) -> None:
            draw(f"check {checks.index(check) + 1} of {len(checks)}: {check.section}, {check.name}")

        subject = Subject(
            program,
            folder=Path(folder),
            timeout_s=timeout,
            model=model,
            script=None if script is None else _words(script),
        )
        results = run_checks(subject, checks, show)
    failed = [result.name for result in results if result.outcome == "failed"]
    used = subject.model.backend if subject.has_model else None
    if as_json:
        from latbench.report.json import to_json

        click.echo(
            to_json({"command": program, "backend": used, "passed": not failed, "checks": results})
        )
    else:
        _print(results, shlex.join(program), used)
    ctx.exit(1 if failed else 0)


def _words(script: str) -> list[str]:
    from latbench.errors import UsageError

    try:
        return shlex.split(script)
    except ValueError as error:
        raise UsageError(f"--script {script!r} cannot be split into words: {error}") from error


def _model(
    backend: str | None, artifact: Path | None, inputs: Sequence[str]
) -> IdentityModel | None:
    from latbench.errors import UsageError, suggest
    from latbench.worker.conformance.models import given_model, known_models, read_specs

    if artifact is not None:
        if backend is None:
            raise UsageError("--artifact needs the name of its backend", hint="--backend NAME")
        return given_model(backend, artifact, read_specs(inputs))
    if inputs:
        raise UsageError("--shape describes the model of --artifact", hint="--artifact FILE")
    known = {model.backend: model for model in known_models()}
    if backend is not None and backend not in known:
        raise UsageError(
            f"latbench has no model of backend {backend!r} whose outputs are its inputs",
            hint=suggest(backend, known, otherwise=None) or "give one: --artifact FILE --shape ...",
        )
    return None if backend is None else known[backend]


def _print(results: Sequence[CheckResult], program: str, backend: str | None) -> None:
    outcomes = [result.outcome for result in results]
    failed, skipped = outcomes.count("failed"), outcomes.count("skipped")
    counted = f"{outcomes.count('ok')} ok, {skipped} skipped"
    about = f"{program}, backend {backend}" if backend else f"{program}, no model was opened"
    if failed:
        click.echo(f"{failed} of {len(results)} checks failed ({counted}): {about}")
    else:
        click.echo(f"keeps to the protocol ({counted}): {about}")
    for result in results:
        note = f": {result.reason}" if result.reason else ""
        click.echo(f"{result.outcome:8}{result.name}{note}")
        if result.outcome == "failed":
            click.echo(f"        sent      {result.sent}")
            click.echo(f"        came      {result.came}")
            click.echo(f"        protocol  {result.rule} (PROTOCOL.md, {result.section})")
