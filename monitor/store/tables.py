"""The tables, in one MetaData.

Binary columns begin with a magic number of their format; JSON is stored as text, so that SQLite and PostgreSQL hold
the same. The `shard` row is the owner's claim and progress: every commit begins by updating it under the owner's epoch.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

metadata: Final = sa.MetaData()
_Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # SQLite autoincrements INTEGER keys only

shard: Final = sa.Table(
    "shard",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("owner", sa.Text),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("updated_at", sa.Float, nullable=False),  # of the database's clock, seconds
    sa.Column("stream_time", sa.BigInteger, nullable=False),
    sa.Column("positions", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("totals", sa.Text, nullable=False),
    sa.Column("hash_seed", sa.Text, nullable=False),
)

join_segment: Final = sa.Table(
    "join_segment",
    metadata,
    sa.Column("shard", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("rows", sa.Integer, nullable=False),
    sa.Column("min_time", sa.BigInteger, nullable=False),
    sa.Column("max_time", sa.BigInteger, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
)

join_alive: Final = sa.Table(
    "join_alive",
    metadata,
    sa.Column("shard", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("as_of", sa.BigInteger, nullable=False),
    sa.Column("bits", sa.LargeBinary, nullable=False),
)

join_closed: Final = sa.Table(
    "join_closed",
    metadata,
    sa.Column("shard", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("clock", sa.BigInteger, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
)

code: Final = sa.Table(
    "code",
    metadata,
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("code", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("text", sa.Text, nullable=False),
)

model_state: Final = sa.Table(
    "model_state",
    metadata,
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
)

pane: Final = sa.Table(
    "pane",
    metadata,
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("variant", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("pane", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
)

outcome_log: Final = sa.Table(
    "outcome_log",
    metadata,
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("variant", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
)

learned: Final = sa.Table(
    "learned",
    metadata,
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("subject", sa.Text, primary_key=True),
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
)

reference: Final = sa.Table(
    "reference",
    metadata,
    sa.Column("id", _Id, primary_key=True, autoincrement=True),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("hash", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),  # offered, active, retired
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Index("reference_of_model", "model", "subject", "state"),
)

reference_record: Final = sa.Table(
    "reference_record",
    metadata,
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("subject", sa.Text, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("hash", sa.Text, nullable=False),  # as of `reference`, where the profile is as long as it is kept
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("first_ms", sa.BigInteger),
    sa.Column("last_ms", sa.BigInteger),
    sa.Column("since_ms", sa.BigInteger),  # of stream time; null: from the start, or not known
    sa.Column("until_ms", sa.BigInteger),
    sa.Column("in_force", sa.Boolean, nullable=False),
    sa.Column("origin", sa.Text, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),  # an `Origin` as JSON
    sa.Column("release", sa.Text),  # that put it in force; null: not known
    sa.Column("config", sa.Text),  # digest of the settings that it was made with; null: not known
    sa.Column("seq", sa.BigInteger, nullable=False),
)

history_layout: Final = sa.Table(
    "history_layout",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("hash", sa.Text, nullable=False, unique=True),
    sa.Column("names", sa.Text, nullable=False),  # [[feature, metric], …]
)

history: Final = sa.Table(
    "history",
    metadata,
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("version", sa.Text, primary_key=True),
    sa.Column("outcomes", sa.Boolean, primary_key=True),
    sa.Column("end_ms", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("start_ms", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("layout", sa.Integer, nullable=False),
    sa.Column("coverage", sa.Float),
    sa.Column("body", sa.LargeBinary, nullable=False),  # see `history_rows`
    sa.Index("history_by_end", "end_ms"),
)

alert: Final = sa.Table(
    "alert",
    metadata,
    sa.Column("event_id", sa.Text, primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("fingerprint", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("silenced", sa.Boolean, nullable=False),
    sa.Column("issued_at", sa.BigInteger, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Index("alert_by_fingerprint", "fingerprint", "seq"),
    sa.Index("alert_by_time", "issued_at"),
)

decision: Final = sa.Table(
    "decision",
    metadata,
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("generation", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("issued_at", sa.BigInteger, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
)

outbox: Final = sa.Table(
    "outbox",
    metadata,
    sa.Column("id", _Id, primary_key=True, autoincrement=True),
    sa.Column("kind", sa.Text, nullable=False),  # alert, decision, dead_letter
    sa.Column("key", sa.LargeBinary, nullable=False),
    sa.Column("value", sa.LargeBinary, nullable=False),
    sa.Column("headers", sa.Text, nullable=False),
    # A row is for one destination. The defaults are for rows that 0.1.0 wrote, all of which are for the stream.
    sa.Column("destination", sa.Text, nullable=False, server_default=sa.text("'stream'")),
    sa.Column("created_at", sa.BigInteger, nullable=False, server_default=sa.text("0")),  # ms, by the writer's clock
    sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("0")),  # failed ones
    sa.Column("next_at", sa.BigInteger, nullable=False, server_default=sa.text("0")),  # ms; earliest next attempt
    sa.Column("last_error", sa.Text),
    sa.Index("outbox_by_destination", "destination", "id"),
    sqlite_autoincrement=True,  # an id is never reused, even if the table was empty in between
)

command: Final = sa.Table(
    "command",
    metadata,
    sa.Column("id", _Id, primary_key=True, autoincrement=True),
    sa.Column("idempotency_key", sa.Text, unique=True),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("arguments", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("applied_seq", sa.BigInteger),
    sa.Column("result", sa.Text),
)

gap: Final = sa.Table(
    "gap",
    metadata,
    sa.Column("topic", sa.Text, primary_key=True),
    sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("from_offset", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("to_offset", sa.BigInteger, nullable=False),
    sa.Column("seq", sa.BigInteger, nullable=False),
)

attempt: Final = sa.Table(
    "attempt",
    metadata,
    sa.Column("shard", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("topic", sa.Text, primary_key=True),
    sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("position", sa.BigInteger, nullable=False),  # where reading began
    sa.Column("attempts", sa.Integer, nullable=False),  # starts from there, all but the last one without a clean end
    sa.Column("suspect", sa.BigInteger),  # the offset that was read alone, last
    sa.Column("reading", sa.Boolean, nullable=False),  # it is read now, or the process ended while it was
    sa.Column("deaths", sa.Integer, nullable=False),  # how often the process ended while it read the suspect
)

ended: Final = sa.Table(
    "ended",
    metadata,
    sa.Column("shard", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("part", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("rows", sa.Integer, nullable=False),
    sa.Column("clock", sa.BigInteger, nullable=False),  # stream time of the commit, ms
    sa.Column("requests", sa.LargeBinary, nullable=False),  # uint64, of each request; no magic number
    sa.Column("body", sa.LargeBinary, nullable=False),
)
