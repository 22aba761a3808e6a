"""Program ``python -m latbench.worker.script VERB FOLDER``: a run without its harness.

``run`` executes the script in a job's folder, as a small harness on the device itself; ``start``
starts that in the background. ``list`` describes the jobs in a folder, and ``cancel`` ends one.
Each verb but ``run`` prints JSON and ends.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NoReturn, TypeVar

import msgspec

from latbench.errors import LatbenchError, StageError, UsageError
from latbench.worker import job_folder as files
from latbench.worker.agent import release_locks
from latbench.worker.process_tree import HARNESS_MARK, MARK, end_marked, new_mark
from latbench.worker.script_run import ScriptRun

T = TypeVar("T")
MODULE = "latbench.worker.script"
START_WAIT_S = 60.0
CANCEL_WAIT_S = 10.0
LATE_S = 60
"""So long after its time limit a job that does not end by itself is killed."""


def execute_script(folder: Path) -> None:
    """Execute the script in ``folder``. Raises :class:`StageError` if another program does."""
    import fcntl

    about = msgspec.json.decode((folder / files.JOB).read_bytes(), type=files.JobAbout)
    if about.version > files.JOB_VERSION:
        raise StageError("probe", f"the job {about.id} is of a newer latbench than this device's")
    with (folder / files.ANSWERS).open("ab") as answers:
        try:
            fcntl.flock(answers, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StageError("probe", f"the job {about.id} is running already") from None
        if (folder / files.STATUS).exists():
            raise StageError("probe", f"the job {about.id} has run already")
        signal.signal(signal.SIGTERM, _interrupt)
        # The kernel ends it even if this program cannot look at the clock; its workers then end.
        signal.alarm(int(about.limit_s) + LATE_S)
        ScriptRun(folder, about, answers).run()
        # Whoever sees that the job has ended can measure at once.
        release_locks()


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def start(folder: Path) -> bytes:
    """Start ``run`` in a session of its own; its status once it has one.

    Raises :class:`StageError` if it does not begin, or has before.
    """
    if _is_locked(folder / files.ANSWERS):
        raise StageError("probe", f"the job {folder.name} is running already")
    if (folder / files.STATUS).exists():
        raise StageError("probe", f"the job {folder.name} has run already")
    with (folder / files.OUTPUT).open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-s", "-m", MODULE, "run", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, HARNESS_MARK: new_mark(), MARK: new_mark()},
            start_new_session=True,
        )
    until = time.monotonic() + START_WAIT_S
    while time.monotonic() < until:
        ended = process.poll() is not None
        with suppress(FileNotFoundError):
            return (folder / files.STATUS).read_bytes()
        if ended:
            break
        time.sleep(0.02)
    said = (folder / files.OUTPUT).read_text(errors="replace").strip()
    raise StageError("probe", said.splitlines()[-1] if said else "it does not start")


def list_jobs(folder: Path) -> Iterator[files.FoundJob]:
    """The jobs in ``folder``, the oldest first."""
    for place in sorted(folder.iterdir()) if folder.is_dir() else ():
        if place.is_dir():
            yield look_at(place)


def look_at(folder: Path) -> files.FoundJob:
    """One job."""
    answers = folder / files.ANSWERS
    return files.FoundJob(
        id=folder.name,
        running=_is_locked(answers),
        about=_read(folder / files.JOB, files.JobAbout),
        status=_read(folder / files.STATUS, files.JobStatus),
        answers_bytes=answers.stat().st_size if answers.exists() else 0,
    )


def cancel(folder: Path) -> files.FoundJob:
    """End a job, and wait for it. Raises :class:`StageError` if it does not end."""
    found = look_at(folder)
    if not found.running:
        return found
    if found.status is None:
        raise StageError("probe", f"the job {found.id} is still starting; try again")
    pid = found.status.pid
    for number in (signal.SIGTERM, signal.SIGKILL):
        mark = _mark_of(pid)
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        until = time.monotonic() + CANCEL_WAIT_S
        while _is_locked(folder / files.ANSWERS):
            if time.monotonic() >= until:
                break
            time.sleep(0.05)
        else:
            end_marked(mark, HARNESS_MARK)
            return look_at(folder)
    raise StageError("probe", f"the job {found.id} (process {pid}) does not end")


def _mark_of(pid: int) -> str:
    with suppress(OSError):
        for each in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            if each.startswith(f"{HARNESS_MARK}=".encode()):
                return each.partition(b"=")[2].decode()
    return ""


def _is_locked(path: Path) -> bool:
    import fcntl

    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _read(path: Path, type: type[T]) -> T | None:
    with suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode(path.read_bytes(), type=type)
    return None


def main() -> None:
    """Execute one verb; a failure is printed as a message, with status 1."""
    verb, folder = sys.argv[1], Path(sys.argv[2])
    out = sys.stdout.buffer
    try:
        match verb:
            case "run":
                execute_script(folder)
            case "start":
                out.write(start(folder) + b"\n")
            case "list":
                out.writelines(msgspec.json.encode(job) + b"\n" for job in list_jobs(folder))
            case "cancel":
                out.write(msgspec.json.encode(cancel(folder)) + b"\n")
            case _:
                raise UsageError(f"unknown verb {verb!r}")
        out.flush()
    except (LatbenchError, OSError, msgspec.DecodeError) as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
