"""Records as rows of one table, and the table for programs: CSV and Parquet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from latbench.analysis.reported_latency import reported_latency
from latbench.analysis.settings import input_texts, own_options
from latbench.analysis.summary import Summary
from latbench.errors import UsageError
from latbench.report.placement import placed
from latbench.report.writers import csv_table
from latbench.schema.artifact import Artifact, shape_text
from latbench.schema.record import Record
from latbench.schema.reported import ReportedResult
from latbench.schema.value import Value

if TYPE_CHECKING:
    from latbench.store.listing import Row


class TableRow(Value, frozen=True, kw_only=True):
    """One record. Units are in the names; ``None``: there is no such value."""

    id: str
    created_unix_ns: int
    model: str
    backend: str
    """The requested one; all columns below describe it alone."""
    fell_back_to: str | None
    """If it could not run: what was timed instead, with its numbers in the last columns."""
    device: str
    precision: str
    """Of the file; without one, as requested."""
    computed_in: str | None
    """The precision of the arithmetic, if the runtime reports another one."""
    input: str | None
    """Shapes of all inputs."""
    threads: int | None
    options: str | None
    """Requested options of the backend and its exporter."""
    weights: str
    """``seed:N``, ``sha256:`` of the weights file, or ``file`` if they came with the model."""
    runtime: str | None
    """Its version."""
    format: str | None
    artifact_sha256: str | None
    artifact_bytes: int | None
    parameters: int | None
    """Of the PyTorch model; of the file if there is none."""
    macs: int | None
    macs_equal: bool | None
    """Whether the file's MACs are those of the PyTorch model."""
    max_rel_error: float | None
    cosine: float | None
    top1_agreement_ppm: int | None
    status: str
    protocol: str
    """How it was timed, with its version."""
    protocol_sha256: str
    """Differs between protocols of one name with other settings, such as another budget."""
    median_ns: int | None
    """The latency; ``None`` for a protocol of cold starts."""
    low_ns: int | None
    high_ns: int | None
    """Ends of the interval over processes."""
    best_case_ns: int | None
    normalized: float | None
    """Latency divided by the sentinel's."""
    statistic: str | None
    """The protocol's own statistic; its value is ``reported``."""
    reported: float | None
    reported_unit: str | None
    reliability: str | None
    peak_rss_bytes: int | None
    load_ns: int | None
    first_ns: int | None
    """The first inference; with ``load_ns`` it is the cold start."""
    placement: str | None
    failure: str | None
    fallback_record: str | None
    fallback_median_ns: int | None
    reported_by: str | None
    """The tool whose result it is; ``None`` for what latbench measured. ``statistic`` and
    ``reported`` are then the tool's own."""


def row(record: Record, summary: Summary | None) -> TableRow:
    """The row of a record.

    The artifact is that of the requested backend, also if it could not run; timings are there only
    if it ran and was measured to the end.
    """
    fallback, failure = record.fallback, record.outcome.failure
    fell_back = record.backend != record.request.backend
    artifact = record.artifact
    if fell_back:  # records of before schema 3 have no artifact for the backend that was asked for
        artifact = fallback.artifact if fallback is not None else None
        failure = fallback.failure if fallback is not None else None
    whole = summary if record.outcome.status == "measured" else None
    summary, runtime = (None, None) if fell_back else (whole, record.runtime)
    warm = summary if summary and summary.warm else None
    over = warm is not None and warm.interval_level == "processes"
    low, high = (over and warm and warm.interval_ns) or (None, None)
    settings = runtime.settings if runtime else {}
    threads = settings.get("threads", "")
    precision = artifact.precision if artifact else record.request.precision
    computed_in = settings.get("precision")
    parity = artifact.parity if artifact is not None else None
    return TableRow(
        id=record.id,
        created_unix_ns=record.created_unix_ns,
        model=record.model.name,
        backend=record.request.backend,
        fell_back_to=record.backend if fell_back else None,
        device=record.device.id,
        precision=precision,
        computed_in=computed_in if computed_in != precision else None,
        input=" + ".join(input_texts(artifact)) or None,
        threads=int(threads) if threads.isdecimal() else None,
        options=",".join(f"{key}={value}" for key, value in own_options(record).items()) or None,
        weights=record.model.weights,
        runtime=runtime.version if runtime else None,
        format=artifact.format if artifact else None,
        artifact_sha256=artifact.sha256 if artifact else None,
        artifact_bytes=artifact.size_bytes if artifact else None,
        parameters=_parameters(artifact),
        macs=artifact.counts.macs if artifact and artifact.counts else None,
        macs_equal=_macs_equal(artifact),
        max_rel_error=parity.max_rel_error if parity else None,
        cosine=parity.cosine if parity else None,
        top1_agreement_ppm=parity.top1_agreement_ppm if parity else None,
        status=record.outcome.status,
        protocol=record.protocol.label,
        protocol_sha256=record.protocol_sha256,
        median_ns=warm.median_ns if warm else None,
        low_ns=low,
        high_ns=high,
        best_case_ns=warm.best_case_ns if warm else None,
        normalized=warm.normalized.ratio if warm and warm.normalized else None,
        statistic=summary.reported.statistic if summary else None,
        reported=summary.reported.value if summary else None,
        reported_unit=summary.reported.unit if summary else None,
        reliability=summary.reliability if summary else None,
        peak_rss_bytes=summary.peak_rss_bytes if summary else None,
        load_ns=summary.load_ns if summary else None,
        first_ns=summary.first_ns if summary else None,
        placement=placed(runtime.placement) if runtime and runtime.placement else None,
        failure=f"{failure.stage}: {failure.message}" if failure else None,
        fallback_record=record.id if fell_back else None,
        fallback_median_ns=whole.median_ns if whole and whole.warm and fell_back else None,
        reported_by=None,
    )


def reported_row(entry: ReportedResult) -> TableRow:
    """The row of a result of another tool: what it says is never in the columns of latencies."""
    empty: dict[str, Any] = dict.fromkeys(TableRow.__struct_fields__)
    latency, resolution = reported_latency(entry.result), entry.stated.resolution
    known: dict[str, Any] = {
        "id": entry.id,
        "created_unix_ns": entry.created_unix_ns,
        "model": entry.model or "",
        "backend": entry.backend or "",
        "device": entry.device or "",
        "precision": entry.precision or "",
        "input": None if resolution is None else shape_text(resolution),
        "threads": entry.threads,
        "weights": "",
        "status": "reported",
        "protocol": "",
        "protocol_sha256": "",
        "statistic": None if latency is None else latency.statistic,
        "reported": None if latency is None else float(latency.value_ns),
        "reported_unit": None if latency is None else "ns",
        "reported_by": entry.tool,
        "failure": entry.failure and f"{entry.failure.kind}: {entry.failure.message}",
    }
    return TableRow(**{**empty, **known})


def listed_row(listed: Row) -> TableRow:
    """The row of a record that was not read: what the registry's own columns hold."""
    empty: dict[str, Any] = dict.fromkeys(TableRow.__struct_fields__)
    fell_back = listed.backend != listed.requested_backend
    known: dict[str, Any] = {
        "id": listed.id,
        "created_unix_ns": listed.created_unix_ns,
        "model": listed.model,
        "backend": listed.requested_backend,
        "fell_back_to": listed.backend if fell_back else None,
        "device": listed.device,
        "precision": listed.precision,
        "input": listed.input,
        "threads": listed.threads,
        "options": listed.options,
        "weights": "",
        "status": listed.status,
        "protocol": listed.protocol,
        "protocol_sha256": "",
        "fallback_median_ns" if fell_back else "median_ns": listed.median_ns,
    }
    return TableRow(**{**empty, **known})


def to_csv(rows: Sequence[TableRow]) -> str:
    """CSV with a header; cells without a value are empty."""
    names = TableRow.__struct_fields__
    return csv_table(names, ([getattr(row, name) for name in names] for row in rows))


def write_parquet(rows: Sequence[TableRow], path: Path) -> None:
    """Write a file with a column for each field. Raises :class:`UsageError` without pyarrow."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UsageError(
            "writing Parquet needs pyarrow, which is not installed",
            hint="pip install 'latbench[parquet]'",
        ) from error
    kinds: Mapping[object, object] = {
        "str": pa.string(),
        "int": pa.int64(),
        "float": pa.float64(),
        "bool": pa.bool_(),
    }
    schema = pa.schema(
        [
            (name, kinds[str(kind).partition(" ")[0]])
            for name, kind in TableRow.__annotations__.items()
        ]
    )
    plain = [msgspec.to_builtins(row) for row in rows]
    pq.write_table(pa.Table.from_pylist(plain, schema=schema), path)


def _parameters(artifact: Artifact | None) -> int | None:
    counts = artifact and (artifact.model_counts or artifact.counts)
    return counts.parameters if counts else None


def _macs_equal(artifact: Artifact | None) -> bool | None:
    if artifact is None or artifact.counts is None or artifact.model_counts is None:
        return None
    return artifact.counts.macs == artifact.model_counts.macs
