"""Errors with a message and a hint for the user, and failures as values."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Literal

import msgspec

from latbench.file_names import shown_name

Stage = Literal["build", "export", "verify", "probe", "open", "warmup", "time", "outputs"]
"""The step that failed, in the order of execution."""

FailureKind = Literal[
    "error", "crash", "timeout", "out_of_memory", "mismatch", "unavailable", "disconnected"
]


class Failure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why there is no latency: the one value that is raised, sent, stored and printed."""

    stage: Stage
    kind: FailureKind
    message: str
    hint: str | None = None
    detail: str | None = None
    """The end of what the failed program wrote to its standard error, or the operators that are not
    on a required unit."""

    def __post_init__(self) -> None:
        # Messages name files, and a failure is stored as UTF-8.
        for name in ("message", "hint", "detail"):
            text = getattr(self, name)
            if text is not None and (shown := shown_name(text)) is not text:
                msgspec.structs.force_setattr(self, name, shown)


class LatbenchError(Exception):
    """An error that the user can act on. Printed as two lines, without a traceback."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        message = shown_name(message)
        super().__init__(message)
        self.message = message
        self.hint = None if hint is None else shown_name(hint)


class UsageError(LatbenchError):
    """The request is invalid or cannot be fulfilled as given (exit status 2)."""


class UnfitError(UsageError):
    """The parts of a request are valid but do not fit together, such as a precision that a format
    does not support or a pre-exported file of another format. A sweep skips such a point."""


class StageError(LatbenchError):
    """A step failed after the request was accepted; the record stores its :attr:`failure`."""

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
        self.failure = Failure(stage=stage, kind=kind, message=message, hint=hint, detail=detail)

    @classmethod
    def of(cls, failure: Failure) -> StageError:
        """The error that raises ``failure``."""
        return cls(
            failure.stage,
            failure.message,
            hint=failure.hint,
            kind=failure.kind,
            detail=failure.detail,
        )

    @property
    def stage(self) -> Stage:
        """The step that failed."""
        return self.failure.stage

    @property
    def kind(self) -> FailureKind:
        """What kind of failure it is."""
        return self.failure.kind

    @property
    def detail(self) -> str | None:
        """The end of the failed program's standard error."""
        return self.failure.detail


class RegistryError(LatbenchError):
    """The registry of records cannot be opened, read or written (exit status 3)."""


def failure_of(error: LatbenchError, otherwise: Stage = "open") -> Failure:
    """The failure of ``error``; ``otherwise`` is the stage of an error that has none."""
    if isinstance(error, StageError):
        return error.failure
    return Failure(stage=otherwise, kind="error", message=error.message, hint=error.hint)


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
    """Whether ``short`` is two to four letters that occur in ``name`` in order, the first one
    first."""
    rest = iter(name)
    return (
        short.isalpha()
        and 1 < len(short) <= 4
        and len(short) < len(name) / 2
        and name[0] == short[0]
        and all(letter in rest for letter in short)
    )


def listed(names: Iterable[str]) -> str:
    """``names`` joined by commas, for a message."""
    return ", ".join(names)


def first_line(error: BaseException | str, otherwise: str | None = None) -> str:
    """The first line of an exception or message that has words; ``otherwise`` if it is empty, by
    default the exception's type. Messages of foreign code may be pages long, and begin with a
    brace or a rule."""
    text = str(error).strip() or otherwise or type(error).__name__
    lines = [line.strip() for line in text.splitlines()]
    return next((line for line in lines if any(map(str.isalnum, line))), lines[0])


def choice_option(name: str, value: str, allowed: Iterable[str]) -> str:
    """``value`` of option ``name``, if it is one of ``allowed``. Raises :class:`UsageError`."""
    choices = tuple(allowed)
    if value not in choices:
        raise UsageError(f"{name} cannot be {value!r}", hint=f"one of: {listed(choices)}")
    return value


OUT_OF_MEMORY = ("allocate memory", "bad_alloc", "failed to map segment", "can't start new thread")
"""Words of runtimes, of the loader of shared libraries, and of Python's threads."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: ``MemoryError``, or a foreign error whose message says so."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY)
