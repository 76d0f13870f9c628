"""Requests that have ended: what they were answered, what came of them, and when."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Requests that have ended."""
    op.create_table(
        "ended",
        sa.Column("shard", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("seq", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("part", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("clock", sa.BigInteger(), nullable=False),
        sa.Column("requests", sa.LargeBinary(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
    )
    if op.get_bind().dialect.name == "postgresql":
        for column in ("requests", "body"):  # hashes and what is compressed cannot be made smaller
            op.execute(f"ALTER TABLE ended ALTER COLUMN {column} SET STORAGE EXTERNAL")


def downgrade() -> None:
    """Undo it."""
    op.drop_table("ended")
