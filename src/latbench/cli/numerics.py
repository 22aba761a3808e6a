"""Load numpy. Where memory is limited, its native code may neither return nor raise.

OpenBLAS asks for memory until it gets some, and no signal reaches Python meanwhile. So it is first
loaded in a copy of this process, which can be ended. Later than other libraries it would need more
memory than there is left, so it comes first.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from latbench.errors import LatbenchError

ENOUGH_BYTES = 4 * 2**30
"""Numpy always loads within so much."""
LOAD_TIMEOUT_S = 20.0
_THREADS = "OPENBLAS_NUM_THREADS"


def memory_limit_bytes() -> int | None:
    """The limit of this process's memory; ``None`` if there is none, or a sufficient one."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    limits = (resource.getrlimit(each)[0] for each in (resource.RLIMIT_AS, resource.RLIMIT_DATA))
    known = [limit for limit in limits if limit != resource.RLIM_INFINITY and limit < ENOUGH_BYTES]
    return min(known, default=None)


def load_numpy() -> None:
    """Import numpy for computations in one thread. Raises :class:`LatbenchError` if it cannot be
    loaded within this process's limit of memory."""
    if "numpy" in sys.modules:
        return
    limit = memory_limit_bytes()
    # OpenBLAS sends SIGINT to the process if it cannot start its threads.
    with _one_thread():
        if limit is not None and not _loads_in_a_copy():
            raise LatbenchError(
                "not enough memory to load numpy",
                hint=f"raise its limit, which is {limit / 1e6:.0f} MB: ulimit -v, ulimit -d",
            )
        importlib.import_module("numpy")


@contextmanager
def _one_thread() -> Iterator[None]:
    """Set the number of threads for a library that is loaded now, not for other programs."""
    given = os.environ.get(_THREADS)
    os.environ[_THREADS] = "1"
    try:
        yield
    finally:
        if given is None:
            del os.environ[_THREADS]
        else:
            os.environ[_THREADS] = given


def _loads_in_a_copy() -> bool:
    """Whether a copy of this process can import numpy."""
    copy = os.fork()
    if copy == 0:
        with suppress(BaseException):
            silent = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silent, 1)
            os.dup2(silent, 2)
            importlib.import_module("numpy")
            os._exit(0)
        os._exit(1)
    status: int | None = None
    until = time.monotonic() + LOAD_TIMEOUT_S
    try:
        while status is None and time.monotonic() < until:
            time.sleep(0.01)
            ended, found = os.waitpid(copy, os.WNOHANG)
            status = found if ended else None
    finally:
        if status is None:
            os.kill(copy, 9)
            os.waitpid(copy, 0)
    return status == 0
