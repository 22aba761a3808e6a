"""The lock that keeps two programs on one machine from measuring the same sweep."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from latbench.errors import UsageError
from latbench.paths import cache_folder


@contextmanager
def sweep_lock(sweep: str) -> Iterator[None]:
    """Hold the lock of a sweep on this machine.

    Raises :class:`UsageError` while another program measures the sweep: they would disturb each
    other.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with ExitStack() as exits:
        # If the folder cannot be written to, every export fails with a message of its own.
        with suppress(OSError):
            place = cache_folder() / "sweeps"
            place.mkdir(parents=True, exist_ok=True)
            lock = exits.enter_context((place / f"{sweep}.lock").open("w"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(
                    "another program is measuring this sweep",
                    hint="wait until it ends, or start a separate sweep without --resume",
                ) from None
            exits.callback(Path(lock.name).unlink, missing_ok=True)
        yield
