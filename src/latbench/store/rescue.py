"""What was measured is kept, whatever happens to the registry."""

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


def keep(records: Sequence[Record], store: Registry) -> None:
    """Store them; where the registry will not take them, leave them in files.

    Ctrl-C takes effect once they are safe. Raises :class:`RegistryError` where they are not in the
    registry: it says where they are.
    """
    with _undisturbed():
        try:
            store.add_many(records)
        except RegistryError as error:
            raise _rescued(records, error) from error


def _rescued(records: Sequence[Record], error: RegistryError) -> RegistryError:
    """Write them to files in the first folder that takes them, else to standard error."""
    folders: tuple[Callable[[], Path], ...] = (
        Path.cwd,
        Path.home,
        lambda: Path(tempfile.gettempdir()),
    )
    for folder in folders:
        # A working directory may be gone, a user without a home, a disk full.
        with suppress(OSError, RuntimeError, LatbenchError):
            listed = " ".join(str(_written(record, folder())) for record in records)
            return RegistryError(
                f"{error.message}. The measurement is not lost: {listed}",
                hint=f"mend the registry, then: latbench import {listed}",
            )
    with suppress(OSError):
        for record in records:
            sys.stderr.write(f"{encode_record(record).decode()}\n")
    return RegistryError(
        f"{error.message}, and no file can be written. The measurement is on standard error alone",
        hint="copy each record, a line of JSON, into a file, mend the registry, then: "
        "latbench import FILE",
    )


def _written(record: Record, folder: Path) -> Path:
    path = folder / f"latbench-{record.id}.json"
    write_beside(path, lambda beside: beside.write_bytes(encode_record(record)))
    return path


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ctrl-C and SIGTERM take effect after the block."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python handles signals in the main thread alone.
        return
    held: list[int] = []
    # A handler that is None is not Python's, and could not be put back.
    known = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not None]
    previous = {n: signal.signal(n, lambda number, frame: held.append(number)) for n in known}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if held:
        signal.raise_signal(held[0])
