"""Ctrl-C, SIGTERM and a closed terminal: a run ends in order."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from latbench.cli.numerics import load_numpy

if TYPE_CHECKING:
    from types import FrameType

ENDING = ("SIGINT", "SIGTERM", "SIGHUP")
"""Signals that end a run; SIGHUP comes from a terminal that is closed."""
SAME_REQUEST_S = 1.0
"""Ctrl-C reaches a program twice if the one that started it passes signals on: within this time,
the second is the same request."""


@contextmanager
def interrupted_once() -> Iterator[Callable[[], bool]]:
    """Ctrl-C, SIGTERM or SIGHUP ends a run in order; a later second one ends it at once.

    Ending in order means to end the worker and to store what was measured, which takes a moment.
    What is yielded says whether it was asked for: what a point has left to do may end by it without
    ending the sweep.
    """
    numbers = [getattr(signal, name) for name in ENDING if hasattr(signal, name)]
    # Its native code may hang, where memory is limited, and Python calls no handler until it
    # returns: before a handler is set, SIGTERM ends the program.
    load_numpy()
    # What nohup has set stays.
    numbers = [n for n in numbers if n == signal.SIGINT or signal.getsignal(n) != signal.SIG_IGN]
    first_s: float | None = None

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal first_s
        now_s = time.monotonic()
        if first_s is None:
            first_s = now_s
            raise KeyboardInterrupt
        if now_s - first_s > SAME_REQUEST_S:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    previous = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield lambda: first_s is not None
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
