"""``latbench collect``: fetch what runs that were left on devices have measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from latbench.cli import completion
from latbench.cli.help_sections import Command
from latbench.cli.options import json_option, registry_option
from latbench.cli.streams import warn
from latbench.cli.terminal import echo_result

if TYPE_CHECKING:
    from latbench.bench.collect import CollectResult
    from latbench.bench.left_jobs import LeftJob
    from latbench.store.registry import Registry


@click.command("collect", cls=Command)
@click.argument("job", required=False, shell_complete=completion.jobs)
@click.option(
    "--device",
    metavar="DEVICE",
    shell_complete=completion.connections,
    help="Collect from this device only.",
)
@click.option("--wait", is_flag=True, help="Wait for the end of jobs that still run.")
@registry_option
@json_option
def command(
    *, job: str | None, device: str | None, wait: bool, registry: str | None, as_json: bool
) -> int:
    """Fetch the results of runs that `latbench run --detach` has left on devices.

    Each job becomes one record, once; it stays on its device until the record is stored. Without
    JOB, which may be the start of an id, all jobs are collected that this machine has left.

    Exit status: 0 everything that has ended was collected, 3 a run has failed or a device cannot
    be reached.
    """
    from latbench.bench.collect import collect_job
    from latbench.errors import StageError, UsageError
    from latbench.report.json import to_json
    from latbench.store.registry import Registry

    status, told = 0, []
    with Registry.open(registry) as store:
        wanted = _wanted(job, device, store)
        for number, left in enumerate(wanted):
            try:
                result = collect_job(left, store, warn, wait=wait)
            except (StageError, UsageError) as error:  # The others can still be collected.
                warn(error.message + (f" ({error.hint})" if error.hint else ""))
                status = 3
                continue
            if any(record.outcome.status == "failed" for record in result.records):
                status = 3
            if as_json:
                told.append(_as_json(result))
                continue
            if number:
                click.echo()
            _print(result, store)
        if not wanted and not as_json:
            click.echo("nothing to collect")
    if as_json:
        click.echo(to_json(told))
    return status


def _wanted(job: str | None, device: str | None, store: Registry) -> tuple[LeftJob, ...]:
    """The jobs to collect. Raises :class:`UsageError` for one that cannot be."""
    from latbench.bench.collect import find_on_devices, foreign_job
    from latbench.bench.left_jobs import find_left_job, left_jobs
    from latbench.devices.connections import known_connection
    from latbench.errors import UsageError

    if device is not None:
        known_connection(device)
    if job is None:
        return tuple(each for each in left_jobs() if device in (None, each.device))
    left = find_left_job(job)
    if left is not None:
        if device not in (None, left.device):
            raise UsageError(f"the job {left.id} is on {left.device}, not on {device}")
        return (left,)
    if len(store.ids(job)) == 1:
        return ()  # It has become a record.
    there = find_on_devices(job, device, warn)
    if there is None:
        raise UsageError(f"no job {job!r} was found", hint="latbench devices jobs lists them")
    on_device, found = there
    on_device.transport.close()
    raise foreign_job(found, on_device.connection.id)


def _print(result: CollectResult, store: Registry) -> None:
    from latbench.analysis.summary import summarize
    from latbench.report.text.answer import brief_lines
    from latbench.report.text.layout import moment
    from latbench.report.units import seconds

    job = result.job
    short = store.short_ids([record.id for record in result.records])
    for number, record in enumerate(result.records):
        if number:
            click.echo()
        echo_result(brief_lines(record, summarize(record), short[record.id]))
    if result.records:
        return
    if result.state == "running":
        left = f"left {moment(job.about.created_unix_ns)}"
        takes = f"takes about {seconds(job.about.expected_s)}"
        click.echo(f"the job {job.id} still runs on {job.device}: {left}, {takes}")
    else:
        click.echo(f"the job {job.id} is collected already")


def _as_json(result: CollectResult) -> dict[str, Any]:
    return {
        "job": result.job.id,
        "device": result.job.device,
        "state": result.state,
        "record": result.record,
        "second": result.records[1] if len(result.records) > 1 else None,
    }
