"""Results that other tools took: what their output says, beside what the user says about it.

A reported result is a kind of stored entry of its own. It is not a
:class:`~latbench.schema.record.Record`: it has no protocol, no conditions and no samples that
latbench took, so it cannot be summarized, compared, or used as evidence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec

from latbench.errors import Failure, LatbenchError
from latbench.schema.artifact import Artifact, ModelIdentity
from latbench.schema.environment import Conditions, Device, Machine
from latbench.schema.value import Value

SCHEMA = 3
"""Schema 1 has no ``run``, schema 2 no ``failure``."""
LONGEST = 2**62
"""Every number of a result is below it, so that sums of two fit into 64 bits."""
LATENCY = "latency"
"""The quantity of ``statistics_ns`` and ``times_ns`` that is the time of one inference."""


class ReportedOperator(Value, frozen=True, kw_only=True):
    """One operator or layer that a tool lists."""

    name: str
    kind: str | None = None
    time_ns: int | None = None
    unit: str | None = None
    """Compute unit or delegate, in the tool's words."""


class ToolResult(Value, frozen=True, kw_only=True):
    """What the output of a tool says; what it does not say is ``None`` or absent."""

    tool: str
    tool_version: str | None = None
    form: str
    """Which of the tool's outputs it is, such as ``text`` or ``JSON``."""
    backend: str | None = None
    """The runtime, under the name of latbench's backend for it."""
    model_file: str | None = None
    """Path or name of the model, in the tool's words."""
    device_name: str | None = None
    precision: str | None = None
    threads: int | None = None
    batch: int | None = None
    date: str | None = None
    """ISO 8601, without a time zone if the tool gives none."""
    statistics_ns: dict[str, dict[str, int]] = msgspec.field(default_factory=dict)
    """Quantity (``latency``, ``gpu compute``, …) -> statistic (``mean``, ``p99``, …) -> value."""
    times_ns: dict[str, tuple[int, ...]] = msgspec.field(default_factory=dict)
    """Quantity -> single times, in the order of the file. The tool took them, not latbench."""
    once_ns: dict[str, int] = msgspec.field(default_factory=dict)
    """Durations of what happens once: ``load``, ``compile``, ``first inference``, …"""
    counts: dict[str, int] = msgspec.field(default_factory=dict)
    """``runs``, ``warm-up runs``, ``parallel requests``, …"""
    throughput_milli: dict[str, int] = msgspec.field(default_factory=dict)
    """Unit -> thousandths of it, such as ``inferences/s`` -> 1995290."""
    memory_bytes: dict[str, int] = msgspec.field(default_factory=dict)
    settings: dict[str, str] = msgspec.field(default_factory=dict)
    operators: tuple[ReportedOperator, ...] = ()
    notes: tuple[str, ...] = ()
    """What a reader must know to read the numbers."""


class StatedFacts(Value, frozen=True, kw_only=True):
    """What the user says about a result, because the file does not."""

    model: str | None = None
    device: str | None = None
    backend: str | None = None
    precision: str | None = None
    threads: int | None = None
    batch: int | None = None
    resolution: tuple[int, int] | None = None
    """Height and width."""
    tool_version: str | None = None
    date: str | None = None


class ToolRun(Value, frozen=True, kw_only=True):
    """How latbench itself ran a tool. What is not known is ``None``."""

    command: tuple[str, ...]
    """As it was started on the device, with the paths there."""
    variables: dict[str, str]
    program: str
    """Name of the program's file."""
    program_sha256: str | None
    """``None`` for a program of the device's own that could not be read there."""
    libraries: dict[str, str]
    """Name -> SHA-256 of the libraries that were given."""
    model: ModelIdentity
    artifact: Artifact
    device: Device
    address: str | None
    """How the device was reached; ``None`` for this machine."""
    reserved: bool
    """Whether the lock of the device was held, so that no other latbench measured there."""
    machine: Machine | None
    before: Conditions | None
    after: Conditions | None
    started_unix_ns: int
    """By the clock of the harness."""
    wall_ns: int
    """From the start of the program to its end."""
    output: str
    """All that it wrote, to standard output and standard error, in its order."""


class ReportedResult(Value, frozen=True, kw_only=True):
    """One stored result of another tool."""

    kind: Literal["reported"] = "reported"
    schema: int
    id: str
    created_unix_ns: int
    """When it was imported, or taken by latbench's run of the tool."""
    latbench: str
    """The version that read the file."""
    file: str
    """Name of the file, without its folder."""
    sha256: str
    """Digest of the file, or of the output of ``run``."""
    stated: StatedFacts
    result: ToolResult
    run: ToolRun | None = None
    """How latbench ran the tool; ``None`` if the output was imported."""
    failure: Failure | None = None
    """Why the run gave no result; ``result`` then only names the tool."""

    @property
    def model(self) -> str | None:
        """The model as stated, else the name of its file."""
        path = self.result.model_file
        return self.stated.model or (path and path.replace("\\", "/").rstrip("/").split("/")[-1])

    @property
    def device(self) -> str | None:
        """The device as stated, else its name in the file."""
        return self.stated.device or self.result.device_name

    @property
    def backend(self) -> str | None:
        return self.stated.backend or self.result.backend

    @property
    def precision(self) -> str | None:
        return self.stated.precision or self.result.precision

    @property
    def threads(self) -> int | None:
        return self.result.threads if self.stated.threads is None else self.stated.threads

    @property
    def batch(self) -> int | None:
        return self.result.batch if self.stated.batch is None else self.stated.batch

    @property
    def date(self) -> str | None:
        return self.stated.date or self.result.date

    @property
    def tool(self) -> str:
        """The tool with its version, such as ``trtexec 10.3.0``."""
        return f"{self.result.tool} {self.tool_version or ''}".rstrip()

    @property
    def tool_version(self) -> str | None:
        return self.stated.tool_version or self.result.tool_version

    def same_as(self, other: ReportedResult) -> bool:
        """Whether the other one is of the same file or run, with the same facts."""
        facts = ("sha256", "stated", "result", "run")
        return all(getattr(self, name) == getattr(other, name) for name in facts)


def encode_reported(result: ReportedResult) -> bytes:
    """Encode it as one JSON object."""
    return msgspec.json.encode(result)


def is_reported(tree: object) -> bool:
    """Whether decoded JSON is a reported result."""
    return isinstance(tree, Mapping) and tree.get("kind") == "reported"


def decode_reported(data: bytes | str) -> ReportedResult:
    """Decode a stored result. Raise :class:`LatbenchError` as :func:`convert_reported` does."""
    try:
        tree: object = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise LatbenchError(f"not a reported result: {error}", hint="it is damaged") from error
    return convert_reported(tree)


def reported_output(data: bytes) -> ReportedResult | None:
    """The result in the output of a command with `--json`, or alone; ``None`` if it has none.

    Raise :class:`LatbenchError` as :func:`convert_reported` does.
    """
    try:
        tree = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    tree = tree.get("reported", tree) if isinstance(tree, dict) else tree
    return convert_reported(tree) if is_reported(tree) else None


def convert_reported(tree: object) -> ReportedResult:
    """Convert decoded JSON. Raise :class:`LatbenchError` for a newer schema or wrong values."""
    found = tree.get("schema") if isinstance(tree, Mapping) else None
    if isinstance(found, int) and found > SCHEMA:
        raise LatbenchError(
            f"the reported result was written by a newer latbench (schema {found}; this one reads "
            f"up to {SCHEMA})",
            hint="upgrade latbench",
        )
    try:
        result = msgspec.convert(tree, ReportedResult)
    except msgspec.ValidationError as error:
        raise LatbenchError(
            f"the reported result has a wrong field: {error}",
            hint="it is damaged or was edited by hand",
        ) from error
    for name, value in _numbers(result):
        if not 0 <= value < LONGEST:
            raise LatbenchError(
                f"the reported result contains an impossible number: {value} in {name}",
                hint="it was edited or damaged",
            )
    return result


def _numbers(entry: ReportedResult) -> Iterator[tuple[str, int]]:
    result = entry.result
    yield "created_unix_ns", entry.created_unix_ns
    for quantity, statistics in result.statistics_ns.items():
        yield from ((f"statistics_ns.{quantity}", value) for value in statistics.values())
    for quantity, times in result.times_ns.items():
        yield from ((f"times_ns.{quantity}", value) for value in times)
    for name in ("once_ns", "counts", "throughput_milli", "memory_bytes"):
        yield from ((name, value) for value in getattr(result, name).values())
    yield from (("operators", each.time_ns or 0) for each in result.operators)
