"""The tables, as of the newest migration."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)

metadata = MetaData()

machines = Table(
    "machines",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("body", Text, nullable=False),
)
"""Machine facts, stored once per machine: the longest part of a record, and always the same."""

records = Table(
    "records",
    metadata,
    Column("id", Text, primary_key=True),
    Column("schema", Integer, nullable=False),
    Column("created_unix_ns", BigInteger, nullable=False),
    Column("model", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("backend", Text, nullable=False),
    Column("requested_backend", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("precision", Text, nullable=False),
    Column("input", Text),
    Column("threads", Integer),
    Column("protocol", Text, nullable=False),
    Column("options", Text),
    Column("median_ns", BigInteger),
    Column("sample_count", Integer, nullable=False),
    Column("machine", Text, ForeignKey("machines.digest"), nullable=False),
    Column("body", Text, nullable=False),
    Column("sweep", Text),
    Column("sweep_points", Text),
    Index("records_by_sweep", "sweep_points", "sweep"),
    Index("records_by_group", "model", "device", "backend", "created_unix_ns"),
)
"""The record without its traces and machine facts, and the columns of lists."""

traces = Table(
    "traces",
    metadata,
    Column("record_id", Text, ForeignKey("records.id"), primary_key=True),
    Column("role", Text, primary_key=True),
    Column("process", Integer, primary_key=True),
    Column("session", Integer, primary_key=True),
    Column("opened_ns", BigInteger),
    Column("load_ns", BigInteger, nullable=False),
    Column("first_ns", BigInteger),
    Column("warmup", LargeBinary, nullable=False),
    Column("samples", LargeBinary, nullable=False),
    Column("block_starts", LargeBinary, nullable=False),
    Column("block_calls", LargeBinary, nullable=False),
    Column("block_settle_calls", LargeBinary),
    Column("readings", LargeBinary),
    Column("beside", LargeBinary),
    Column("peak_rss_bytes", BigInteger),
)
"""The times of one session: blobs of ``latbench.schema.codec``. ``role`` is ``model`` or
``sentinel``."""

verdicts = Table(
    "verdicts",
    metadata,
    Column("claim", Text, primary_key=True),
    Column("created_unix_ns", BigInteger, primary_key=True),
    Column("body", Text, nullable=False),
)
"""Verdicts on claims, with the version of latbench and the records."""

reported = Table(
    "reported",
    metadata,
    Column("id", Text, primary_key=True),
    Column("created_unix_ns", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("body", Text, nullable=False),
)
"""Results that other tools took, apart from the records: nothing that reads records finds them."""

latest = Table(
    "latest",
    metadata,
    # The device first and no rowid, so that all groups of a device stand side by side on disk.
    Column("device", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("backend", Text, primary_key=True),
    Column("requested_backend", Text, primary_key=True),
    Column("id", Text, ForeignKey("records.id"), nullable=False),
    Column("created_unix_ns", BigInteger, nullable=False),
    Column("status", Text, nullable=False),
    Column("precision", Text, nullable=False),
    Column("input", Text),
    Column("threads", Integer),
    Column("protocol", Text, nullable=False),
    Column("options", Text),
    Column("median_ns", BigInteger),
    Column("sample_count", Integer, nullable=False),
    sqlite_with_rowid=False,
)
"""The newest record of each model x device x backend x requested backend, kept in the transaction
of each insert.

All that a list shows stands here once more: looked up in ``records``, whose rows are long, 3,600
groups of a device took 20 ms, here they take 3 ms.
"""
