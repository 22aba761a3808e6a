"""Observers: how a long operation reports warnings and progress while it runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Warn = Callable[[str], None]
"""Receives a message that the user should see."""
Progress = Callable[[int, int], None]
"""Receives the number of finished rounds and the approximate total."""
Traces = Callable[[Sequence[Sequence[Any]]], None]
"""Receives the traces of each timed part so far."""
Step = Callable[[Any], None]
"""Receives the value that the operation documents for its steps."""


def ignore(*_: object) -> None:
    """Do nothing with an event."""


def never() -> bool:
    """Return False: nobody has asked to stop."""
    return False


Waiting = Callable[[str], None]
"""Receives a text: about once a second, what the operation waits for; once, what to expect."""


@dataclass(frozen=True, kw_only=True)
class Events:
    """Callbacks of a long operation; each one defaults to doing nothing.

    ``warn`` receives messages, ``progress`` the rounds done and their approximate total,
    ``traces`` the traces of each timed part after each worker process, and ``step`` a value after
    each part of a longer operation: a :class:`~latbench.bench.sweep.SweepStep` in a sweep, a
    :class:`~latbench.audit.measure.TrialProgress` while claims are measured, a line of text in
    ``explain``. ``waiting`` receives what is waited for before a timing begins, and ``expected``
    once what the timing will take.
    """

    warn: Warn = ignore
    progress: Progress = ignore
    traces: Traces = ignore
    step: Step = ignore
    waiting: Waiting = ignore
    expected: Waiting = ignore


SILENT = Events()
"""Reports nothing."""
