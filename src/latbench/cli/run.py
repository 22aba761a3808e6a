"""``latbench run``: one measurement, or a sweep of many."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latbench.cli.help_sections import Command
from latbench.cli.interruption import interrupted_once
from latbench.cli.measurement_options import (
    backend_options,
    protocol_options,
    resolved_protocol,
    rest_options,
    strict_option,
    timeout_option,
)
from latbench.cli.model_options import model_options
from latbench.cli.options import json_option, registry_option, verbose_option
from latbench.cli.streams import warn
from latbench.cli.terminal import echo_result, live_events, waiting_lines, width
from latbench.defaults import FALLBACK, RUN_PROTOCOL
from latbench.events import Events
from latbench.report.writers import printable

if TYPE_CHECKING:
    from latbench.bench.run import RunResult
    from latbench.bench.sweep import SweepResult, SweepStep
    from latbench.bench.sweep_spec import SweepFile
    from latbench.schema.protocol import TimingProtocol

AXES = ("model", "backend", "precision", "batch", "resolution", "threads")
"""Repeatable options: every combination is a point of a sweep."""


@click.command("run", cls=Command)
@model_options(required=False, many=True, positional=True)
@backend_options(many=True)
@protocol_options(default=RUN_PROTOCOL)
@click.option(
    "--sweep",
    "sweep_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Measure the points of a YAML file.",
)
@click.option("--resume", is_flag=True, help="Continue the newest sweep of the same points.")
@click.option(
    "--order-seed",
    type=click.IntRange(min=0),
    metavar="N",
    help="Seed for the order of a sweep's points. [default: random, stored with the sweep]",
)
@click.option(
    "--require-precision",
    is_flag=True,
    help="Exit with status 4 if the target precision is not reached.",
)
@click.option("--profile", is_flag=True, help="Measure times by operator too, after the samples.")
@click.option(
    "--detach", is_flag=True, help="Leave the run on --device; `latbench collect` fetches it."
)
@rest_options
@strict_option
@timeout_option
@registry_option
@verbose_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    *,
    sweep_file: Path | None,
    resume: bool,
    order_seed: int | None,
    require_precision: bool,
    detach: bool,
    protocol: str | None,
    budget_s: float | None,
    target: float | None,
    processes: int | None,
    warmup_calls: int | None,
    calls: int | None,
    block_calls: int | None,
    verbose: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Measure the latency of a model and store the record.

    \b
    latbench run mobilevig_ti --threads 1
    latbench run model.onnx --budget 20
    latbench run mobilevig_ti mobilevig_s --backend onnxruntime --backend tflite

    With several models, --backend, --precision, --batch, --resolution or --threads, or with
    --sweep, every combination is measured in random order, one record each, and a table is printed
    at the end. A failing point does not stop the sweep; --resume continues an interrupted one.

    Exit status: 0 measured, 2 invalid request, 3 something could not be measured, 4 not precise
    enough (with --require-precision).
    """
    source = ctx.get_parameter_source("protocol")
    file = None if sweep_file is None else _read(sweep_file, ctx)
    by_default = source is click.core.ParameterSource.DEFAULT
    if file is not None and file.protocol is not None and by_default:
        protocol = file.protocol
    assert protocol is not None
    resolved = resolved_protocol(
        protocol,
        budget_s=budget_s,
        target=target,
        processes=processes,
        warmup_calls=warmup_calls,
        calls=calls,
        block_calls=block_calls,
    )
    if require_precision and resolved.target_ppm is None:
        raise click.UsageError(f"{resolved.label} has no target precision; set one with --target")
    if file is None and not given["model"]:
        raise click.UsageError(
            "no model given: name one, such as mobilevig_ti or model.onnx, or --sweep FILE"
        )
    if file is None and all(len(given[axis]) <= 1 for axis in AXES):
        if resume or order_seed is not None:
            raise click.UsageError("--resume and --order-seed apply to sweeps only")
        if detach:
            rests = given["cooldown_s"] or any(given[name] is not None for name in REST[1:])
            if require_precision or given["profile"] or rests:
                raise click.UsageError(
                    "--detach does not allow --profile, --require-precision, --cooldown, "
                    "--max-temperature and --max-thermal-status"
                )
            ctx.exit(_detach(resolved, given, verbose=verbose, as_json=as_json))
        result = _one(resolved, given)
        _print(result, given["registry"], verbose=verbose, as_json=as_json)
        if result.record.outcome.status != "measured":
            ctx.exit(3)
        reached = result.summary is not None and result.summary.reached
        ctx.exit(4 if require_precision and not reached else 0)
    if detach:
        raise click.UsageError("--detach applies to one model, not to a sweep")
    swept = _many(file or _grid(given, resolved), resolved, given, resume, order_seed)
    _print_sweep(swept, as_json)
    records = [point.record for point in swept.points if point.unfit is None]
    if any(record is None or record.outcome.status != "measured" for record in records):
        ctx.exit(3)
    unreached = any(p.summary is None or not p.summary.reached for p in swept.points if p.record)
    ctx.exit(4 if require_precision and unreached else 0)


def _one(protocol: TimingProtocol, given: dict[str, Any]) -> RunResult:
    from latbench.bench.run import run

    with interrupted_once(), live_events(protocol) as events:
        return run(given["model"][0], **_single(given), protocol=protocol, events=events)


def _single(given: dict[str, Any]) -> dict[str, Any]:
    """The options of one measurement, without its model."""
    mappings = ("options", "dims", "arguments")
    fields = {k: v for k, v in given.items() if k not in (*AXES, *mappings)}
    axes = {axis: given[axis][0] if given[axis] else None for axis in AXES if axis != "model"}
    return {**axes, **fields, **{name: dict(given[name]) for name in mappings}}


REST = ("cooldown_s", "max_temperature_c", "max_thermal_status")
HOW = ("strict", "no_cache", "timeout_s", "registry")
"""Options of a measurement that are not part of its request."""


def _detach(
    protocol: TimingProtocol, given: dict[str, Any], *, verbose: bool, as_json: bool
) -> int:
    """Leave the run on its device; print the job, or the record of why there is none."""
    from latbench.analysis.summary import summarize
    from latbench.bench.detach import detach_request
    from latbench.bench.run import RunResult
    from latbench.report.json import to_json
    from latbench.report.text.jobs import started_lines
    from latbench.schema.request import make_request

    asked = _single(given)
    how = {name: asked.pop(name) for name in HOW}
    for name in ("profile", *REST):
        del asked[name]
    request = make_request(given["model"][0], **asked, protocol=protocol.label)
    with interrupted_once(), live_events(protocol) as events:
        left = detach_request(request, protocol=protocol, events=events, **how)
    if left.job is None:
        failed = RunResult(
            record=left.record, summary=summarize(left.record), registry=left.registry
        )
        _print(failed, given["registry"], verbose=verbose, as_json=as_json)
        return 3
    if as_json:
        click.echo(to_json({"device": left.job.device, "job": left.job.about}))
    else:
        echo_result(started_lines(left.job, protocol, left.record.protocol))
    return 0


def _many(
    file: SweepFile,
    protocol: TimingProtocol,
    given: dict[str, Any],
    resume: bool,
    order_seed: int | None,
) -> SweepResult:
    from latbench.bench.sweep import sweep
    from latbench.bench.sweep_spec import requests_of
    from latbench.plugins import exporter_for, load_runner

    def takes(backend: str) -> Mapping[str, str]:
        runner = load_runner(backend)
        return {**runner.options, **exporter_for(runner).options}

    with interrupted_once() as interrupted:
        return sweep(
            requests_of(file, takes),
            protocol=protocol,
            order_seed=order_seed,
            resume=resume,
            profile=given["profile"],
            cooldown_s=given["cooldown_s"],
            max_temperature_c=given["max_temperature_c"],
            max_thermal_status=given["max_thermal_status"],
            strict=given["strict"],
            no_cache=given["no_cache"],
            timeout_s=given["timeout_s"],
            registry=given["registry"],
            events=Events(warn=warn, step=_report_step, waiting=waiting_lines()),
            interrupted=interrupted,
        )


def _grid(given: dict[str, Any], protocol: TimingProtocol) -> SweepFile:
    """The options as the equivalent sweep file."""
    from latbench.bench.sweep_spec import SweepFile

    if given["calibration"] is not None and "int8" not in given["precision"]:
        raise click.UsageError("--calibration requires --precision int8")
    for name, flag in (("weights", "--weights"), ("weights_key", "--weights-key")):
        if given[name]:
            raise click.UsageError(
                f"{flag} applies to one model; in a sweep, set it in a point of a sweep file"
            )
    return SweepFile(
        models=given["model"],
        backends=given["backend"] or (FALLBACK,),
        precisions=given["precision"],
        batches=given["batch"] or (None,),
        resolutions=tuple("x".join(map(str, size)) for size in given["resolution"]) or (None,),
        threads=given["threads"] or (None,),
        options=dict(given["options"]),
        device=given["device"],
        seed=given["seed"],
        calibration=given["calibration"],
        dims=dict(given["dims"]),
        arguments=dict(given["arguments"]),
        imports=given["imports"],
        shapes=given["shapes"],
        inputs=given["inputs"],
        signature=given["signature"],
        tolerance=given["tolerance"],
        nondeterministic=given["nondeterministic"],
        require=given["require"],
        cpus=given["cpus"],
        protocol=protocol.label,
    )


IN_SWEEP_FILE = (
    *(*AXES, "device", "options", "seed", "calibration", "weights", "weights_key", "dims"),
    *("shapes", "inputs", "signature", "tolerance", "nondeterministic", "arguments", "imports"),
    "require",
    "cpus",
)
"""Settings that a sweep file contains."""


def _read(path: Path, ctx: click.Context) -> SweepFile:
    from latbench.bench.sweep_spec import read_sweep
    from latbench.errors import UsageError
    from latbench.schema.yaml_document import parse

    line = click.core.ParameterSource.COMMANDLINE
    if both := [name for name in IN_SWEEP_FILE if ctx.get_parameter_source(name) is line]:
        flag = both[0].removesuffix("s") if both[0] in ("options", "dims") else both[0]
        flag = flag.replace("_", "-")
        raise click.UsageError(f"--{flag} conflicts with --sweep: set it in the file")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the sweep {path}: {error.strerror}") from error
    return read_sweep(parse(content, str(path)))


def _report_step(step: SweepStep) -> None:
    from latbench.report.text.sweep import step_line

    click.echo(printable(step_line(step)), err=True)


def _print(result: RunResult, registry: str | None, *, verbose: bool, as_json: bool) -> None:
    if as_json:
        from latbench.report.json import record_json

        click.echo(record_json(result.record, result.summary))
    elif verbose:
        from latbench.report.text.record import record_lines

        echo_result(record_lines(result.record, result.summary, result.registry))
    else:
        from latbench.report.text.answer import brief_lines
        from latbench.store.registry import Registry

        with Registry.open(registry, create=False) as store:
            short = store.short_ids([result.record.id])[result.record.id]
        echo_result(brief_lines(result.record, result.summary, short))


def _print_sweep(swept: SweepResult, as_json: bool) -> None:
    from latbench.report.text.sweep import swept_json, swept_lines

    click.echo(
        swept_json(swept) if as_json else "\n".join(map(printable, swept_lines(swept, width())))
    )
