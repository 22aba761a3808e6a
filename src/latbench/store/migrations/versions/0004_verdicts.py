"""Verdicts on claims are kept, beside the records that they rest on; lists know of options."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """A table of their own; columns that older records leave empty."""
    for table in ("records", "latest"):
        op.add_column(table, sa.Column("options", sa.Text))
    op.create_table(
        "verdicts",
        sa.Column("claim", sa.Text, primary_key=True),
        sa.Column("created_unix_ns", sa.BigInteger, primary_key=True),
        sa.Column("body", sa.Text, nullable=False),
    )


def downgrade() -> None:
    """Verdicts follow from records, so nothing is lost."""
    op.drop_table("verdicts")
    for table in ("records", "latest"):
        op.drop_column(table, "options")
