"""An outbox for each destination: rows say where they go, and how often that was tried in vain.

Columns are added in place, so that ids, and the count of ids that were ever used, stay what they are. What 0.1.0 left
in the outbox is for the stream.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_COLUMNS: Final = ("destination", "created_at", "attempts", "next_at", "last_error")


def upgrade() -> None:
    """An outbox for each destination."""
    for column in (
        sa.Column("destination", sa.Text(), nullable=False, server_default=sa.text("'stream'")),
        sa.Column("created_at", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("next_at", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("last_error", sa.Text(), nullable=True),
    ):
        op.add_column("outbox", column)
    op.create_index("outbox_by_destination", "outbox", ["destination", "id"])


def downgrade() -> None:
    """Undo it. Messages for destinations that the earlier release does not know are dropped."""
    op.execute("DELETE FROM outbox WHERE destination <> 'stream'")
    op.drop_index("outbox_by_destination", "outbox")
    for column in reversed(_COLUMNS):
        op.drop_column("outbox", column)
