"""Traces of several sessions in a process, of the sentinel, and readings for each block."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

KEPT = (
    "record_id",
    "process",
    "load_ns",
    "first_ns",
    "warmup",
    "samples",
    "block_starts",
    "block_calls",
    "peak_rss_bytes",
)


def upgrade() -> None:
    """A primary key cannot be changed in SQLite, so the table is rebuilt."""
    op.create_table(
        "traces_2",
        sa.Column("record_id", sa.Text, sa.ForeignKey("records.id"), primary_key=True),
        sa.Column("role", sa.Text, primary_key=True),
        sa.Column("process", sa.Integer, primary_key=True),
        sa.Column("session", sa.Integer, primary_key=True),
        sa.Column("opened_ns", sa.BigInteger),
        sa.Column("load_ns", sa.BigInteger, nullable=False),
        sa.Column("first_ns", sa.BigInteger),
        sa.Column("warmup", sa.LargeBinary, nullable=False),
        sa.Column("samples", sa.LargeBinary, nullable=False),
        sa.Column("block_starts", sa.LargeBinary, nullable=False),
        sa.Column("block_calls", sa.LargeBinary, nullable=False),
        sa.Column("block_settle_calls", sa.LargeBinary),
        sa.Column("readings", sa.LargeBinary),
        sa.Column("peak_rss_bytes", sa.BigInteger),
    )
    kept = ", ".join(KEPT)
    op.execute(
        f"insert into traces_2 ({kept}, role, session) "  # noqa: S608 - names from above
        f"select {kept}, 'model', 0 from traces"
    )
    op.drop_table("traces")
    op.rename_table("traces_2", "traces")


def downgrade() -> None:
    """What the new columns hold has no place in the old table."""
    raise RuntimeError("a registry cannot go back to revision 0001")
