"""Results that other tools took are kept beside the records, never among them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """A table of their own."""
    op.create_table(
        "reported",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("created_unix_ns", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )


def downgrade() -> None:
    """The files that they came from have the results."""
    op.drop_table("reported")
