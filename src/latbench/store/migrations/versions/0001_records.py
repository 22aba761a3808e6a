"""Records, traces, machines and the latest of each group."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """From nothing."""
    op.create_table(
        "machines",
        sa.Column("digest", sa.Text, primary_key=True),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_table(
        "records",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("schema", sa.Integer, nullable=False),
        sa.Column("created_unix_ns", sa.BigInteger, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("device", sa.Text, nullable=False),
        sa.Column("backend", sa.Text, nullable=False),
        sa.Column("requested_backend", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("precision", sa.Text, nullable=False),
        sa.Column("input", sa.Text),
        sa.Column("threads", sa.Integer),
        sa.Column("protocol", sa.Text, nullable=False),
        sa.Column("median_ns", sa.BigInteger),
        sa.Column("sample_count", sa.Integer, nullable=False),
        sa.Column("machine", sa.Text, sa.ForeignKey("machines.digest"), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_index(
        "records_by_group", "records", ["model", "device", "backend", "created_unix_ns"]
    )
    op.create_table(
        "traces",
        sa.Column("record_id", sa.Text, sa.ForeignKey("records.id"), primary_key=True),
        sa.Column("process", sa.Integer, primary_key=True),
        sa.Column("load_ns", sa.BigInteger, nullable=False),
        sa.Column("first_ns", sa.BigInteger),
        sa.Column("warmup", sa.LargeBinary, nullable=False),
        sa.Column("samples", sa.LargeBinary, nullable=False),
        sa.Column("block_starts", sa.LargeBinary, nullable=False),
        sa.Column("block_calls", sa.LargeBinary, nullable=False),
        sa.Column("peak_rss_bytes", sa.BigInteger),
    )
    op.create_table(
        "latest",
        sa.Column("device", sa.Text, primary_key=True),
        sa.Column("model", sa.Text, primary_key=True),
        sa.Column("backend", sa.Text, primary_key=True),
        sa.Column("id", sa.Text, sa.ForeignKey("records.id"), nullable=False),
        sa.Column("created_unix_ns", sa.BigInteger, nullable=False),
        sa.Column("requested_backend", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("precision", sa.Text, nullable=False),
        sa.Column("input", sa.Text),
        sa.Column("threads", sa.Integer),
        sa.Column("protocol", sa.Text, nullable=False),
        sa.Column("median_ns", sa.BigInteger),
        sa.Column("sample_count", sa.Integer, nullable=False),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """To nothing."""
    for table in ("latest", "traces", "records", "machines"):
        op.drop_table(table)
