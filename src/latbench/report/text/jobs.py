"""Runs that were left on devices, as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latbench.report.text.layout import labeled, moment
from latbench.report.units import seconds

if TYPE_CHECKING:
    from latbench.bench.left_jobs import LeftJob
    from latbench.schema.protocol import TimingProtocol
    from latbench.worker.job_folder import FoundJob

HEADINGS = ("job", "device", "state", "since", "what", "left by")


def started_lines(job: LeftJob, asked: TimingProtocol, done: TimingProtocol) -> list[str]:
    """A job that has just been started, and in what its protocol differs from the one ``asked``."""
    calls = f"{done.warmup_calls} warm-up calls and {done.min_calls} calls each"
    numbers = f"{done.label} with fixed numbers: {done.processes} processes, {calls}"
    lines = [
        f"the job {job.id} runs on {job.device}, about {seconds(job.about.expected_s)}",
        labeled("what", job.about.what),
        labeled("protocol", numbers),
    ]
    if asked.target_ppm is not None:
        target = f"±{asked.target_ppm / 10_000:g} %"
        lines.append(
            labeled("precision", f"the target of {target} is not followed up on the device")
        )
    lines.append(labeled("limit", f"it ends after {seconds(job.about.limit_s)} at the latest"))
    lines.append(labeled("next", f"latbench collect {job.id}"))
    return lines


def job_cells(found: FoundJob, device: str, *, own: bool) -> tuple[str, ...]:
    """One row of the list of jobs; ``own`` if this machine can collect it."""
    about, status = found.about, found.status
    since = None
    if status is not None:
        since = status.ended_unix_ns or status.started_unix_ns
    what = about.what if about else "unknown"
    if not found.running and status is not None and status.failure is not None:
        what += f": {status.failure.message}"
    whose = "this machine" if own else about.harness if about else "unknown"
    return (found.id, device, found.state, moment(since) if since else "", what, whose)


def unseen_cells(job: LeftJob) -> tuple[str, ...]:
    """A row for a job whose device does not answer or does not have it."""
    since = moment(job.about.created_unix_ns)
    return (job.id, job.device, "unknown", since, job.about.what, "this machine")
