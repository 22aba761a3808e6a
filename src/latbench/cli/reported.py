"""``latbench reported``: what other tools report, and running them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from latbench.cli import completion
from latbench.cli.filter_options import filter_of, filter_options, nothing_found
from latbench.cli.help_sections import Command, option
from latbench.cli.interruption import interrupted_once
from latbench.cli.list_options import ListFormat, output_options
from latbench.cli.measurement_options import option_option
from latbench.cli.model_options import model_options
from latbench.cli.options import json_option, registry_option
from latbench.cli.parameter_types import KeyValue
from latbench.cli.show import print_reported
from latbench.cli.streams import warn

TOOLS = (
    *("benchmark_model", "litert-benchmark", "run_model", "executor_runner"),
    *("onnxruntime_perf_test", "trtexec", "benchmark_app"),
)
_PROGRAM = "Program"


@click.group("reported")
def command() -> None:
    """Results of other tools: run vendors' benchmark programs; list, show and remove results.

    Such a result is reported, not measured by latbench. It is listed as such and is never evidence.
    `latbench import --from TOOL` reads outputs that you have already. Each subcommand takes --json.
    """


@command.command("run", cls=Command)
@click.argument("tool", type=click.Choice(TOOLS))
@click.argument("extra", nargs=-1, metavar="[-- OPTION...]")
@option("--binary", metavar="PATH[@sha256:DIGEST]", help="The program's file here.", group=_PROGRAM)
@option("--installed", metavar="PATH", help="A program on the device instead.", group=_PROGRAM)
@option(
    "--library",
    "libraries",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="A library that it needs; repeatable.",
    group=_PROGRAM,
)
@option(
    "--env",
    "variables",
    multiple=True,
    type=KeyValue(),
    metavar="NAME=VALUE",
    help="Environment variable; repeatable.",
    group=_PROGRAM,
)
@option("--tool-version", metavar="VERSION", help="Its version, if you know it.", group=_PROGRAM)
@option(
    "--timeout",
    "timeout_s",
    type=float,
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="When it is ended.",
    group=_PROGRAM,
)
@option(
    "--device",
    default="local",
    show_default=True,
    metavar="ID",
    help="Where it runs (`latbench devices`).",
    shell_complete=completion.devices,
    group=_PROGRAM,
)
@option("--threads", type=click.IntRange(min=1), metavar="N", help="CPU threads.", group=_PROGRAM)
@model_options()
@option_option
@click.option("--dry-run", is_flag=True, help="Print the commands to type by hand; start nothing.")
@registry_option
@json_option
def run(
    *,
    tool: str,
    extra: tuple[str, ...],
    binary: str | None,
    installed: str | None,
    libraries: tuple[Path, ...],
    variables: tuple[tuple[str, str], ...],
    tool_version: str | None,
    timeout_s: float,
    no_cache: bool,
    dry_run: bool,
    registry: str | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Run a vendor's program and keep what it reports.

    \b
    latbench reported run benchmark_model --binary ./benchmark_model \\
        --model mobilevig_ti --device pixel --threads 4 -- --use_gpu=true

    The model is exported as `latbench run` exports it; program, libraries and model are copied to
    the device by digest. The device is reserved meanwhile. Options of the program's own stand after
    `--`.

    Exit status: 0 it reported a result, 2 invalid request, 3 it gave no result.
    """
    from latbench.bench.tool_run import ToolRequest, by_hand, run_tool
    from latbench.events import Events
    from latbench.report.json import to_json
    from latbench.schema.request import make_request

    for name in ("options", "dims", "arguments"):
        given[name] = dict(given[name])
    request = make_request(given.pop("model"), **given)
    asked = ToolRequest(
        tool=tool,
        binary=binary,
        installed=installed,
        libraries=libraries,
        variables=dict(variables),
        extra=extra,
        tool_version=tool_version,
        timeout_s=timeout_s,
        no_cache=no_cache,
    )
    events = Events(warn=warn)
    if dry_run:
        lines = by_hand(request, asked, events=events)
        click.echo(to_json(lines) if as_json else "\n".join(lines))
        return
    with interrupted_once():
        entry = run_tool(request, asked, registry=registry, events=events)
    print_reported(entry, registry or "", as_json=as_json)


@command.command("list", cls=Command)
@filter_options
@output_options
def list_(
    *,
    columns: str | None,
    sort: str | None,
    format: str,
    output: Path | None,
    registry: str | None,
    as_json: bool,
    **conditions: Any,
) -> None:
    """List results of other tools, the newest first."""
    from latbench.report.text.columns import LISTED
    from latbench.store.registry import Registry

    shape = ListFormat(
        LISTED, columns=columns, sort=sort, format=format, output=output, as_json=as_json
    )
    wanted = filter_of(**conditions)
    with Registry.open(registry, create=False) as store:
        found = store.reported(wanted)
        shape.print(store, found)
        if not found:
            nothing_found(store, wanted)


@command.command("show")
@click.argument("id", shell_complete=completion.tool_results)
@click.option("--output", "text", is_flag=True, help="Print what the program wrote.")
@registry_option
@json_option
def show(*, id: str, text: bool, registry: str | None, as_json: bool) -> None:
    """Show one result in full. ID may be the start of an id."""
    from latbench.errors import UsageError
    from latbench.schema.reported import ReportedResult
    from latbench.store.registry import Registry

    with Registry.open(registry, create=False) as store:
        entry, where = store.entry(id), store.url
    if not isinstance(entry, ReportedResult):
        raise UsageError(f"{id} is measured by latbench", hint=f"latbench show {id}")
    if not text:
        print_reported(entry, where, as_json=as_json)
    elif entry.run is None:
        raise UsageError(
            f"the output of {entry.id} is not stored: it was imported from {entry.file}",
            hint="latbench keeps the outputs of programs that it ran itself",
        )
    else:
        click.echo(entry.run.output, nl=False)


@command.command("remove")
@click.argument(
    "ids", nargs=-1, required=True, metavar="ID...", shell_complete=completion.tool_results
)
@registry_option
@json_option
def remove(*, ids: tuple[str, ...], registry: str | None, as_json: bool) -> None:
    """Remove results of other tools from the registry.

    Records that latbench measured stay.
    """
    from latbench.report.json import to_json
    from latbench.store.registry import Registry

    with Registry.open(registry, create=False) as store:
        removed = store.remove_reported(ids)
    click.echo(to_json(removed) if as_json else "\n".join(f"removed {each}" for each in removed))
