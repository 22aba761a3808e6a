"""Keep what was measured even if the registry cannot store it."""

from __future__ import annotations

import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from latbench.errors import LatbenchError, RegistryError
from latbench.files import write_beside
from latbench.schema.codec import encode_record
from latbench.schema.record import Record

if TYPE_CHECKING:
    from latbench.store.registry import Registry


DELAYED = ("SIGINT", "SIGTERM", "SIGHUP")


def keep(records: Sequence[Record], store: Registry) -> None:
    """Store the records; if the registry fails, write them to files.

    Ctrl-C takes effect once they are safe. Raises :class:`RegistryError` with their location if
    they are not in the registry.
    """
    with _undisturbed():
        try:
            store.add_many(records)
        except RegistryError as error:
            raise _rescued(records, error) from error


def _rescued(records: Sequence[Record], error: RegistryError) -> RegistryError:
    """Write the records to files in the first writable folder, else to standard error."""
    folders: tuple[Callable[[], Path], ...] = (
        Path.cwd,
        Path.home,
        lambda: Path(tempfile.gettempdir()),
    )
    for folder in folders:
        # The working directory may not exist, the user may have no home, the disk may be full.
        with suppress(OSError, RuntimeError, LatbenchError):
            listed = " ".join(str(_written(record, folder())) for record in records)
            return RegistryError(
                f"{error.message}. The measurement is not lost: {listed}",
                hint=f"repair the registry, then run: latbench import {listed}",
            )
    with suppress(OSError):
        for record in records:
            sys.stderr.write(f"{encode_record(record).decode()}\n")
    return RegistryError(
        f"{error.message}, and no file can be written. The measurement is only on standard error",
        hint="copy each record, a line of JSON, into a file, repair the registry, then "
        "run: latbench import FILE",
    )


def _written(record: Record, folder: Path) -> Path:
    path = folder / f"latbench-{record.id}.json"
    write_beside(path, lambda beside: beside.write_bytes(encode_record(record)))
    return path


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Delay Ctrl-C, SIGTERM and SIGHUP until the end of the block."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python handles signals only in the main thread.
        return
    held: list[int] = []
    # A handler that is None was not set by Python and cannot be restored.
    numbers = [getattr(signal, name) for name in DELAYED if hasattr(signal, name)]
    known = [n for n in numbers if signal.getsignal(n) is not None]
    previous = {n: signal.signal(n, lambda number, frame: held.append(number)) for n in known}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if held:
        signal.raise_signal(held[0])
