"""``latbench devices jobs`` and ``latbench devices cancel``."""

from __future__ import annotations

import click

from latbench.cli import completion
from latbench.cli.options import json_option
from latbench.cli.streams import warn
from latbench.cli.terminal import echo_lines, list_width


@click.command("jobs")
@click.argument("id", required=False, shell_complete=completion.connections)
@json_option
def jobs(*, id: str | None, as_json: bool) -> int:
    """List the runs that were left on devices.

    On the device ID, or on all of yours.

    `latbench run --detach` leaves one, `latbench collect` makes a record of it. The exit status is
    3 if a device cannot be asked.
    """
    import msgspec

    from latbench.bench.left_jobs import left_jobs
    from latbench.devices.connections import known_connection
    from latbench.devices.jobs import connect_to_jobs, may_have_jobs
    from latbench.errors import StageError
    from latbench.report.json import to_json
    from latbench.report.text.jobs import HEADINGS, job_cells, unseen_cells
    from latbench.report.text.layout import table

    connections = [known_connection(id)] if id else may_have_jobs()
    own = {job.id: job for job in left_jobs()}
    rows, found, status = [], [], 0
    for connection in connections:
        try:
            on_device = connect_to_jobs(connection)
            try:
                there = on_device.listed()
            finally:
                on_device.transport.close()
        except StageError as error:
            warn(error.message)
            status = 3
            continue
        for job in there:
            rows.append(job_cells(job, connection.id, own=job.id in own))
            about = msgspec.to_builtins(job)
            found.append({"device": connection.id, "own": job.id in own, **about})
    seen = {row[0] for row in rows}
    missing = [job for job in own.values() if job.id not in seen and id in (None, job.device)]
    rows += map(unseen_cells, missing)
    if as_json:
        unseen = [{"device": each.device, "own": True, "about": each.about} for each in missing]
        click.echo(to_json([*found, *unseen]))
    elif rows:
        echo_lines(table(HEADINGS, rows, list_width()))
    else:
        click.echo("no jobs were left on devices")
    return status


@click.command("cancel")
@click.argument("job", shell_complete=completion.jobs)
@click.option(
    "--device",
    metavar="DEVICE",
    shell_complete=completion.connections,
    help="Where the job is.  [default: all devices are asked]",
)
@click.option("--discard", is_flag=True, help="Delete what it has measured too.")
def cancel(*, job: str, device: str | None, discard: bool) -> None:
    """End a run that was left on a device.

    What it has measured until then can be collected. A job that is no longer on its device is
    forgotten. JOB may be the start of an id.
    """
    from latbench.bench.collect import cancel_job

    click.echo(cancel_job(job, device, warn, discard=discard))
