"""Sweeps can be found again, blocks have the times of other clocks, and a fallback does not
displace the latest record of the backend that was used instead."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

LATEST = (
    *("device", "model", "backend", "requested_backend", "id", "created_unix_ns", "status"),
    *("precision", "input", "threads", "protocol", "median_ns", "sample_count"),
)


def upgrade() -> None:
    """Columns that older records leave empty, and another key, for which the table is rebuilt."""
    op.add_column("traces", sa.Column("beside", sa.LargeBinary))
    op.add_column("records", sa.Column("sweep", sa.Text))
    op.add_column("records", sa.Column("sweep_points", sa.Text))
    op.create_index("records_by_sweep", "records", ["sweep_points", "sweep"])
    op.create_table(
        "latest_3",
        sa.Column("device", sa.Text, primary_key=True),
        sa.Column("model", sa.Text, primary_key=True),
        sa.Column("backend", sa.Text, primary_key=True),
        sa.Column("requested_backend", sa.Text, primary_key=True),
        sa.Column("id", sa.Text, sa.ForeignKey("records.id"), nullable=False),
        sa.Column("created_unix_ns", sa.BigInteger, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("precision", sa.Text, nullable=False),
        sa.Column("input", sa.Text),
        sa.Column("threads", sa.Integer),
        sa.Column("protocol", sa.Text, nullable=False),
        sa.Column("median_ns", sa.BigInteger),
        sa.Column("sample_count", sa.Integer, nullable=False),
        sqlite_with_rowid=False,
    )
    kept = ", ".join(LATEST)
    op.execute(f"insert into latest_3 ({kept}) select {kept} from latest")  # noqa: S608 - from above
    op.drop_table("latest")
    op.rename_table("latest_3", "latest")


def downgrade() -> None:
    """What the new columns hold has no place in the old tables."""
    raise RuntimeError("a registry cannot go back to revision 0002")
