"""The errors that a user can meet, each with what to do about it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Literal

Stage = Literal["build", "export", "verify", "probe", "open", "warmup", "time", "outputs"]
"""Where on the way to a number something went wrong, in the order in which they happen."""

FailureKind = Literal["error", "crash", "timeout", "out_of_memory", "mismatch", "unavailable"]


class LatbenchError(Exception):
    """Something that the user can act on. Printed as two lines, never as a traceback."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(LatbenchError):
    """The request cannot be understood or cannot be met as it was asked for (exit status 2)."""


class UnfitError(UsageError):
    """Each part of the request is known, but they do not go together: a precision that a format
    cannot have, a ready file of another format. In a sweep such a point is passed over."""


class StageError(LatbenchError):
    """A step failed after the request was understood; it becomes the failure of a record."""

    def __init__(
        self,
        stage: Stage,
        message: str,
        *,
        hint: str | None = None,
        kind: FailureKind = "error",
        detail: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.stage = stage
        self.kind = kind
        self.detail = detail


class RegistryError(LatbenchError):
    """The registry of records cannot be opened, read or written (exit status 3)."""


MOST_LISTED = 12
"""Names that a hint lists; a longer list would hide the message."""


def suggest(name: str, known: Iterable[str], *, otherwise: str | None = None) -> str | None:
    """A hint that offers the known names closest to ``name``.

    Abbreviations count as close: ``ort`` is offered ``onnxruntime``. Without a close name the hint
    lists all of them, or is ``otherwise`` if there are more than :data:`MOST_LISTED`.
    """
    names = sorted(known)
    close = [each for each in names if _abbreviates(name, each)][:3]
    close = close or difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return f"did you mean {listed(close)}?"
    if len(names) > MOST_LISTED:
        return otherwise
    return f"known: {listed(names)}" if names else otherwise


def _abbreviates(short: str, name: str) -> bool:
    """Whether the letters of ``short`` occur in ``name`` in order, the first one first, and are
    fewer than half of it."""
    rest = iter(name)
    return 1 < len(short) < len(name) / 2 and name[0] == short[0] and all(c in rest for c in short)


def listed(names: Iterable[str]) -> str:
    """``names`` joined by commas, for a message."""
    return ", ".join(names)


def first_line(error: BaseException | str, otherwise: str | None = None) -> str:
    """The first line of an exception or message; ``otherwise`` if it is empty, by default the
    exception's type. Messages of foreign code may be pages long."""
    text = str(error).strip() or otherwise or type(error).__name__
    return text.splitlines()[0]


def choice_option(name: str, value: str, allowed: Iterable[str]) -> str:
    """``value`` of option ``name``, if it is one of ``allowed``. Raises :class:`UsageError`."""
    choices = tuple(allowed)
    if value not in choices:
        raise UsageError(f"{name} cannot be {value!r}", hint=f"one of: {listed(choices)}")
    return value


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: ``MemoryError``, or a foreign error whose message says so."""
    text = str(error)
    return isinstance(error, MemoryError) or "allocate memory" in text or "bad_alloc" in text
