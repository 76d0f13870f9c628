"""Attempts to read: where the process stood in each partition when it began, and what it was reading when it ended."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Attempts to read partitions."""
    op.create_table(
        "attempt",
        sa.Column("shard", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("topic", sa.Text(), primary_key=True),
        sa.Column("partition", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("suspect", sa.BigInteger(), nullable=True),
        sa.Column("reading", sa.Boolean(), nullable=False),
        sa.Column("deaths", sa.Integer(), nullable=False),
    )


def downgrade() -> None:
    """Undo it."""
    op.drop_table("attempt")
