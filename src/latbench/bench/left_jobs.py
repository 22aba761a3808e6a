"""What this machine keeps of the jobs that it has left on devices, until each is a record.

A job is a file ``jobs/ID.json`` in the data folder, with the outputs to compare with beside it.
Only who has the file can collect the job.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from shutil import copyfile

import msgspec

from latbench.errors import LatbenchError, UsageError
from latbench.files import write_beside
from latbench.paths import data_folder
from latbench.schema.codec import convert_record, encode_record
from latbench.schema.record import Record
from latbench.worker.job_folder import JobAbout, ScriptLine

SCHEMA = 1


class LeftJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job and everything that its record needs besides the answers of the device."""

    schema: int = SCHEMA
    device: str
    """Id of the user's device."""
    about: JobAbout
    record: msgspec.Raw
    """The record without measurements; its id is the job's."""
    others: tuple[msgspec.Raw, ...] = ()
    """That of the second model of a comparison."""
    script: tuple[ScriptLine, ...]

    @property
    def id(self) -> str:
        """The job's id."""
        return self.about.id

    def empty_record(self) -> Record:
        """The record without measurements. Raises :class:`LatbenchError`."""
        return self.empty_records()[0]

    def empty_records(self) -> tuple[Record, ...]:
        """The record of each model without measurements. Raises :class:`LatbenchError`."""
        raw = (self.record, *self.others)
        return tuple(convert_record(msgspec.json.decode(each)) for each in raw)

    def reference(self, worker: str) -> Path:
        """Where the outputs of a worker are kept that its own must equal."""
        return _folder() / f"{self.id}.{worker}.npz"


def keep_job(job: LeftJob, references: Mapping[str, Path]) -> None:
    """Store a job with a copy of the outputs to compare with, by worker.

    The artifact cache may lose its own. Raises :class:`LatbenchError`.
    """
    _folder().mkdir(parents=True, exist_ok=True)
    for worker, path in references.items():
        write_beside(job.reference(worker), partial(copyfile, path))
    content = msgspec.json.encode(job)
    # Last: a job that is there is complete.
    write_beside(_folder() / f"{job.id}.json", lambda beside: beside.write_bytes(content))


def forget_job(id: str) -> None:
    """Delete what is kept of a job."""
    for path in (_folder() / f"{id}.json", *_folder().glob(f"{id}.*.npz")):
        path.unlink(missing_ok=True)


def left_jobs() -> tuple[LeftJob, ...]:
    """All jobs that this machine has left, the oldest first. Raises :class:`LatbenchError`."""
    jobs = []
    for path in sorted(_folder().glob("*.json")):
        with suppress(FileNotFoundError):  # Another program has just collected it.
            jobs.append(_read(path))
    return tuple(jobs)


def find_left_job(id: str) -> LeftJob | None:
    """The job whose id begins with ``id``. Raises :class:`UsageError` if several do."""
    found = [job for job in left_jobs() if job.id.startswith(id.lower())]
    if len(found) > 1:
        raise UsageError(
            f"several jobs begin with {id!r}", hint=", ".join(job.id for job in found[:5])
        )
    return found[0] if found else None


@contextmanager
def job_lock(id: str) -> Iterator[None]:
    """Let other programs of this machine wait that start or collect the same job."""
    try:
        import fcntl
    except ImportError:  # Windows: the registry refuses a second record of the same id.
        yield
        return
    _folder().mkdir(parents=True, exist_ok=True)
    with (_folder() / f"{id}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
        if not (_folder() / f"{id}.json").exists():
            Path(lock.name).unlink(missing_ok=True)


def _folder() -> Path:
    return data_folder() / "jobs"


def _read(path: Path) -> LeftJob:
    try:
        job = msgspec.json.decode(path.read_bytes(), type=LeftJob)
    except msgspec.DecodeError as error:
        raise LatbenchError(
            f"{path} cannot be read: {error}", hint="it is damaged, or of a newer latbench"
        ) from error
    if job.schema > SCHEMA:
        raise LatbenchError(f"{path} is of a newer latbench", hint="upgrade latbench")
    return job


def record_bytes(record: Record) -> msgspec.Raw:
    """``record`` as a job keeps it."""
    return msgspec.Raw(encode_record(record))
