"""The tables of the first release."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TABLES: Final = (
    "shard", "join_segment", "join_alive", "join_closed", "code", "model_state", "pane", "outcome_log", "learned",
    "reference", "history_layout", "history", "alert", "decision", "outbox", "command", "gap",
)  # fmt: skip
_COMPRESSED: Final = ("join_segment", "join_closed", "pane", "outcome_log", "learned")  # their column `body`


def _id() -> sa.types.TypeEngine[int]:
    # SQLite counts up INTEGER keys only.
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _key(name: str, kind: sa.types.TypeEngine[Any]) -> sa.Column[Any]:
    """A part of a primary key that nobody counts up."""
    return sa.Column(name, kind, primary_key=True, autoincrement=False, nullable=False)


def _column(name: str, kind: sa.types.TypeEngine[Any], *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=null)


def _number() -> sa.Column[Any]:
    """A key that the database counts up."""
    return sa.Column("id", _id(), primary_key=True, autoincrement=True, nullable=False)


def upgrade() -> None:
    """The tables of the first release."""
    _progress()
    _join()
    _models()
    _history()
    _messages()
    if op.get_bind().dialect.name == "postgresql":
        for table in _COMPRESSED:
            # Its own compression would find nothing left to do, and take its time to find that out.
            op.execute(f"ALTER TABLE {table} ALTER COLUMN body SET STORAGE EXTERNAL")


def _progress() -> None:
    op.create_table(
        "shard",
        _key("id", sa.Integer()),
        _column("epoch", sa.BigInteger()),
        _column("owner", sa.Text(), null=True),
        _column("seq", sa.BigInteger()),
        _column("updated_at", sa.Float()),
        _column("stream_time", sa.BigInteger()),
        _column("positions", sa.Text()),
        _column("state", sa.Text()),
        _column("totals", sa.Text()),
        _column("hash_seed", sa.Text()),
    )
    op.create_table(
        "gap",
        _key("topic", sa.Text()),
        _key("partition", sa.Integer()),
        _key("from_offset", sa.BigInteger()),
        _column("to_offset", sa.BigInteger()),
        _column("seq", sa.BigInteger()),
    )


def _join() -> None:
    op.create_table(
        "join_segment",
        _key("shard", sa.Integer()),
        _key("id", sa.BigInteger()),
        _column("rows", sa.Integer()),
        _column("min_time", sa.BigInteger()),
        _column("max_time", sa.BigInteger()),
        _column("body", sa.LargeBinary()),
    )
    op.create_table(
        "join_alive",
        _key("shard", sa.Integer()),
        _key("id", sa.BigInteger()),
        _column("as_of", sa.BigInteger()),
        _column("bits", sa.LargeBinary()),
    )
    op.create_table(
        "join_closed",
        _key("shard", sa.Integer()),
        _key("seq", sa.BigInteger()),
        _column("generation", sa.Integer()),
        _column("clock", sa.BigInteger()),
        _column("body", sa.LargeBinary()),
    )
    op.create_table(
        "code",
        _key("model", sa.Text()),
        _key("kind", sa.Text()),
        _key("code", sa.Integer()),
        _column("text", sa.Text()),
    )


def _models() -> None:
    op.create_table(
        "model_state",
        _key("model", sa.Text()),
        _column("seq", sa.BigInteger()),
        _column("body", sa.Text()),
    )
    op.create_table(
        "pane",
        _key("model", sa.Text()),
        _key("variant", sa.Integer()),
        _key("pane", sa.BigInteger()),
        _key("seq", sa.BigInteger()),
        _column("body", sa.LargeBinary()),
    )
    op.create_table(
        "outcome_log",
        _key("model", sa.Text()),
        _key("variant", sa.Integer()),
        _key("seq", sa.BigInteger()),
        _column("body", sa.LargeBinary()),
    )
    op.create_table(
        "learned",
        _key("model", sa.Text()),
        _key("subject", sa.Text()),
        _key("seq", sa.BigInteger()),
        _column("body", sa.LargeBinary()),
    )
    op.create_table(
        "reference",
        _number(),
        _column("model", sa.Text()),
        _column("subject", sa.Text()),
        _column("hash", sa.Text()),
        _column("state", sa.Text()),
        _column("seq", sa.BigInteger()),
        _column("source", sa.Text()),
        _column("body", sa.LargeBinary()),
    )
    op.create_index("reference_of_model", "reference", ["model", "subject", "state"])


def _history() -> None:
    op.create_table(
        "history_layout",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True, nullable=False),
        sa.Column("hash", sa.Text(), nullable=False, unique=True),
        _column("names", sa.Text()),
    )
    op.create_table(
        "history",
        _key("model", sa.Text()),
        _key("version", sa.Text()),
        _key("outcomes", sa.Boolean()),
        _key("end_ms", sa.BigInteger()),
        _key("start_ms", sa.BigInteger()),
        _column("layout", sa.Integer()),
        _column("coverage", sa.Float(), null=True),
        _column("body", sa.LargeBinary()),
    )
    op.create_index("history_by_end", "history", ["end_ms"])
    op.create_table(
        "alert",
        _key("event_id", sa.Text()),
        _key("seq", sa.Integer()),
        _column("fingerprint", sa.Text()),
        _column("model", sa.Text()),
        _column("kind", sa.Text()),
        _column("status", sa.Text()),
        _column("silenced", sa.Boolean()),
        _column("issued_at", sa.BigInteger()),
        _column("body", sa.Text()),
    )
    op.create_index("alert_by_fingerprint", "alert", ["fingerprint", "seq"])
    op.create_index("alert_by_time", "alert", ["issued_at"])
    op.create_table(
        "decision",
        _key("model", sa.Text()),
        _key("generation", sa.BigInteger()),
        _column("reason", sa.Text()),
        _column("issued_at", sa.BigInteger()),
        _column("body", sa.Text()),
    )


def _messages() -> None:
    op.create_table(
        "outbox",
        _number(),
        _column("kind", sa.Text()),
        _column("key", sa.LargeBinary()),
        _column("value", sa.LargeBinary()),
        _column("headers", sa.Text()),
        sqlite_autoincrement=True,  # an id is never used twice, also when the table was empty in between
    )
    op.create_table(
        "command",
        _number(),
        sa.Column("idempotency_key", sa.Text(), nullable=True, unique=True),
        _column("model", sa.Text()),
        _column("name", sa.Text()),
        _column("arguments", sa.Text()),
        _column("reason", sa.Text()),
        _column("who", sa.Text()),
        _column("created_at", sa.Float()),
        _column("applied_seq", sa.BigInteger(), null=True),
        _column("result", sa.Text(), null=True),
    )


def downgrade() -> None:
    """Undo it."""
    for table in reversed(_TABLES):
        op.drop_table(table)
