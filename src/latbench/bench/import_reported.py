"""``latbench import --from``: keep what the output of another tool says."""

from __future__ import annotations

import hashlib
import time
from datetime import datetime
from pathlib import Path

from latbench.bench.record_factory import new_id
from latbench.defaults import LOCAL
from latbench.devices.local import LocalDevice
from latbench.errors import Failure, LatbenchError, UsageError, suggest
from latbench.reported.tools import AUTO, read_output, require_agreement
from latbench.schema.precision import PRECISIONS
from latbench.schema.reported import (
    SCHEMA,
    ReportedResult,
    StatedFacts,
    ToolResult,
    ToolRun,
    decode_reported,
    encode_reported,
)
from latbench.version import latbench_version

XCODE_REPORT = "report.json"
"""What a `.mlperf` folder of Xcode holds."""


def import_reported(
    path: str | Path,
    tool: str = AUTO,
    *,
    model: str | None = None,
    device: str | None = None,
    backend: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
    batch: int | None = None,
    resolution: tuple[int, int] | None = None,
    tool_version: str | None = None,
    date: str | None = None,
    registry: str | None = None,
) -> ReportedResult:
    """Read the output of another tool in a file, store the result and return it.

    ``tool`` is a name that ``latbench import --from`` takes; ``auto`` looks at the content. The
    other facts are those that the file does not say; ``resolution`` is height and width in pixels,
    ``date`` is ISO 8601. Raises :class:`~latbench.UsageError` for a file that is not a complete
    output of the tool or contradicts a fact, and :class:`~latbench.RegistryError` if the same is
    stored already.
    """
    from latbench.store.registry import Registry

    stated = stated_facts(
        StatedFacts(
            model=model,
            device=device,
            backend=backend,
            precision=precision,
            threads=threads,
            batch=batch,
            resolution=resolution,
            tool_version=tool_version,
            date=date,
        )
    )
    found = read_reported(Path(path), tool, stated)
    with Registry.open(registry) as store:
        store.add_many((), (found,))
    return found


def stated_facts(stated: StatedFacts) -> StatedFacts:
    """The facts that the user gives, checked. Raises :class:`UsageError`."""
    import msgspec

    if stated.device == LOCAL:
        stated = msgspec.structs.replace(stated, device=LocalDevice().row.id)
    if stated.precision is not None and stated.precision not in PRECISIONS:
        raise UsageError(
            f"unknown precision {stated.precision!r}", hint=suggest(stated.precision, PRECISIONS)
        )
    try:
        datetime.fromisoformat(stated.date or "2026-11-30")
    except ValueError:
        raise UsageError(
            f"{stated.date!r} is not a date", hint="2026-11-30 or 2026-11-30T09:00"
        ) from None
    return stated


def read_reported(path: Path, tool: str, stated: StatedFacts) -> ReportedResult:
    """The result in the output of a tool. Raises :class:`UsageError`, with the file's name."""
    inside = path / XCODE_REPORT
    source = inside if path.is_dir() and inside.is_file() else path
    try:
        content = source.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {source}: {error.strerror}") from error
    try:
        result = read_output(content, tool)
        require_agreement(result, stated)
        return new_reported(path.name, content, stated, result)
    except LatbenchError as error:
        raise UsageError(f"{path}: {error.message}", hint=error.hint) from error


def new_reported(
    file: str,
    content: bytes,
    stated: StatedFacts,
    result: ToolResult,
    run: ToolRun | None = None,
    failure: Failure | None = None,
) -> ReportedResult:
    """A result with an id. Raises :class:`LatbenchError` for impossible numbers."""
    now = time.time_ns()
    entry = ReportedResult(
        schema=SCHEMA,
        id=new_id(now),
        created_unix_ns=now,
        latbench=latbench_version(),
        file=file,
        sha256=hashlib.sha256(content).hexdigest(),
        stated=stated,
        result=result,
        run=run,
        failure=failure,
    )
    return decode_reported(encode_reported(entry))
