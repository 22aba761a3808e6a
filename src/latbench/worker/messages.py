"""The messages between the harness and a program that does one thing for it: ``docs/PROTOCOL.md``.

One JSON object a line, each with its ``type``. The program greets with :class:`Hello`; then every
request has exactly one answer, in order. Unknown fields are ignored, so either side may be newer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from latbench.errors import FailureKind, Stage
from latbench.schema.artifact import Artifact
from latbench.schema.trace import Placement, Profile, Readings

VERSION = 1
"""Version of the conversation. A program that speaks another one is refused."""


def _type(name: str) -> str:
    """``OutputsGiven`` -> ``outputs_given``."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=_type):
    """One line."""


class Hello(Message, frozen=True, kw_only=True):
    """What the program is, said once, unasked."""

    protocol: int
    program: str
    version: str
    pid: int


class Open(Message, frozen=True, kw_only=True):
    """Load ``artifact``, a file at ``path`` on the program's machine, with seeded inputs.

    A session that is open already is ended first.
    """

    backend: str
    artifact: Artifact
    path: str
    threads: int
    seed: int
    process: int
    extra: Mapping[str, str]
    pinned: bool = False
    """Keep to as many CPUs as there are threads."""


class SessionOpened(Message, frozen=True, kw_only=True, tag="opened"):
    """``load_ns``: from a runtime that is awake to a session that can run, inputs in place."""

    load_ns: int
    version: str | None
    settings: Mapping[str, str]
    placement: Placement


class Time(Message, frozen=True, kw_only=True):
    """Run ``calls`` inferences back to back, or one each ``period_ns``; readings are taken around
    all but the first ``settle``."""

    calls: int
    settle: int = 0
    period_ns: int | None = None


class BlockTimed(Message, frozen=True, kw_only=True, tag="timed"):
    """``start_ns`` counts from the moment the session was open."""

    start_ns: int
    sample_ns: tuple[int, ...]
    readings: Readings | None = None
    beside_ns: Mapping[str, tuple[int, ...]] = {}
    """The same calls by other clocks, by name."""


class TimeOperators(Message, frozen=True, kw_only=True):
    """Run ``calls`` more inferences and tell how long each operator takes."""

    calls: int


class OperatorsTimed(Message, frozen=True, kw_only=True):
    """``None`` where the runtime or this version of it cannot tell."""

    profile: Profile | None


class Outputs(Message, frozen=True, kw_only=True):
    """Give the outputs of the latest inference."""


class Tensor(msgspec.Struct, frozen=True, kw_only=True):
    """Little-endian elements in C order."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


class OutputsGiven(Message, frozen=True, kw_only=True):
    """The outputs, and the most memory that the program has held so far."""

    tensors: tuple[Tensor, ...]
    peak_rss_bytes: int | None


class Close(Message, frozen=True, kw_only=True):
    """End the session and the program."""


class Closed(Message, frozen=True, kw_only=True):
    """The last line."""


class Failed(Message, frozen=True, kw_only=True):
    """The request could not be met; the program can be asked again unless it says so by ending."""

    stage: Stage
    kind: FailureKind
    message: str
    hint: str | None = None
    detail: str | None = None


class Refused(Message, frozen=True, kw_only=True):
    """The request itself makes no sense: an option, a name or a file that does not fit."""

    message: str
    hint: str | None = None


class Export(Message, frozen=True, kw_only=True):
    """Make an artifact: the one request to the exporting program."""

    model: str
    weights: str | None
    batch: int | None
    resolution: tuple[int, int] | None
    seed: int
    format: str
    precision: str
    dims: Mapping[str, int]
    options: Mapping[str, str] = {}
    calibration: str | None = None
    out: str
    """Where the file is to be written."""
    reference: str
    """Where the reference outputs are to be written (``.npz``)."""


class ExportSentinel(Message, frozen=True, kw_only=True):
    """Make the sentinel of a format; fields as for :class:`Export`."""

    format: str
    out: str
    reference: str


class ExportDone(Message, frozen=True, kw_only=True):
    """What was made."""

    artifact: Artifact


WorkerRequest = Open | Time | TimeOperators | Outputs | Close | Export | ExportSentinel
Response = (
    Hello
    | SessionOpened
    | BlockTimed
    | OperatorsTimed
    | OutputsGiven
    | Closed
    | Failed
    | Refused
    | ExportDone
)
